//! Capture, reconcile, replay and forgetting as a model, of which every interleaving is
//! explored: `docs/explanation/correctness.md` says what is claimed.
//!
//! - [`state`]: what there is
//! - [`scenario`]: rows, writes, and what may be broken on purpose
//! - [`action`]: what can happen; each action names the function that it stands for
//! - [`step`]: when it can, and what comes of it
//! - [`shadow`]: planning, constraints, what stands in the way
//! - [`check`]: what must hold
//! - [`names`]: that actions and functions name each other
//! - [`backfill`]: the same for the copy of what was there before
//! - [`apply`]: whole snapshots of the primary, while reads are shifted
//!
//! `SEGUE_MODEL=large cargo test --release --test model -- --nocapture` explores more.

#![allow(
    clippy::print_stdout,
    clippy::panic,
    reason = "figures and counterexamples are shown with --nocapture"
)]

mod action;
mod apply;
mod backfill;
mod check;
mod names;
mod scenario;
mod shadow;
mod state;
mod step;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use check::{CAPTURED, EQUAL_AT_REST, Exploration, FORGOTTEN_IS_DONE, FORWARD, NOTHING_LOST};
use scenario::{Flaw, Scenario};

/// A counterexample that is longer is not looked for.
const STEPS_MAX: usize = 40;

/// Explores all of a scenario; every property must hold.
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
        "{name}, {} members, {} writes: {} states, {} transitions, {:.1} s",
        scenario.members,
        scenario.writes,
        checker.unique_state_count(),
        checker.state_count(),
        begun.elapsed().as_secs_f64()
    );
    checker.assert_properties();
}

/// A counterexample must be found. The shortest is printed: what is found first is made
/// shorter as long as that goes. Members and writers are numbered anew in every state.
fn fails(name: &str, scenario: &Scenario, property: &'static str) {
    let model = Exploration::new(scenario.clone(), Some(property));
    let within = |depth: usize| {
        let checker = model.clone().checker().target_max_depth(depth);
        checker.spawn_bfs().join().discovery(property).map(Path::into_actions)
    };
    let mut found = within(STEPS_MAX);
    assert!(found.is_some(), "{name}: {property:?} holds, though it must not");
    while let Some(actions) = found {
        found = within(actions.len()).filter(|shorter| shorter.len() < actions.len());
        if found.is_none() {
            println!("{name}: not {property:?}, after {} steps: {actions:?}", actions.len());
        }
    }
}

/// Explores the small configurations, and by `SEGUE_MODEL=large` larger ones too.
fn explore(name: &str, small: &[Scenario], larger: &[Scenario]) {
    let large = std::env::var("SEGUE_MODEL").is_ok_and(|size| size == "large");
    for scenario in small.iter().chain(larger.iter().filter(|_| large)) {
        holds(name, scenario);
    }
}

#[test]
fn rows_converge() {
    let three = Scenario { members: 3, ..Scenario::plain(2) };
    explore("plain", &[Scenario::plain(2), three], &[Scenario::plain(3)]);
}

#[test]
fn unique_values_converge() {
    let three = Scenario { members: 3, ..Scenario::unique(2) };
    explore("unique", &[Scenario::unique(2)], &[Scenario::unique(3), three]);
}

#[test]
fn parents_and_children_converge() {
    let three = Scenario { members: 3, ..Scenario::parents(2) };
    explore("parents", &[Scenario::parents(2)], &[Scenario::parents(3), three]);
}

#[test]
fn keys_folded_into_their_table_converge() {
    explore(
        "folding",
        &[Scenario::folding(1, 2)],
        &[Scenario::folding(2, 2), Scenario::folding(1, 3)],
    );
}

#[test]
fn keys_folded_into_ranges_and_these_into_their_table_converge() {
    explore(
        "ranges",
        &[Scenario::ranges(2, 2), Scenario::wide_range()],
        &[Scenario::ranges(3, 2), Scenario::ranges(2, 3)],
    );
}

#[test]
fn ranges_folded_into_a_row_that_somebody_has_claimed_are_found_out() {
    let scenario = Scenario::ranges(4, 2).with(Flaw::CoarsenIntoOld);
    fails("coarsen into an old row", &scenario, NOTHING_LOST);
}

#[test]
fn a_pass_that_leaves_out_a_key_of_its_range_is_found_out() {
    let scenario = Scenario::wide_range().with(Flaw::RangeTooNarrow);
    fails("a range too narrow", &scenario, EQUAL_AT_REST);
    fails("a range too narrow", &scenario, NOTHING_LOST);
}

#[test]
fn folding_in_two_transactions_is_found_out() {
    let scenario = Scenario::folding(1, 1).with(Flaw::FoldApart);
    fails("fold apart", &scenario, EQUAL_AT_REST);
    fails("fold apart", &scenario, NOTHING_LOST);
}

#[test]
fn folding_into_a_row_that_somebody_has_claimed_is_found_out() {
    let scenario = Scenario::folding(2, 2).with(Flaw::FoldIntoOld);
    fails("fold into an old row", &scenario, NOTHING_LOST);
    fails("fold into an old row", &scenario, EQUAL_AT_REST);
}

#[test]
fn reading_before_locking_is_found_out() {
    let flaw = Flaw::ReadBeforeLock;
    fails("read before lock", &Scenario::plain(2).with(flaw), EQUAL_AT_REST);
    fails("read before lock", &Scenario::plain(2).with(flaw), FORWARD);
}

#[test]
fn forgetting_before_the_shadows_commit_is_found_out() {
    let flaw = Flaw::ForgetBeforeCommit;
    fails("forget before commit", &Scenario::plain(2).with(flaw), EQUAL_AT_REST);
    fails("forget before commit", &Scenario::plain(2).with(flaw), FORGOTTEN_IS_DONE);
}

#[test]
fn forgetting_more_than_was_claimed_is_found_out() {
    let flaw = Flaw::ForgetWholeKey;
    fails("forget the whole key", &Scenario::plain(2).with(flaw), EQUAL_AT_REST);
    fails("forget the whole key", &Scenario::plain(2).with(flaw), FORGOTTEN_IS_DONE);
}

#[test]
fn capture_in_a_second_transaction_is_found_out() {
    let flaw = Flaw::CaptureApart;
    fails("capture apart", &Scenario::plain(2).with(flaw), EQUAL_AT_REST);
    fails("capture apart", &Scenario::plain(2).with(flaw), CAPTURED);
}

#[test]
fn a_holder_taken_in_without_its_lock_is_found_out() {
    let flaw = Flaw::ExtraWithoutLock;
    let mut scenario = Scenario::unique(2).with(flaw);
    // A swap, and a new value for one of its rows, are enough.
    scenario.menu.truncate(2);
    fails("holder without its lock", &scenario, FORWARD);
    fails("holder without its lock", &scenario, EQUAL_AT_REST);
}
