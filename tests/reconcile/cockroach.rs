//! Reconciles to CockroachDB, and its outbox, on a stand-in for it (`support/stand_in.rs`).

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use segue::domain::side::Side;
use segue::ports::reconcile::{OutboxSize, Upkeep};
use segue::postgres::crash::{AFTER_READ, CrashPoints};
use segue::postgres::outbox::RowKey;
use segue::postgres::outbox::upkeep::{OutboxUpkeep, UpkeepParams};
use segue::postgres::reconcile::{Params, Report};

use crate::convergence::converge_by;
use crate::world::{self, Way, assert_equal, drain, waiting};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_members_and_four_writers_converge() {
    let (pair, _proxy, way) = world::onto_cockroach().await;
    converge_by(&pair, &way, world::params(), 6).await;
}

const LIMIT: Duration = Duration::from_secs(60);

/// A reconcile of a key that has read both sides and sleeps until it is told to go on.
struct Asleep {
    wake: Sender<()>,
    done: JoinHandle<Report>,
}

impl Asleep {
    async fn begin(way: &Way, table_id: i32, key: &str) -> Self {
        let (tell, asleep) = channel();
        let (wake, told) = channel::<()>();
        let told = Mutex::new(Some(told));
        let crash = CrashPoints::armed(Arc::new(move |at| {
            // The first time only: it may begin again.
            if at == AFTER_READ
                && let Some(told) = told.lock().unwrap().take()
            {
                tell.send(()).unwrap();
                told.recv_timeout(LIMIT).unwrap();
            }
            false
        }));
        let (way, values) = (way.clone(), vec![key.to_owned()]);
        // All that it has sleeps with it, as in a process that is stopped.
        let done = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let reconciler = way.reconciler(Params { crash, ..world::params() });
                reconciler.reconcile([RowKey { table_id, values }].into()).await
            })
        });
        let told = tokio::task::spawn_blocking(move || asleep.recv_timeout(LIMIT));
        told.await.unwrap().unwrap();
        Self { wake, done }
    }

    async fn wake(self) -> Report {
        self.wake.send(()).unwrap();
        tokio::task::spawn_blocking(|| self.done.join().unwrap()).await.unwrap()
    }
}

/// No lock of the table makes a reconcile wait that has read the primary before it was emptied:
/// what it then inserts is ordered before the look that did not find it, and cannot be.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reconcile_of_before_a_truncate_cannot_bring_a_row_back() {
    let (pair, _proxy, way) = world::onto_cockroach().await;
    pair.source.run("INSERT INTO app.parent VALUES (5, 'five'), (6, 'six')").await;
    drain(&way.worker()).await;
    pair.target.run("DELETE FROM moved.parent WHERE id = 5").await;
    let asleep = Asleep::begin(&way, 1, "5").await;
    pair.source.run("TRUNCATE app.parent CASCADE").await;
    drain(&way.worker()).await;
    assert_eq!(pair.target.rows("SELECT count(*) FROM moved.parent").await, ["0"]);
    let report = asleep.wake().await;
    assert!(report.failed.is_empty() && report.stopped.is_none(), "{report:?}");
    assert_equal(&pair).await;
    assert_eq!(pair.target.rows("SELECT count(*) FROM moved.parent").await, ["0"]);
}

/// It has seen that its side follows, and sleeps when that becomes the primary: callers change,
/// or only read, what it is about to take back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reconcile_that_sleeps_through_the_promotion_undoes_nothing() {
    for callers in [
        "UPDATE moved.parent SET name = 'theirs' WHERE id = 5",
        "INSERT INTO moved.pair SELECT name, gen_random_uuid(), id FROM moved.parent WHERE id = 5",
    ] {
        let (pair, _proxy, way) = world::onto_cockroach().await;
        pair.source.run("INSERT INTO app.parent VALUES (5, 'five')").await;
        drain(&way.worker()).await;
        pair.source.run("UPDATE app.parent SET name = 'late' WHERE id = 5").await;
        pair.target.run("UPDATE segue.control SET phase = 'shift'").await;
        let asleep = Asleep::begin(&way, 1, "5").await;
        let promoted = "UPDATE segue.control SET phase = 'reversed', epoch = epoch + 1";
        pair.target.run(promoted).await;
        pair.target.run(callers).await;
        let found = pair.target.rows("SELECT name FROM moved.parent").await;
        let report = asleep.wake().await;
        assert!(report.done.is_empty() && report.changed == 0, "{callers}: {report:?}");
        assert_eq!(pair.target.rows("SELECT name FROM moved.parent").await, found, "{callers}");
    }
}

fn upkeep(way: &Way, bytes_max: u64) -> OutboxUpkeep {
    let params = UpkeepParams {
        window: Duration::from_secs(3600),
        lock_wait: Duration::from_millis(200),
        bytes_max,
        idempotency_kept: Duration::from_secs(24 * 3600),
        rows_max: 2,
    };
    OutboxUpkeep::new(Way { primary: Side::Target, ..way.clone() }.outbox(), params)
}

const ROWS: &str = "
INSERT INTO segue.outbox (slot, table_id, key, forgotten_at) VALUES
    (0, 1, '{1}', now() - '3 hours'::interval), (5, 1, '{2}', now() - '2 hours'::interval),
    (5, 1, '{3}', now() - '2 hours'::interval), (5, 1, '{4}', now()), (0, 1, '{5}', NULL)";

#[tokio::test]
async fn what_was_forgotten_long_ago_goes_and_nothing_else() {
    let (pair, _proxy, way) = world::onto_cockroach().await;
    pair.target.run(ROWS).await;
    // Two statements, since one removes two rows at most.
    assert_eq!(upkeep(&way, 1 << 30).truncate_ring().await.unwrap(), 2);
    let left = pair.target.rows("SELECT key FROM segue.outbox ORDER BY key").await;
    assert_eq!(left, ["{4}", "{5}"]);
    let noted = "SELECT removed_until < now() - '1 hour'::interval FROM segue.outbox_state";
    assert_eq!(pair.target.rows(noted).await, ["t"]);
    assert_eq!(upkeep(&way, 1 << 30).truncate_ring().await.unwrap(), 0);
    // What a chunk of a backfill asks for stays.
    pair.target.run("DELETE FROM segue.outbox").await;
    pair.target.run(ROWS).await;
    let hold = "INSERT INTO segue.outbox_hold VALUES (gen_random_uuid(), \
        now() - '150 minutes'::interval, now() + '1 hour'::interval)";
    pair.target.run(hold).await;
    assert_eq!(upkeep(&way, 1 << 30).truncate_ring().await.unwrap(), 1);
    assert_eq!(pair.target.rows("SELECT count(*) FROM segue.outbox").await, ["4"]);
}

#[tokio::test]
async fn keys_past_the_limit_are_folded_and_the_copy_is_kept() {
    let (pair, _proxy, way) = world::onto_cockroach().await;
    pair.target.run("UPDATE segue.control SET phase = 'reversed'").await;
    let rows = "INSERT INTO segue.outbox (slot, table_id, key) \
        SELECT 0, 1, ARRAY[i::text] FROM generate_series(1, 40) AS i";
    pair.target.run(rows).await;
    let size = upkeep(&way, 1 << 20).check_size().await.unwrap();
    assert_eq!(size, OutboxSize { bytes: 40 * 200, ..OutboxSize::default() });
    let size = upkeep(&way, 1000).check_size().await.unwrap();
    assert_eq!((size.folded, size.pending_bytes), (40, 0));
    assert_eq!(pair.target.rows("SELECT phase FROM segue.control").await, ["reversed"]);
    assert_eq!(pair.target.rows("SELECT table_id, keys FROM segue.pending_table").await, ["1|40"]);
    let left = waiting(&pair.target).await;
    assert!(left.len() <= 3 && left.iter().all(|row| row.starts_with("1|NULL|0|")), "{left:?}");
    let gaps = "SELECT capture_gaps FROM segue.outbox_state";
    assert_eq!(pair.target.rows(gaps).await, ["0"]);
}
