//! What must hold while a chunk is copied.

use stateright::{Model, Property};

use crate::backfill::state::{Chunk, Member, Scenario, Stage, State, Worker};
use crate::backfill::step::Action;
use crate::state::{Image, Rows, Writer};

/// When the chunk is done, nothing is under way and the outbox is empty, both sides are equal.
pub(crate) const EQUAL_AT_REST: &str = "equal at rest";
/// Always: once the chunk is done, a row that differs has an outbox row that is not forgotten.
pub(crate) const DONE_IS_DONE: &str = "what differs after the chunk is in the outbox";

/// A scenario that is explored.
#[derive(Debug, Clone)]
pub(crate) struct Exploration {
    scenario: Scenario,
    only: Option<&'static str>,
}

// === impl Exploration ===

impl Exploration {
    /// Of all properties, or of one.
    pub(crate) fn new(scenario: Scenario, only: Option<&'static str>) -> Self {
        Self { scenario, only }
    }
}

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            primary: Image { rows: self.scenario.rows, ..Image::default() },
            shadow: Rows::default(),
            outbox: Vec::new(),
            writers: vec![Writer::Idle; self.scenario.writers],
            writes: 0,
            members: vec![Member::default(); self.scenario.members],
            workers: vec![Worker::default(); self.scenario.workers],
            chunk: Chunk::default(),
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
            always(EQUAL_AT_REST, |_, s| !s.at_rest() || s.shadow == s.primary.rows),
            always(DONE_IS_DONE, |_, s| !s.chunk.done || nothing_lost(s)),
            // Were these never seen, the others would say little.
            sometimes("all is written, copied and at rest", |model, s| {
                s.writes == model.scenario.writes && s.at_rest()
            }),
            sometimes("the chunk is begun again", |_, s| {
                s.workers.iter().any(|worker| worker.generation > 1 && worker.stage >= Stage::Read)
            }),
            sometimes("a worker sleeps while another has its chunk", |_, s| {
                s.workers.iter().filter(|worker| worker.stage >= Stage::Read).count() > 1
            }),
            sometimes("the copy brings a deleted row back", |_, s| {
                let back = |key: &u8| {
                    let key = usize::from(*key);
                    s.shadow[key].is_some() && s.primary.rows[key].is_none()
                };
                s.workers.iter().any(|worker| worker.stage == Stage::Committed)
                    && s.outbox.iter().all(|entry| entry.forgotten)
                    && (0..2).any(|key| back(&key))
            }),
        ];
        properties.retain(|property| self.only.is_none_or(|only| only == property.name));
        properties
    }
}

fn nothing_lost(state: &State) -> bool {
    (0u8..).zip(state.shadow.iter().zip(&state.primary.rows)).all(|(key, (shadow, primary))| {
        let waiting = || state.outbox.iter().any(|entry| entry.key == key && !entry.forgotten);
        shadow == primary || waiting()
    })
}
