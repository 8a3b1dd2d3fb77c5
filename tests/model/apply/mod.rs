//! Applying whole snapshots while reads are shifted, as a model: two accounts, transfers of both
//! rows in one transaction, appliers that may be stopped or lost anywhere, a late reconcile of a
//! key, a key that does not go in, and a member that reads the target.
//!
//! - [`state`]: what there is
//! - [`step`]: what can happen, and what comes of it

mod state;
mod step;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use crate::apply::state::{Applier, Control, Flaw, Late, Scenario, Stage, State};
use crate::apply::step::Action;

/// A counterexample that is longer is not looked for.
const STEPS_MAX: usize = 30;

/// Always: whoever reads the target by the control row that it knows sees a state that the primary
/// had.
const READS: &str = "a read sees a state that the primary had";
/// Always: a row that differs has an outbox row that is not forgotten, or a batch that forgets it
/// has committed it.
const KNOWN: &str = "what differs is in the outbox";

struct Exploration(Scenario);

impl Model for Exploration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let control = Control { version: 1, shift: false, off: None };
        let applier = Applier { stage: Stage::Idle, leave: None, open: false };
        vec![State {
            history: vec![[0, 0]],
            target: [0, 0],
            outbox: Vec::new(),
            control,
            known: control,
            appliers: vec![applier; self.0.appliers],
            late: Late::Idle,
            stuck: self.0.stuck,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.0.enabled(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        self.0.step(state, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(READS, |_, s: &State| {
                !s.known.reads() || s.history.contains(&s.target)
            }),
            Property::always(KNOWN, |_, s: &State| {
                let waits = |key| s.outbox.iter().any(|it| it.key == key && !it.forgotten);
                (0..2).all(|key| s.target[key] == s.primary()[key] || waits(key))
            }),
            // Were these never seen, the others would say little.
            Property::sometimes("reads are on, and all is written", |model, s: &State| {
                s.known.reads()
                    && s.history.len() > usize::from(model.0.writes)
                    && s.target == s.primary()
            }),
            Property::sometimes("reads were put off", |model, s: &State| {
                !model.0.stuck || s.control.off.is_some_and(|by| by.is_some())
            }),
            Property::sometimes("the target is no state of the primary", |model, s: &State| {
                !model.0.stuck || !s.history.contains(&s.target)
            }),
        ]
    }
}

fn holds(scenario: Scenario) {
    let begun = Instant::now();
    let name = format!("{scenario:?}");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let checker = Exploration(scenario)
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .target_max_depth(STEPS_MAX)
        .spawn_bfs()
        .join();
    println!(
        "apply, {name}: {} states, {} transitions, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

fn fails(flaw: Flaw, property: &'static str) {
    let stuck = matches!(flaw, Flaw::StepsAtOnce | Flaw::LetOnWhatever | Flaw::StuckKeyLeftOut);
    let late = flaw == Flaw::KeysOverlap;
    let scenario = Scenario { stuck, late, flaw, ..small() };
    let checker = Exploration(scenario)
        .checker()
        .finish_when(HasDiscoveries::AllOf([property].into_iter().collect()))
        .target_max_depth(STEPS_MAX)
        .spawn_bfs()
        .join();
    let Some(actions) = checker.discovery(property).map(Path::into_actions) else {
        panic!("{flaw:?}: {property:?} holds, though it must not");
    };
    println!("{flaw:?}: not {property:?}, after {} steps: {actions:?}", actions.len());
}

fn small() -> Scenario {
    Scenario { appliers: 2, writes: 2, stuck: false, late: false, flaw: Flaw::None }
}

#[test]
fn no_shifted_read_sees_a_state_that_the_primary_never_had() {
    holds(Scenario { late: true, ..small() });
    holds(Scenario { stuck: true, ..small() });
}

#[test]
fn rows_read_outside_the_snapshot_are_found_out() {
    fails(Flaw::RowsOutsideTheSnapshot, READS);
}

#[test]
fn a_snapshot_before_the_turn_is_found_out() {
    fails(Flaw::SnapshotBeforeTheTurn, KNOWN);
}

#[test]
fn forgetting_rows_that_were_not_in_the_snapshot_is_found_out() {
    fails(Flaw::ForgetMore, KNOWN);
}

#[test]
fn two_appliers_without_a_turn_are_found_out() {
    fails(Flaw::NoTurn, READS);
}

#[test]
fn keys_that_are_written_beside_the_applier_are_found_out() {
    fails(Flaw::KeysOverlap, READS);
}

#[test]
fn steps_before_every_member_has_taken_that_reads_are_off_are_found_out() {
    fails(Flaw::StepsAtOnce, READS);
}

#[test]
fn reads_let_on_whatever_has_changed_are_found_out() {
    fails(Flaw::LetOnWhatever, READS);
}

#[test]
fn a_stuck_key_that_is_left_out_of_its_batch_is_found_out() {
    fails(Flaw::StuckKeyLeftOut, READS);
}
