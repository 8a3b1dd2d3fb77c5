//! Under load, with no error and no loss.

use std::sync::Arc;

use crate::fleet::{Fleet, load, said};
use crate::ledger::Ledger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_and_there_again_under_load() {
    there_and_back(Fleet::in_shift(3).await).await;
}

/// With no error, and nothing lost.
pub async fn there_and_back(fleet: Fleet) {
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(200).await;

    fleet.rehearsed(1).await;
    assert_eq!(fleet.phase().await, "shift");
    clients.acknowledged(100).await;

    for (command, phase) in
        [("cutover", "reversed"), ("rollback", "shift"), ("cutover", "reversed")]
    {
        fleet.changed(command).await;
        assert_eq!(fleet.phase().await, phase);
        clients.acknowledged(200).await;
        // Generated keys go on above all that were given out.
        let primary = if phase == "reversed" { &fleet.pair.target } else { &fleet.pair.source };
        for table in ["ticket", "coupon"] {
            let highest = format!("SELECT coalesce(max(id), 0) FROM {table}");
            let before: i64 = primary.rows(&highest).await[0].parse().unwrap();
            let insert = format!("INSERT INTO {table} (note) VALUES ('new') RETURNING id");
            for _ in 0..2 {
                let made = primary.rows(&insert).await;
                assert!(made[0].parse::<i64>().unwrap() > before, "{made:?} after {before}");
            }
        }
    }
    clients.stop().await;
    ledger.no_errors("in the end");
    let acknowledged = ledger.acknowledged();
    fleet.everything_agrees(&ledger).await;
    let [p50, p99, longest] = ledger.latencies();
    println!("{acknowledged} acknowledged; p50 {p50:?}, p99 {p99:?}, longest {longest:?}");
    let tickets = "SELECT count(*), max(id) FROM ticket";
    assert_eq!(fleet.pair.source.rows(tickets).await, fleet.pair.target.rows(tickets).await);
}

/// What the target cannot hold comes back as it was, where nobody changed it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn microseconds_of_the_source_survive_the_way_there_and_back() {
    let fleet = Fleet::in_shift(1).await;
    let exact = "SELECT changed_at::text FROM account WHERE id = 7";
    fleet
        .pair
        .source
        .run(
            "INSERT INTO account (id, version, note, changed_at) \
              VALUES (7, 1, 'a', '2026-01-02 03:04:05.123456+00')",
        )
        .await;
    let before = fleet.pair.source.rows(exact).await;
    fleet.changed("cutover").await;
    // What stays of capture on the old primary is its fence.
    let refused = fleet.members[0].run(&["capture", "remove"]);
    assert!(said(&refused).contains("relies on capture"), "{}", said(&refused));
    let round = fleet.pair.source.client().await;
    let error = round.batch_execute("UPDATE account SET note = 'c'").await.unwrap_err();
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("25006"));
    fleet.pair.target.run("UPDATE account SET note = 'b' WHERE id = 7").await;
    fleet.changed("rollback").await;
    assert_eq!(fleet.phase().await, "shift");
    let note = "SELECT note FROM account WHERE id = 7";
    assert_eq!(fleet.pair.source.rows(note).await, ["b"]);
    assert_eq!(fleet.pair.source.rows(exact).await, before);
}
