//! Those that are neither lost nor there: stopped in the middle, or cut off from both databases,
//! and back when all is over.

use std::sync::Arc;

use crate::fleet::{Fleet, load, said};
use crate::ledger::Ledger;
use crate::support::Proxy;

/// Each of these places in turn: whoever runs the cutover stops there, another one does it, and
/// the first one wakes up and goes on with what it believes.
const PLACES: [&str; 5] = [
    "cutover_after_prepare",
    "cutover_after_announcing",
    "cutover_after_fence",
    "cutover_after_sequences",
    "cutover_after_flip",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_was_stopped_wakes_when_another_has_done_its_work() {
    stopped_at_each(Fleet::in_shift(3).await).await;
}

pub async fn stopped_at_each(mut fleet: Fleet) {
    let [there, back] = fleet.ways().await;
    let ledger = Arc::new(Ledger::default());
    for (generation, place) in (0..).zip(PLACES) {
        fleet.members[2].kill();
        fleet.members[2].serve_with(&[("SEGUE_STOP_AT", place)]).await;
        let clients = load(&ledger, &fleet.addresses()[..2], generation);
        clients.acknowledged(60).await;
        fleet.settled_at_all().await;
        let running = fleet.stopped_within(2, there.command, place).await;
        // Whatever it holds is over with its lease: writes go on, here or there.
        clients.acknowledged(60).await;
        if fleet.phase().await == there.from {
            fleet.changed(there.command).await;
        }
        clients.acknowledged(60).await;
        fleet.members[2].signal("CONT");
        let output = running.wait_with_output().unwrap();
        println!("{place}: {}", said(&output));
        clients.acknowledged(60).await;
        assert_eq!(fleet.phase().await, back.from, "{place}");
        fleet.changed(back.command).await;
        clients.acknowledged(60).await;
        clients.stop().await;
        ledger.no_errors(place);
        fleet.everything_agrees(&ledger).await;
    }
}

/// Its packets go nowhere, with sessions open and writes on their way, and arrive in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_cannot_write_to_the_old_primary_afterwards() {
    let mut fleet = Fleet::in_shift(2).await;
    let (source, target) = (Proxy::start(fleet.source.port()), Proxy::start(fleet.target.port()));
    fleet.join_by(source.port(), target.port()).await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(200).await;
    source.pause();
    target.pause();
    fleet.changed("cutover").await;
    assert_eq!(fleet.phase().await, "reversed");
    let before = fleet.pair.source.rows(WRITES).await;
    clients.acknowledged(100).await;
    source.resume();
    target.resume();
    clients.acknowledged(400).await;
    clients.stop().await;
    assert_eq!(fleet.pair.source.rows(WRITES).await, before, "the old primary took a write");
    fleet.everything_agrees(&ledger).await;
}

/// Captured writes of the source that its own outbox has seen, ever.
const WRITES: &str = "SELECT max(created_at) FROM segue.outbox";
