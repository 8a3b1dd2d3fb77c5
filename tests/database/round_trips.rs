//! How often a write goes to the server and back, seen from between them.

use std::sync::Arc;

use segue::ports::Database;

use crate::faults::behind_proxy;
use crate::rig::{WAIT, keyed, write};
use crate::support::eventually;

const ALONE: &[&str] = &["UPDATE item SET name = 'a' WHERE id = 1"];
const SEVERAL: &[&str] = &[
    "INSERT INTO item VALUES (2) ON CONFLICT DO NOTHING",
    "UPDATE item SET name = 'b' WHERE id = 2",
    "DELETE FROM item WHERE id = 2",
];
const RETURNING: &[&str] = &["UPDATE item SET name = 'c' WHERE id = 1 RETURNING id"];

#[tokio::test]
async fn an_announced_write_and_a_batch_take_one_round_trip() {
    let (rig, proxy) = behind_proxy().await;
    rig.database.run("INSERT INTO item VALUES (1)").await;
    for prepared in [ALONE, SEVERAL, RETURNING] {
        rig.segue.write(write(prepared)).await.unwrap();
    }
    // In any order: no kind costs the next one anything.
    let kinds = [("alone", ALONE, 1), ("several", SEVERAL, 1), ("returning", RETURNING, 2)];
    for (before, first, _) in kinds {
        for (kind, statements, expected) in kinds {
            rig.segue.write(write(first)).await.unwrap();
            rig.writes_at_rest().await;
            let flown = proxy.flights();
            rig.segue.write(write(statements)).await.unwrap();
            // And the reset of the session, which no caller waits for.
            rig.writes_at_rest().await;
            assert_eq!(proxy.flights() - flown, expected + 1, "{kind} after {before}");
        }
    }
    assert_eq!(rig.writes.status().open, 1, "flights are counted on one connection");
    // A key is inserted and its answer kept in the same two.
    rig.segue.write(keyed(ALONE, "first", 1)).await.unwrap();
    rig.writes_at_rest().await;
    let flown = proxy.flights();
    rig.segue.write(keyed(ALONE, "second", 1)).await.unwrap();
    rig.writes_at_rest().await;
    assert_eq!(proxy.flights() - flown, 2 + 1);
}

#[tokio::test]
async fn what_goes_in_one_flight_is_committed_before_any_answer_is_heard() {
    let (rig, proxy) = behind_proxy().await;
    let rig = Arc::new(rig);
    for (id, sql) in [
        (1, vec!["INSERT INTO item VALUES (1)"]),
        (2, vec!["INSERT INTO item VALUES (2)", "UPDATE item SET name = 'x' WHERE id = 2"]),
    ] {
        rig.segue.write(write(&sql)).await.unwrap();
        rig.writes_at_rest().await;
        rig.database.run("DELETE FROM item").await;
        proxy.hold_answers(true);
        let (asked, again) = (Arc::clone(&rig), write(&sql));
        let answer = tokio::spawn(async move { asked.segue.write(again).await });
        eventually("the write is committed", WAIT, async || {
            let found = rig.database.rows(&format!("SELECT id FROM item WHERE id = {id}")).await;
            (!found.is_empty()).then_some(())
        })
        .await;
        assert!(!answer.is_finished(), "nobody has heard of it");
        proxy.hold_answers(false);
        answer.await.unwrap().unwrap();
    }
}
