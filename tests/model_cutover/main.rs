//! Control, fence and flip as a model, of which every interleaving is explored:
//! `docs/explanation/correctness.md` says what is claimed.
//!
//! - [`state`]: what there is
//! - [`reader`]: a member that reads
//! - [`step`]: what can happen, what comes of it, and what may be broken on purpose
//!
//! Every actor may be stopped anywhere: then others go on. A member's knowledge of the control
//! row is what its session's epoch is; the row may have changed before anything comes of it, so
//! that messages are as late as can be. Nobody has to hold anything back for a pause: what is
//! safe here is safe whether a member was told of it or not.
//!
//! `SEGUE_MODEL=large cargo test --release --test model_cutover -- --nocapture` explores more.

#![allow(clippy::print_stdout, reason = "figures and counterexamples are shown with --nocapture")]

mod mark;
mod reader;
mod state;
mod step;

use std::collections::BTreeSet;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use reader::Reader;
use state::{Control, Database, Outsider, SOURCE, State, TARGET};
use step::{Action, Flaw, Scenario};

/// Always: what was committed is on the side that is the primary.
const KEPT: &str = "what is acknowledged is on the primary";
/// Always: what the shadow lacks waits in the primary's outbox.
const FOLLOWS: &str = "what the shadow lacks is in the outbox";
/// Always: never may a write be committed on either side.
const ONE: &str = "one database accepts writes";

/// At rest, when nothing but the flip is left to follow: somebody takes up the new primary, or can
/// still.
const TAKEN_UP: &str = "a stopped promoter holds nobody up";

/// Always: an answer has what was acknowledged anywhere before it was asked for.
const READ: &str = "no read misses what was acknowledged before it";

/// A counterexample that is longer is not looked for.
const STEPS_MAX: usize = 30;

#[derive(Debug, Clone)]
struct Exploration {
    scenario: Scenario,
    only: Option<&'static str>,
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let control = Control { epoch: 1, primary: SOURCE };
        let database = Database { control, noted: 0, data: 0, outbox: 0 };
        let reader = self.scenario.reads.then(|| Reader::new(control));
        vec![State {
            databases: [database; 2],
            sessions: vec![None; self.scenario.sessions],
            copies: vec![None; self.scenario.copies],
            outsider: Outsider::Idle,
            coordinator: None,
            promoter: None,
            reader,
            moved: 0,
            writes: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.scenario.enabled(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.scenario.step(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let always = Property::<Self>::always;
        let sometimes = Property::<Self>::sometimes;
        let mut properties = vec![
            always(KEPT, |_, s| lacks(s, s.counts().primary) == 0),
            always(FOLLOWS, |_, s| {
                let primary = s.counts().primary;
                lacks(s, 1 - primary) & !s.on(primary).outbox == 0
            }),
            always(ONE, |_, s| !(s.accepts(SOURCE) && s.accepts(TARGET))),
            always(TAKEN_UP, |model, s| {
                let stopped = s.promoter.is_some_and(|it| it.stopped);
                !stopped || can_be_taken_up(model, s)
            }),
            always(READ, |_, s| !s.reader.is_some_and(|it| it.was_stale)),
            // Were these never seen, the others would say little.
            sometimes("the target takes a write", |_, s| s.on(TARGET).outbox != 0),
            sometimes("the source is primary again, and has what the target took", |model, s| {
                let back = s.on(SOURCE).control;
                back.epoch >= 3 && back.primary == SOURCE && s.writes == model.scenario.writes
            }),
            sometimes("a writer round segue is refused", |model, s| {
                model.scenario.reads || s.outsider == Outsider::Refused
            }),
            sometimes("a session of an older epoch is in the way", |_, s| {
                let fenced = s.coordinator.filter(|it| it.fenced);
                fenced.is_some_and(|it| {
                    s.sessions.iter().flatten().any(|session| session.epoch < it.from.epoch)
                })
            }),
            sometimes("a member reads that has not heard of a flip", |model, s| {
                let late = |it: Reader| it.asked.is_some() && it.known.epoch < s.counts().epoch;
                !model.scenario.reads || s.reader.is_some_and(late)
            }),
        ];
        properties.retain(|property| self.only.is_none_or(|only| only == property.name));
        properties
    }
}

/// Whether by steps of others alone, whatever they are, the primary that counts gets to be named by
/// its own row: what its writers wait for.
fn can_be_taken_up(model: &Exploration, from: &State) -> bool {
    let taken_up = |state: &State| state.on(state.counts().primary).control == state.counts();
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(state) = open.pop() {
        if taken_up(&state) {
            return true;
        }
        let mut actions = Vec::new();
        model.scenario.enabled(&state, &mut actions);
        // Only the steps that bear on it: who is in the way may go, and who is not may act.
        actions.retain(|action| {
            matches!(
                action,
                Action::Promote(_)
                    | Action::BringUp
                    | Action::EndPromoter
                    | Action::DropCopy(_)
                    | Action::EndReads
                    | Action::ReadersMoved(_)
            )
        });
        for action in actions {
            let Some(next) = model.scenario.step(&state, action) else { continue };
            let readers = (next.reader.map(|it| it.session), next.moved);
            let shown = (&next.databases, next.promoter, &next.copies, readers);
            if seen.insert(format!("{shown:?}")) {
                open.push(next);
            }
        }
    }
    false
}

/// Committed writes that a side has not.
fn lacks(state: &State, side: u8) -> u8 {
    ((1 << state.writes) - 1) & !state.on(side).data
}

fn sound(sessions: usize, copies: usize, writes: u8, changes: u8) -> Scenario {
    Scenario { sessions, copies, writes, reads: false, changes, flaw: Flaw::None }
}

/// The same with a member that reads.
fn read(sessions: usize, copies: usize, writes: u8, changes: u8) -> Scenario {
    Scenario { reads: true, ..sound(sessions, copies, writes, changes) }
}

/// Explores all of a scenario; every property must hold.
fn holds(scenario: Scenario) {
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let Scenario { sessions, copies, writes, reads, changes, .. } = scenario;
    let checker = Exploration { scenario, only: None }
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{sessions} sessions, {copies} reconciles, {writes} writes, {changes} changes, reads {reads}: {} states, {} transitions, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// A counterexample must be found, and is shown.
fn fails(flaw: Flaw, properties: &[&'static str]) {
    // One reconcile sleeps, and another does what is due meanwhile.
    let copies = if flaw == Flaw::NoFenceForReconciles { 2 } else { 1 };
    fails_in(&Scenario { flaw, ..sound(2, copies, 2, 2) }, properties);
}

/// The same of a member that reads.
fn misreads(flaw: Flaw) {
    fails_in(&Scenario { flaw, ..read(1, 1, 1, 2) }, &[READ]);
}

fn fails_in(scenario: &Scenario, properties: &[&'static str]) {
    let flaw = scenario.flaw;
    for property in properties {
        let scenario = scenario.clone();
        let model = Exploration { scenario, only: Some(property) };
        let checker = model.checker().target_max_depth(STEPS_MAX).spawn_bfs().join();
        let found = checker.discovery(property).map(Path::into_actions);
        assert!(found.is_some(), "{flaw:?}: {property:?} holds, and must not");
        let found = found.unwrap_or_default();
        println!("{flaw:?}: not {property:?}, after {} steps: {found:?}", found.len());
    }
}

#[test]
fn one_primary_and_nothing_lost() {
    holds(sound(2, 1, 2, 2));
    holds(sound(1, 2, 2, 2));
    if std::env::var("SEGUE_MODEL").is_ok_and(|size| size == "large") {
        holds(sound(2, 2, 2, 2));
        holds(sound(2, 2, 3, 3));
    }
}

#[test]
fn without_the_fence_two_databases_take_writes() {
    fails(Flaw::NoFence, &[ONE, KEPT]);
}

#[test]
fn an_outbox_seen_empty_before_the_fence_proves_nothing() {
    fails(Flaw::DrainBeforeFence, &[KEPT]);
}

#[test]
fn a_flip_on_another_connection_outlives_its_fence() {
    fails(Flaw::FlipElsewhere, &[ONE, KEPT]);
}

#[test]
fn a_flip_that_compares_nothing_passes_over_a_newer_epoch() {
    fails(Flaw::FlipBlindly, &[ONE, KEPT]);
}

#[test]
fn members_that_do_not_report_still_write() {
    fails(Flaw::SettledByReports, &[ONE, KEPT]);
}

#[test]
fn an_epoch_looked_at_before_the_lock_is_an_old_one() {
    fails(Flaw::CheckBeforeLock, &[ONE, KEPT]);
}

#[test]
fn a_trigger_that_reads_an_old_snapshot_lets_writes_through() {
    fails(Flaw::StaleSnapshot, &[ONE, KEPT]);
}

#[test]
fn a_reconcile_that_sleeps_through_the_flip_undoes_a_write() {
    fails(Flaw::NoFenceForReconciles, &[KEPT]);
}

#[test]
fn a_stopped_promoter_whose_lock_stays_stops_all_writes() {
    fails(Flaw::StoppedPromoterStays, &[TAKEN_UP]);
}

#[test]
fn a_sequence_that_is_set_after_the_flip_lets_old_snapshots_through() {
    fails(Flaw::NotedLate, &[ONE, KEPT]);
}

#[test]
fn nobody_answers_from_the_old_primary_once_the_new_one_has_acknowledged() {
    holds(read(1, 1, 1, 2));
}

#[test]
fn a_reader_without_a_lease_is_missed_by_who_waits_for_leases() {
    misreads(Flaw::ReadersByLease);
}

#[test]
fn a_session_for_reads_that_does_not_look_reads_the_old_primary() {
    misreads(Flaw::ReadsDoNotLook);
}

#[test]
fn a_session_for_reads_that_looks_before_it_shows_itself_is_missed() {
    misreads(Flaw::ReadsLookBeforeLock);
}

#[test]
fn a_read_that_is_judged_by_what_its_member_has_heard_since_is_late() {
    misreads(Flaw::ReadsJudgedByThePresent);
}
