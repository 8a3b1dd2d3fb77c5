//! The fence of CockroachDB as a model of its own: a mark in the control row, transactions that
//! are put in some order, and clocks that nobody may trust.
//!
//! A transaction that read the row before it was changed may commit after that, as one that came
//! before the change, unless somebody who came after it has looked where it writes and not found
//! it: that is all that SERIALIZABLE promises, and all that is taken for granted here. Each action
//! names what it stands for. Whoever does nothing any more is stopped, or lost.

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

/// Broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    /// The outbox is read in a transaction that is not put in order with the others.
    UnorderedRead,
    /// A write looks at the row in a transaction that is not put in order with the others.
    UnorderedWrite,
    /// The flip goes by the epoch alone.
    FlipIgnoresMark,
    /// A writer passes a mark that is past its end, and leaves it there.
    PassedByTheClock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    /// It has read the row when that had been changed so many times.
    Looked(u8),
    Committed,
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Coordinator {
    Idle,
    Marked,
    Looked,
    Drained,
    Flipped,
    CalledOff,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// Changes of the control row.
    changes: u8,
    flipped: bool,
    /// Whose mark it is, and whether it is past its end.
    mark: Option<(usize, bool)>,
    /// The row had been changed so many times when somebody read the whole outbox.
    outbox_read: u8,
    writers: Vec<Writer>,
    /// Writes that the other side has.
    copied: Vec<bool>,
    coordinators: Vec<Coordinator>,
    /// Marks that may still come to their end.
    lapses: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    /// `cockroach::look`, in a write's transaction.
    Look(usize),
    /// `cockroach::lift_lapsed`, by who wants to write.
    LiftLapsed,
    /// COMMIT of a write, with its outbox row.
    Commit(usize),
    /// A reconcile, from its claim to its end.
    Copy(usize),
    /// Time passes, and nothing was heard of the holder.
    Lapse,
    /// `cockroach::raise`.
    Mark(usize),
    /// The look at the whole outbox in `Exclusive::acquire`.
    Read(usize),
    /// `Run::wait_until_drained`.
    Drain(usize),
    /// `Exclusive::change`.
    Flip(usize),
    /// `cockroach::lift`.
    Release(usize),
}

/// Always: what was committed before the flip, or in spite of it, is on the new primary.
const KEPT: &str = "what is acknowledged is on the primary";
const STEPS_MAX: usize = 20;

#[derive(Debug, Clone)]
struct Mark {
    writers: usize,
    coordinators: usize,
    flaw: Flaw,
}

impl Mark {
    fn may_commit(&self, state: &State, looked: u8) -> bool {
        self.flaw == Flaw::UnorderedWrite || state.outbox_read <= looked
    }

    fn is_empty(state: &State) -> bool {
        let waits = |(writer, copied): (&Writer, &bool)| *writer == Writer::Committed && !copied;
        !state.writers.iter().zip(&state.copied).any(waits)
    }

    fn read_outbox(&self, state: &mut State) {
        if self.flaw != Flaw::UnorderedRead {
            state.outbox_read = state.changes;
        }
    }
}

impl Model for Mark {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            changes: 0,
            flipped: false,
            mark: None,
            outbox_read: 0,
            writers: vec![Writer::Idle; self.writers],
            copied: vec![false; self.writers],
            coordinators: vec![Coordinator::Idle; self.coordinators],
            lapses: 2,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, writer) in state.writers.iter().enumerate() {
            actions.push(match writer {
                Writer::Idle => Action::Look(at),
                Writer::Looked(_) => Action::Commit(at),
                Writer::Committed => Action::Copy(at),
                Writer::Refused => continue,
            });
        }
        for (at, coordinator) in state.coordinators.iter().enumerate() {
            match coordinator {
                Coordinator::Idle => actions.push(Action::Mark(at)),
                Coordinator::Marked => actions.push(Action::Read(at)),
                Coordinator::Looked => actions.extend([Action::Drain(at), Action::Release(at)]),
                Coordinator::Drained => actions.extend([Action::Flip(at), Action::Release(at)]),
                Coordinator::Flipped | Coordinator::CalledOff => {}
            }
        }
        actions.extend([Action::Lapse, Action::LiftLapsed]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Look(at) => {
                let passes = match state.mark {
                    None => true,
                    Some((_, lapsed)) => lapsed && self.flaw == Flaw::PassedByTheClock,
                };
                next.writers[at] = match (state.flipped, passes) {
                    (true, _) => Writer::Refused,
                    (false, true) => Writer::Looked(state.changes),
                    // It waits.
                    (false, false) => return None,
                };
            }
            Action::LiftLapsed => {
                let (_, lapsed) = state.mark?;
                if !lapsed || self.flaw == Flaw::PassedByTheClock {
                    return None;
                }
                next.mark = None;
                next.changes += 1;
            }
            Action::Commit(at) => {
                let Writer::Looked(looked) = state.writers[at] else { return None };
                let may = self.may_commit(state, looked);
                next.writers[at] = if may { Writer::Committed } else { Writer::Refused };
            }
            Action::Copy(at) => {
                // After the flip the other side is no shadow any more.
                if state.copied[at] || state.flipped {
                    return None;
                }
                next.copied[at] = true;
            }
            Action::Lapse => {
                let (holder, false) = state.mark? else { return None };
                next.lapses = state.lapses.checked_sub(1)?;
                next.mark = Some((holder, true));
            }
            Action::Mark(at) => {
                if state.flipped || state.mark.is_some_and(|(_, lapsed)| !lapsed) {
                    return None;
                }
                next.mark = Some((at, false));
                next.changes += 1;
                next.coordinators[at] = Coordinator::Marked;
            }
            // Both see the mark in what they read, and so come after it, or say that it is lost.
            Action::Read(at) if state.mark.is_none_or(|(holder, _)| holder != at) => {
                next.coordinators[at] = Coordinator::CalledOff;
            }
            Action::Drain(at) if state.mark.is_none_or(|(holder, _)| holder != at) => {
                next.coordinators[at] = Coordinator::CalledOff;
            }
            Action::Read(at) => {
                self.read_outbox(&mut next);
                next.coordinators[at] = Coordinator::Looked;
            }
            Action::Drain(at) => {
                if !Self::is_empty(state) {
                    return None;
                }
                self.read_outbox(&mut next);
                next.coordinators[at] = Coordinator::Drained;
            }
            Action::Flip(at) => {
                let marked = state.mark.is_some_and(|(holder, _)| holder == at);
                let may = !state.flipped && (marked || self.flaw == Flaw::FlipIgnoresMark);
                next.coordinators[at] = Coordinator::CalledOff;
                if may {
                    next.flipped = true;
                    next.mark = None;
                    next.changes += 1;
                    next.coordinators[at] = Coordinator::Flipped;
                }
            }
            Action::Release(at) => {
                if state.mark.is_some_and(|(holder, _)| holder == at) {
                    next.mark = None;
                    next.changes += 1;
                }
                next.coordinators[at] = Coordinator::CalledOff;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties =
            vec![Property::<Self>::always(KEPT, |_, s| !s.flipped || Self::is_empty(s))];
        if self.flaw == Flaw::None {
            let sometimes = Property::<Self>::sometimes;
            // Were these never seen, the other would say little.
            properties.extend([
                sometimes("it flips when all has been written", |_, s| {
                    s.flipped && s.writers.iter().all(|it| *it == Writer::Committed)
                }),
                sometimes("one that has looked is refused at its commit", |_, s| {
                    !s.flipped && s.writers.contains(&Writer::Refused)
                }),
                sometimes("one that has looked commits under the mark", |_, s| {
                    let under = s.coordinators.contains(&Coordinator::Marked) && s.outbox_read == 0;
                    under && s.changes == 1 && s.writers.contains(&Writer::Committed)
                }),
                sometimes("a holder that slept is refused, and another one flips", |_, s| {
                    s.coordinators.contains(&Coordinator::CalledOff)
                        && s.coordinators.contains(&Coordinator::Flipped)
                }),
                sometimes("somebody writes after a holder has slept", |_, s| {
                    s.lapses < 2
                        && s.writers.iter().any(|it| matches!(it, Writer::Looked(at) if *at > 1))
                }),
            ]);
        }
        properties
    }
}

#[test]
fn nothing_is_lost_by_a_fence_that_is_a_mark() {
    let model = Mark { writers: 3, coordinators: 2, flaw: Flaw::None };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("a mark: {} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn a_mark_loses_writes_where_it_is_broken() {
    let flaws =
        [Flaw::UnorderedRead, Flaw::UnorderedWrite, Flaw::FlipIgnoresMark, Flaw::PassedByTheClock];
    for flaw in flaws {
        let model = Mark { writers: 2, coordinators: 1, flaw };
        let checker = model.checker().target_max_depth(STEPS_MAX).spawn_bfs().join();
        let found = checker.discovery(KEPT).map(Path::into_actions);
        assert!(found.is_some(), "{flaw:?}: {KEPT:?} holds, and must not");
        let found = found.unwrap_or_default();
        println!("{flaw:?}: after {} steps: {found:?}", found.len());
    }
}
