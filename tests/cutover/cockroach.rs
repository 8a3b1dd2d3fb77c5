//! To CockroachDB and back, on a stand-in for it (`support/stand_in.rs`).

use std::sync::Arc;

use crate::fleet::{Fleet, load, said};
use crate::ledger::Ledger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_cockroach_and_back_and_there_again_under_load() {
    let fleet = Fleet::onto_cockroach(3).await;
    let ledger = Arc::new(Ledger::default());
    let clients = load(&ledger, &fleet.addresses(), 0);
    clients.acknowledged(200).await;

    let rehearsed = fleet.change(1, "cutover", &["--rehearse"]);
    assert!(rehearsed.status.success(), "{}", said(&rehearsed));
    assert_eq!(fleet.phase().await, "shift");
    clients.acknowledged(100).await;

    for (command, phase) in
        [("cutover", "reversed"), ("rollback", "shift"), ("cutover", "reversed")]
    {
        fleet.changed(command).await;
        assert_eq!(fleet.phase().await, phase);
        clients.acknowledged(200).await;
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
    fleet.everything_agrees(&ledger).await;
    let tickets = "SELECT count(*), max(id) FROM ticket";
    assert_eq!(fleet.pair.source.rows(tickets).await, fleet.pair.target.rows(tickets).await);
}
