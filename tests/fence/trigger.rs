//! Writers that go round segue.

use segue::domain::control::Phase;
use segue::domain::side::Side;

use crate::{ATTEMPT, exclusive, set, side, sqlstate};

const WRITE: &str = "UPDATE item SET n = n + 1 WHERE id = 1";

#[tokio::test]
async fn a_side_takes_writes_only_while_its_own_row_names_it() {
    use Phase::{Cutover, DualWrite, Reversed, ShadowRead, Shift, SourceOnly, TargetOnly};
    for (where_, phase) in [(Side::Source, Reversed), (Side::Target, Shift)] {
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
                // Before `shift` the target notes what it does not keep.
                let notes =
                    where_ == Side::Target && [SourceOnly, DualWrite, ShadowRead].contains(&open);
                if open.primary() == where_ || notes {
                    written.unwrap();
                } else {
                    assert_eq!(sqlstate(&written.unwrap_err()), "25006", "{where_} {open} {sql}");
                }
            }
        }
        // One a statement that touched a row.
        let notes = database
            .rows(
                "SELECT operation, count(*) FROM segue.foreign_write \
            GROUP BY operation ORDER BY operation",
            )
            .await;
        match where_ {
            Side::Source => assert!(notes.is_empty(), "{notes:?}"),
            Side::Target => assert_eq!(notes, ["DELETE|3", "INSERT|3", "UPDATE|6"]),
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
    // Epochs rise with every change.
    for (isolation, epoch) in [("REPEATABLE READ", 3), ("SERIALIZABLE", 5)] {
        let client = database.client().await;
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM item");
        client.batch_execute(&begin).await.unwrap();
        set(&database, epoch, Phase::Reversed).await;
        let refused = client.batch_execute(WRITE).await.unwrap_err();
        assert!(["25006", "40001"].contains(&&*sqlstate(&refused)), "{isolation}: {refused:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
        set(&database, epoch + 1, Phase::Shift).await;
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
    let fence = segue::postgres::cutover::Exclusive::open(&connector, lease).await.unwrap();
    assert!(fence.acquire(2, ATTEMPT).await.unwrap());
    // It waits for the fence, and for nothing else: that the server lifts it.
    database.run(WRITE).await;
    let flip = "UPDATE segue.control SET epoch = 3, phase = 'reversed' WHERE id = 1 AND epoch = 2";
    assert!(fence.session().execute(flip, &[]).await.is_err(), "the fence is gone");
    assert_eq!(database.rows("SELECT epoch FROM segue.control").await, ["2"]);
}

/// Old snapshots, one after the other and many at a time, and what becomes of the control row.
mod old_snapshots {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use segue::domain::control::{Percentage, Phase};
    use segue::domain::side::{Side, Sides};
    use segue::ports::control::{ControlChange, ControlStore};
    use segue::postgres::control::ControlTable;
    use segue::postgres::pool::{self, Pool};
    use segue::postgres::session::settings::{Purpose, SessionLimits};

    use super::WRITE;
    use crate::support::{Database, eventually};
    use crate::{LEASE, connector, set, side, sqlstate};

    const WRITERS: usize = 100;
    /// What a change takes under all of them, and what one of ten may take where the machine has other
    /// work at that moment.
    const CHANGE_USUAL: Duration = Duration::from_millis(200);
    const CHANGE_MAX: Duration = Duration::from_secs(2);
    const LOCKED: &str = "SELECT xmax FROM segue.control";
    const ISOLATIONS: [&str; 2] = ["REPEATABLE READ", "SERIALIZABLE"];

    /// Writes a row of its own in such a transaction.
    fn write(isolation: &str, id: usize) -> String {
        format!(
            "BEGIN ISOLATION LEVEL {isolation}; \
             INSERT INTO item VALUES ({id}) ON CONFLICT (id) DO UPDATE SET n = item.n + 1"
        )
    }

    /// A share of reads, the way a leader or an operator changes it.
    async fn change_percentage(store: &ControlTable, percent: f64) -> Duration {
        let row = store.read(Side::Source).await.unwrap().unwrap();
        let mut to = ControlChange::to(&row);
        to.revision += 1;
        to.target_percentage = Percentage::of(percent).unwrap();
        let begun = Instant::now();
        assert!(store.compare_and_set(Side::Source, Some(row.version()), to).await.unwrap());
        begun.elapsed()
    }

    fn store(database: &Database) -> ControlTable {
        let params = pool::Params {
            limits: SessionLimits::control(LEASE),
            ..pool::Params::new(Purpose::Own, 2, Duration::from_secs(10))
        };
        let pool = |side| Pool::new(connector(side, database), params).unwrap();
        ControlTable::new(Sides { source: pool(Side::Source), target: pool(Side::Target) })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn do_not_hold_up_a_change_of_the_control_row_nor_fail_for_it() {
        let database = side(Side::Source).await;
        set(&database, 2, Phase::Shift).await;
        let store = store(&database);
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = Vec::new();
        for id in 0..WRITERS {
            let client = database.client().await;
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            writers.push(tokio::spawn(async move {
                let isolation = ISOLATIONS[id % 2];
                while !stop.load(Ordering::Relaxed) {
                    client.batch_execute(&write(isolation, 10 + id)).await.unwrap();
                    // Open, with what the trigger has locked.
                    client.batch_execute("SELECT pg_sleep(0.3)").await.unwrap();
                    client.batch_execute("COMMIT").await.unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        eventually("writers are under way", LEASE, || async {
            (done.load(Ordering::Relaxed) > 20).then_some(())
        })
        .await;
        let mut took = Vec::new();
        for turn in 0..10 {
            took.push(change_percentage(&store, f64::from(turn)).await);
        }
        took.sort_unstable();
        println!("ten changes of the control row took {took:?}");
        stop.store(true, Ordering::Relaxed);
        // None of them failed.
        for writer in writers {
            writer.await.unwrap();
        }
        assert!(took[took.len() / 2] < CHANGE_USUAL, "{took:?}");
        assert!(took.iter().all(|it| *it < CHANGE_MAX), "{took:?}");
    }

    #[tokio::test]
    async fn leave_no_lock_on_the_control_row() {
        let database = side(Side::Source).await;
        set(&database, 2, Phase::Shift).await;
        let before = database.rows(LOCKED).await;
        let (one, other) = (database.client().await, database.client().await);
        for turn in 0..500 {
            // Overlapping, so that row locks of both would be one multixact.
            one.batch_execute(&write(ISOLATIONS[turn % 2], 5)).await.unwrap();
            other.batch_execute(&write(ISOLATIONS[turn % 2], 6)).await.unwrap();
            one.batch_execute("COMMIT").await.unwrap();
            other.batch_execute("COMMIT").await.unwrap();
        }
        assert_eq!(database.rows(LOCKED).await, before, "no transaction has locked the row");
    }

    /// The sequence is set, and what it was set for is rolled back, as by a crash.
    #[tokio::test]
    async fn go_on_after_a_change_of_the_primary_that_was_lost() {
        let database = side(Side::Source).await;
        set(&database, 2, Phase::Shift).await;
        for isolation in ISOLATIONS {
            let open = database.client().await;
            open.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT 1 FROM item"))
                .await
                .unwrap();
            database
                .run(
                    "BEGIN; UPDATE segue.control SET epoch = 3, phase = 'reversed' WHERE id = 1; \
                     ROLLBACK",
                )
                .await;
            assert_eq!(database.rows("SELECT last_value FROM segue.primary_epoch").await, ["3"]);
            // Neither those from before nor later ones are refused.
            open.batch_execute(&format!("{WRITE}; COMMIT")).await.unwrap();
            open.batch_execute(&format!("{}; COMMIT", write(isolation, 7))).await.unwrap();
            // The next change of the row sets it right: nobody locks the row any more.
            change_percentage(&store(&database), 5.0).await;
            let before = database.rows(LOCKED).await;
            open.batch_execute(&format!("{}; COMMIT", write(isolation, 7))).await.unwrap();
            assert_eq!(database.rows(LOCKED).await, before);
        }
    }

    /// There and back again: the epoch of the snapshot is older than both changes.
    #[tokio::test]
    async fn are_refused_after_a_change_there_and_back() {
        let database = side(Side::Source).await;
        set(&database, 2, Phase::Shift).await;
        for (isolation, epoch) in ISOLATIONS.into_iter().zip([3, 5]) {
            let old = database.client().await;
            old.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}; SELECT 1 FROM item"))
                .await
                .unwrap();
            set(&database, epoch, Phase::Reversed).await;
            set(&database, epoch + 1, Phase::Shift).await;
            let refused = old.batch_execute(WRITE).await.unwrap_err();
            assert_eq!(sqlstate(&refused), "40001", "{isolation}: it is tried again");
            old.batch_execute("ROLLBACK").await.unwrap();
            old.batch_execute(&format!("{}; COMMIT", write(isolation, 8))).await.unwrap();
        }
    }
}
