//! Whoever runs a cutover, or takes part in it, is lost in the middle.

use std::sync::Arc;

use segue::app::cutover::{CRASH_POINTS, MEMBER_CRASH_POINTS};

use crate::fleet::{Fleet, LIMIT, load, said};
use crate::ledger::{Ledger, Load};
use crate::support::eventually;

/// What must hold afterwards, on its own or by running the command again.
async fn all_is_well(fleet: &Fleet, clients: Load, ledger: &Ledger) {
    clients.acknowledged(100).await;
    let phase = fleet.phase().await;
    if phase == "shift" {
        fleet.changed("cutover").await;
    }
    assert_eq!(fleet.phase().await, "reversed");
    clients.acknowledged(100).await;
    fleet.changed("rollback").await;
    clients.acknowledged(100).await;
    clients.stop().await;
    fleet.everything_agrees(ledger).await;
}

/// Each place in turn, in one fleet: the member that runs the cutover ends there as by `kill -9`,
/// and another one finds it done or does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinator_is_lost_at_every_step() {
    lost_at_each(&CRASH_POINTS, 2).await;
}

/// The same with a member that only takes part; the cutover goes on without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_lost_at_every_step() {
    lost_at_each(&MEMBER_CRASH_POINTS, 0).await;
}

/// The third member is lost at each place while member `who` runs the cutover.
async fn lost_at_each(places: &[&str], who: usize) {
    let mut fleet = Fleet::in_shift(3).await;
    let doomed = 2;
    // One ledger for all of it: nothing of an earlier round may be lost in a later one.
    let ledger = Arc::new(Ledger::default());
    for (generation, place) in (0..).zip(places) {
        fleet.members[doomed].kill();
        fleet.members[doomed].serve_with(&[("SEGUE_CRASH_AT", place)]).await;
        // Clients of the members that stay.
        let clients = load(&ledger, &fleet.addresses()[..2], generation);
        clients.acknowledged(60).await;
        fleet.settled_at_all().await;
        let output = fleet.change(who, "cutover", &[]);
        assert_eq!(output.status.success(), who != doomed, "{place}: {}", said(&output));
        eventually(&format!("{place}: it has crashed"), LIMIT, || async {
            (!fleet.members[doomed].is_running()).then_some(())
        })
        .await;
        fleet.members[doomed].serve().await;
        clients.acknowledged(60).await;
        let phase = fleet.phase().await;
        println!("{place}: {phase}");
        if phase == "shift" {
            fleet.changed("cutover").await;
        }
        clients.acknowledged(60).await;
        assert_eq!(fleet.phase().await, "reversed", "{place}");
        fleet.changed("rollback").await;
        clients.stop().await;
        ledger.no_errors(place);
        fleet.everything_agrees(&ledger).await;
    }
}

/// Either database stops while writes are held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_lost_in_the_middle() {
    let fleet = Fleet::in_shift(3).await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(100).await;
    for lost_target in [true, false] {
        let server = if lost_target { &fleet.target } else { &fleet.source };
        let log = fleet.members[0].logs().len();
        fleet.settled_at_all().await;
        let running = fleet.members[0].start_piped(&[
            "cutover",
            "--yes",
            "--force",
            "--reason",
            "a test",
            "--max-pause",
            "5s",
        ]);
        eventually("writes are held", LIMIT, || async {
            fleet.members[0].logs()[log..].contains("step=\"pause\"").then_some(())
        })
        .await;
        server.stop_immediate();
        let output = running.wait_with_output().unwrap();
        println!("{}", said(&output));
        server.restart();
        clients.acknowledged(50).await;
    }
    all_is_well(&fleet, clients, &ledger).await;
}
