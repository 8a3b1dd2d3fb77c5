//! Backfill beside reconcile as a model: one chunk of a table whose rows are on the primary
//! only, workers that copy it, members that reconcile, and an application that goes on writing.
//!
//! What reconcile runs into on the shadow is the other model's matter. Here it commits what it
//! read in one step, and waits where the chunk's open transaction has written its rows.
//!
//! - [`state`]: what there is
//! - [`step`]: what can happen, each action by the name of its function, and what comes of it
//! - [`check`]: what must hold

mod check;
mod state;
mod step;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::backfill::check::{DONE_IS_DONE, EQUAL_AT_REST, Exploration};
use crate::backfill::state::{Flaw, Scenario};

/// A counterexample that is longer is not looked for.
const STEPS_MAX: usize = 40;

fn holds(name: &str, scenario: &Scenario) {
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let checker = Exploration::new(scenario.clone(), None)
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{name}, {} workers, {} members, {} writes, {} claims: {} states, {} transitions, {:.1} s",
        scenario.workers,
        scenario.members,
        scenario.writes,
        scenario.claims,
        checker.unique_state_count(),
        checker.state_count(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

fn fails(flaw: Flaw, property: &'static str) {
    let scenario = Scenario::small().with(flaw);
    let model = Exploration::new(scenario, Some(property));
    let checker = model.checker().target_max_depth(STEPS_MAX).spawn_bfs().join();
    let found = checker.discovery(property).map(Path::into_actions);
    let Some(actions) = found else {
        panic!("{flaw:?}: {property:?} holds, though it must not");
    };
    println!("{flaw:?}: not {property:?}, after {} steps: {actions:?}", actions.len());
}

#[test]
fn the_copy_ends_equal() {
    holds("backfill", &Scenario::small());
    if std::env::var("SEGUE_MODEL").is_ok_and(|size| size == "large") {
        holds("backfill", &Scenario { writes: 3, ..Scenario::small() });
        holds("backfill", &Scenario { claims: 3, ..Scenario::small() });
        holds("backfill", &Scenario { members: 2, ..Scenario::small() });
    }
}

#[test]
fn a_chunk_that_is_not_checked_again_is_found_out() {
    fails(Flaw::NoRecheck, EQUAL_AT_REST);
    fails(Flaw::NoRecheck, DONE_IS_DONE);
}

#[test]
fn rows_read_before_their_keys_are_locked_are_found_out() {
    fails(Flaw::ReadBeforeLock, EQUAL_AT_REST);
}

#[test]
fn notes_kept_for_a_chunk_that_is_begun_again_are_found_out() {
    fails(Flaw::NotesKept, EQUAL_AT_REST);
    fails(Flaw::NotesKept, DONE_IS_DONE);
}

#[test]
fn a_chunk_written_without_its_generation_is_found_out() {
    fails(Flaw::NoGeneration, EQUAL_AT_REST);
}

#[test]
fn a_generation_that_is_looked_at_but_not_locked_is_found_out() {
    fails(Flaw::GenerationNotLocked, EQUAL_AT_REST);
}

#[test]
fn a_check_that_passes_over_what_is_forgotten_is_found_out() {
    fails(Flaw::ForgottenPassedOver, EQUAL_AT_REST);
}
