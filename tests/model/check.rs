//! The model as `stateright` takes it, and what must hold of it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use stateright::{Model, Property};

use crate::action::Action;
use crate::scenario::Scenario;
use crate::shadow::{self, Applied};
use crate::state::{Entry, Image, Member, RANGES, State, Step, Writer, stands_for};

/// When nothing is under way and the outbox is empty, both sides are equal.
pub(crate) const EQUAL_AT_REST: &str = "equal at rest";
/// Always: a row that differs has an outbox row that is not forgotten.
pub(crate) const NOTHING_LOST: &str = "what differs is in the outbox";
/// Always: an outbox row is forgotten only when the shadow has that write, or a later one.
pub(crate) const FORGOTTEN_IS_DONE: &str = "what is forgotten is done";
/// Always: the last committed write to each row has its outbox row.
pub(crate) const CAPTURED: &str = "what is committed is captured";
/// Always: no commit on the shadow puts an older state over a newer one.
pub(crate) const FORWARD: &str = "the shadow never goes back";
/// Always: the shadow's constraints hold.
pub(crate) const CONSTRAINTS: &str = "the shadow's constraints hold";
/// Always: if writes and faults end now, the members come to rest.
pub(crate) const COMES_TO_REST: &str = "comes to rest";

/// Steps within which the model must be at rest once writes and faults have ended.
const STEPS_TO_REST: usize = 200;

/// A scenario that is explored.
#[derive(Debug, Clone)]
pub(crate) struct Exploration {
    /// What is modelled.
    pub(crate) scenario: Scenario,
    /// The only property to be judged, or all.
    pub(crate) only: Option<&'static str>,
    /// Hashes of states of which it is known that they come to rest.
    rested: Arc<Mutex<HashSet<u64>>>,
}

// === impl Exploration ===

impl Exploration {
    /// Of all properties, or of one.
    pub(crate) fn new(scenario: Scenario, only: Option<&'static str>) -> Self {
        Self { scenario, only, rested: Arc::default() }
    }

    fn known(&self, hash: u64) -> bool {
        self.rested.lock().is_ok_and(|rested| rested.contains(&hash))
    }

    fn note(&self, course: Vec<u64>) {
        if let Ok(mut rested) = self.rested.lock() {
            rested.extend(course);
        }
    }

    /// Follows one fair course without faults: members in turn, a deadlock broken as
    /// PostgreSQL breaks it. It ends at rest, or in a state that was followed before.
    fn comes_to_rest(&self, state: &State) -> bool {
        let mut state = state.clone();
        let mut course = Vec::new();
        let mut actions = Vec::new();
        for _ in 0..STEPS_TO_REST {
            let hash = hash(&state);
            if state.at_rest() || self.known(hash) {
                self.note(course);
                return true;
            }
            course.push(hash);
            actions.clear();
            self.scenario.enabled(&state, &mut actions);
            let forward = actions.iter().rfind(|action| action.goes_forward());
            let again = || actions.iter().find(|action| matches!(action, Action::Again(_)));
            match forward.or_else(again).and_then(|action| self.scenario.step(&state, *action)) {
                Some(next) => state = next,
                None => return false,
            }
        }
        false
    }
}

fn hash(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let image = Image { rows: self.scenario.rows, ..Image::default() };
        vec![State {
            primary: image,
            shadow: image,
            outbox: Vec::new(),
            writers: vec![Writer::Idle; self.scenario.writers],
            writes: 0,
            folds: 0,
            fold_open: false,
            members: vec![Member::default(); self.scenario.members],
            went_back: false,
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
            always(EQUAL_AT_REST, |_, s| !s.at_rest() || s.shadow.rows == s.primary.rows),
            always(NOTHING_LOST, |_, s| nothing_lost(s)),
            always(FORGOTTEN_IS_DONE, |_, s| forgotten_is_done(s)),
            always(CAPTURED, |_, s| captured(s)),
            always(FORWARD, |_, s| !s.went_back),
            always(CONSTRAINTS, |model, s| model.scenario.holds(&s.shadow.rows)),
            always(COMES_TO_REST, Self::comes_to_rest),
            // Were these never seen, the others would say little.
            sometimes("all is written and at rest", |model, s| {
                s.writes == model.scenario.writes && s.at_rest()
            }),
            sometimes("all members work at once", |_, s| {
                s.members.iter().all(|member| member.step >= Step::Read)
            }),
        ];
        if self.scenario.folds > 0 {
            properties.extend([
                sometimes("keys are folded while a claim is open", |_, s| {
                    s.folds > 0 && s.members.iter().any(|m| m.claims != 0 && m.rest == 0)
                }),
                sometimes("a pass is under way when its table is written to", |_, s| {
                    s.members.iter().any(|m| m.rest != 0)
                        && s.outbox.last().is_some_and(|e| stands_for(e.key).is_none())
                }),
            ]);
        }
        if self.scenario.ranges && self.scenario.members > 1 {
            properties.extend([
                sometimes("two ranges are gone through at once", |_, s| {
                    let passes = |m: &&Member| {
                        let mut claimed = (0..16).filter(|at| m.claims & (1 << at) != 0);
                        claimed.any(|at| RANGES.contains(&s.outbox[at].key))
                    };
                    s.members.iter().filter(passes).count() > 1
                }),
                sometimes("a range is under way when another is folded into the table", |_, s| {
                    s.members.iter().any(|m| m.claims != 0)
                        && s.outbox.iter().any(|e| RANGES.contains(&e.key) && e.folded)
                }),
            ]);
        }
        if self.scenario.constrained {
            properties.extend([
                sometimes("a set grows", |_, s| s.members.iter().any(|m| m.extra != 0)),
                sometimes("a statement waits for another member", |model, s| {
                    let waits = |who| shadow::apply(&model.scenario, s, who) == Applied::Waits;
                    let ready =
                        |who: &usize| matches!(s.members[*who].step, Step::Read | Step::Planned);
                    (0..s.members.len()).filter(ready).any(waits)
                }),
            ]);
        }
        properties.retain(|property| self.only.is_none_or(|only| only == property.name));
        properties
    }
}

fn nothing_lost(state: &State) -> bool {
    (0u8..).zip(state.shadow.rows.iter().zip(&state.primary.rows)).all(
        |(key, (shadow, primary))| {
            let waiting = || state.outbox.iter().any(|entry| entry.covers(key) && entry.waits());
            shadow == primary || waiting()
        },
    )
}

fn forgotten_is_done(state: &State) -> bool {
    let done = |key: u8| state.shadow.versions[usize::from(key)];
    let stands = |entry: &Entry| stands_for(entry.key).is_some();
    state.outbox.iter().enumerate().all(|(at, entry)| {
        // What is folded is done when a row that came after it, and stands for it, is.
        let mut later = state.outbox[at..].iter().filter(|it| stands(it) && it.covers(entry.key));
        let is_done = entry.forgotten || entry.folded && later.any(|it| it.forgotten);
        stands(entry) || !is_done || done(entry.key) >= entry.version
    })
}

fn captured(state: &State) -> bool {
    (0u8..).zip(state.primary.versions).all(|(key, version)| {
        version == 0
            || state.outbox.iter().any(|entry| entry.key == key && entry.version == version)
    })
}
