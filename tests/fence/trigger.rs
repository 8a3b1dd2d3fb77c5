//! Writers that go round segue.

use segue::domain::control::Phase;
use segue::domain::side::Side;

use crate::{ATTEMPT, exclusive, set, side, sqlstate};

const WRITE: &str = "UPDATE item SET n = n + 1 WHERE id = 1";

#[tokio::test]
async fn a_side_takes_writes_only_while_its_own_row_names_it() {
    use Phase::{Cutover, DualWrite, Reversed, ShadowRead, Shift, SourceOnly, TargetOnly};
    for (where_, phase) in [(Side::Source, Reversed), (Side::Target, DualWrite)] {
        let database = side(where_).await;
        let client = database.client().await;
        for open in [SourceOnly, DualWrite, ShadowRead, Shift, Cutover, Reversed, TargetOnly] {
            set(&database, 7, open).await;
            for sql in [
                WRITE,
                "INSERT INTO item VALUES (9)",
                "DELETE FROM item WHERE id = 9",
                "UPDATE item SET id = 1 WHERE id = 1",
            ] {
                let written = client.batch_execute(sql).await;
                if open.primary() == where_ {
                    written.unwrap();
                } else {
                    assert_eq!(sqlstate(&written.unwrap_err()), "25006", "{where_} {open} {sql}");
                }
            }
        }
        set(&database, 8, phase).await;
        assert_eq!(sqlstate(&client.batch_execute("TRUNCATE item").await.unwrap_err()), "25006");
        // What touches nothing is told as well: its next run may touch something.
        let nothing = client.batch_execute("UPDATE item SET n = 0 WHERE false").await;
        assert_eq!(sqlstate(&nothing.unwrap_err()), "25006");
        // Copies are no writes of an application.
        database.run_as_copy(WRITE).await;
        // What tells them is not what anyone can set.
        for setting in ["session_replication_role = replica", "segue.copies = 'on'"] {
            client.batch_execute(&format!("SET {setting}")).await.unwrap();
            for sql in [WRITE, "UPDATE item SET id = 3 WHERE id = 2", "TRUNCATE item"] {
                let refused = client.batch_execute(sql).await.unwrap_err();
                assert_eq!(sqlstate(&refused), "25006", "{where_} {setting} {sql}");
            }
        }
    }
}

/// A transaction sees the control row of its beginning; the fence must not.
#[tokio::test]
async fn an_old_snapshot_does_not_get_through() {
    let database = side(Side::Source).await;
    set(&database, 2, Phase::Shift).await;
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let client = database.client().await;
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM item");
        client.batch_execute(&begin).await.unwrap();
        set(&database, 3, Phase::Reversed).await;
        let refused = client.batch_execute(WRITE).await.unwrap_err();
        assert!(["25006", "40001"].contains(&&*sqlstate(&refused)), "{isolation}: {refused:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
        set(&database, 4, Phase::Shift).await;
        // Nothing has changed since this one began.
        client.batch_execute(&begin).await.unwrap();
        client.batch_execute(&format!("{WRITE}; COMMIT")).await.unwrap();
    }
    assert_eq!(database.rows("SELECT n FROM item WHERE id = 1").await, ["2"]);
}

#[tokio::test]
async fn the_fence_waits_for_open_transactions_and_holds_later_ones() {
    let database = side(Side::Source).await;
    set(&database, 2, Phase::Shift).await;
    let writer = database.client().await;
    writer.batch_execute(&format!("BEGIN; {WRITE}")).await.unwrap();
    let fence = exclusive(Side::Source, &database).await;
    assert!(!fence.acquire(2, ATTEMPT).await.unwrap(), "a transaction is open");
    let [held] = fence.writers().await.unwrap().try_into().unwrap();
    assert!(!held.is_session() && held.open_s.is_some() && held.who.contains("postgres"), "{held}");
    // Where the fence is given up the writer goes on as if nothing had been.
    writer.batch_execute(&format!("{WRITE}; COMMIT")).await.unwrap();
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());

    // Read committed and repeatable read: both began before the flip, both write after it.
    let mut late = Vec::new();
    for (isolation, id) in [("READ COMMITTED", 1), ("REPEATABLE READ", 2)] {
        let client = database.client().await;
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM item");
        client.batch_execute(&begin).await.unwrap();
        let write = format!("UPDATE item SET n = n + 1 WHERE id = {id}; COMMIT");
        late.push(tokio::spawn(async move { client.batch_execute(&write).await }));
    }
    let admin = database.client().await;
    crate::support::eventually("both wait", crate::LEASE, || async {
        let waiting = "SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database \
            WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted";
        let row = admin.query_one(waiting, &[]).await.unwrap();
        (row.get::<_, i64>(0) == 2).then_some(())
    })
    .await;
    let flip = "UPDATE segue.control SET epoch = 3, phase = 'reversed' WHERE id = 1 AND epoch = 2";
    assert_eq!(fence.session().execute(flip, &[]).await.unwrap(), 1);
    fence.release().await.unwrap();
    for writer in late {
        let refused = writer.await.unwrap().unwrap_err();
        assert!(["25006", "40001"].contains(&&*sqlstate(&refused)), "{refused:?}");
    }
    assert_eq!(database.rows("SELECT n FROM item ORDER BY id").await, ["2", "0"]);
}

/// The fence that waits, a writer behind it that has locked a row, and one before it that wants
/// that row: nobody may be the victim of a deadlock for it.
#[tokio::test]
async fn writers_that_wait_for_each_other_behind_the_fence_get_through() {
    let database = side(Side::Source).await;
    set(&database, 2, Phase::Shift).await;
    let (before, behind) = (database.client().await, database.client().await);
    before.batch_execute("BEGIN; UPDATE item SET n = 1 WHERE id = 2").await.unwrap();
    let fence = exclusive(Side::Source, &database).await;
    let held = tokio::spawn(async move {
        let taken = fence.acquire(2, ATTEMPT).await.unwrap();
        (fence, taken)
    });
    let behind =
        tokio::spawn(async move { behind.batch_execute(&format!("BEGIN; {WRITE}; COMMIT")).await });
    let wants = before.batch_execute(&format!("{WRITE}; COMMIT")).await;
    wants.unwrap();
    behind.await.unwrap().unwrap();
    let (fence, taken) = held.await.unwrap();
    assert!(taken || fence.acquire(2, ATTEMPT).await.unwrap());
}

#[tokio::test]
async fn a_holder_that_is_not_heard_of_loses_the_fence() {
    let database = side(Side::Source).await;
    set(&database, 2, Phase::Shift).await;
    let lease = std::time::Duration::from_millis(500);
    let connector = crate::connector(Side::Source, &database);
    let fence = segue::postgres::fence::Exclusive::open(&connector, lease).await.unwrap();
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());
    // It waits for the fence, and for nothing else: that the server lifts it.
    database.run(WRITE).await;
    let flip = "UPDATE segue.control SET epoch = 3, phase = 'reversed' WHERE id = 1 AND epoch = 2";
    assert!(fence.session().execute(flip, &[]).await.is_err(), "the fence is gone");
    assert_eq!(database.rows("SELECT epoch FROM segue.control").await, ["2"]);
}
