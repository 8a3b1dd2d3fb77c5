//! Whoever runs a cutover, or takes part in it, is lost in the middle.

use std::sync::Arc;

use segue::failpoint::FailPoint;

use crate::fleet::{AGAIN_MAX, Fleet, LIMIT, load, said};
use crate::ledger::Ledger;
use crate::support::{Server, eventually};

const FORCED: [&str; 7] =
    ["cutover", "--yes", "--max-pause", "30s", "--force", "--reason", "a test"];

/// Each place in turn, in one fleet: the member that runs the cutover ends there as by `kill -9`,
/// and another one finds it done or does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_is_lost_at_every_step() {
    lost_at_each(Fleet::in_shift(3).await, FailPoint::OF_A_CUTOVER, 2).await;
}

/// The same with a member that only takes part; the cutover goes on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_lost_at_every_step() {
    lost_at_each(Fleet::in_shift(3).await, FailPoint::OF_A_MEMBER, 0).await;
}

/// The third member is lost at each place while member `who` makes the way from the phase that the
/// fleet is in.
pub async fn lost_at_each(mut fleet: Fleet, places: &[FailPoint], who: usize) {
    let [there, back] = fleet.ways().await;
    let doomed = 2;
    // One ledger for all of it: nothing of an earlier round may be lost in a later one.
    let ledger = Arc::new(Ledger::default());
    for (generation, place) in (0..).zip(places.iter().map(|place| place.name())) {
        fleet.members[doomed].kill();
        fleet.members[doomed].serve_with(&[("SEGUE_CRASH_AT", place)]).await;
        // Clients of the members that stay.
        let clients = load(&ledger, &fleet.addresses()[..2], generation);
        clients.acknowledged(60).await;
        fleet.settled_at_all().await;
        let mut output = fleet.change(who, there.command, &[]);
        assert_eq!(output.status.success(), who != doomed, "{place}: {}", said(&output));
        for _ in 0..AGAIN_MAX {
            if who != doomed || !fleet.is_to_be_given_again(doomed) {
                break;
            }
            println!("{place}, given again: {}", said(&output));
            output = fleet.change(who, there.command, &[]);
        }
        eventually(&format!("{place}: it has crashed"), LIMIT, || async {
            (!fleet.members[doomed].is_running()).then_some(())
        })
        .await;
        fleet.members[doomed].serve().await;
        clients.acknowledged(60).await;
        let phase = fleet.phase().await;
        println!("{place}: {phase}");
        if phase == there.from {
            fleet.changed(there.command).await;
        }
        clients.acknowledged(60).await;
        assert_eq!(fleet.phase().await, back.from, "{place}");
        fleet.changed(back.command).await;
        clients.stop().await;
        ledger.no_errors(place);
        fleet.everything_agrees(&ledger).await;
    }
}

/// The source stops at each place, as by a power cut, while a cutover stands there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_is_lost_at_every_step() {
    database_lost_at_each(|fleet| &fleet.source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_is_lost_at_every_step() {
    database_lost_at_each(|fleet| &fleet.target).await;
}

async fn database_lost_at_each(which: fn(&Fleet) -> &Server) {
    let mut fleet = Fleet::in_shift(3).await;
    let ledger = Arc::new(Ledger::default());
    let places = FailPoint::OF_A_CUTOVER.iter().map(|place| place.name());
    for (generation, place) in (0..).zip(places) {
        fleet.members[2].kill();
        fleet.members[2].serve_with(&[("SEGUE_STOP_AT", place)]).await;
        let clients = load(&ledger, &fleet.addresses()[..2], generation);
        clients.acknowledged(40).await;
        fleet.settled_at_all().await;
        let running = fleet.stopped_within(2, "cutover", place).await;
        which(&fleet).stop_immediate();
        fleet.members[2].signal("CONT");
        which(&fleet).restart();
        let output = running.wait_with_output().unwrap();
        println!("{place}: {}", said(&output));
        clients.acknowledged(40).await;
        // On its own, or by running the command again.
        if fleet.phase().await == "shift" {
            fleet.until_done(&FORCED).await;
        }
        assert_eq!(fleet.phase().await, "reversed", "{place}");
        clients.acknowledged(40).await;
        fleet.until_done(&["rollback", "--yes", "--max-pause", "30s"]).await;
        clients.stop().await;
        fleet.everything_agrees(&ledger).await;
    }
}
