//! Whole snapshots of the primary, applied while reads are shifted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use segue::domain::control::{ControlRow, Version};
use segue::domain::fault::SqlFault;
use segue::failpoint::{FailPoint, FailPoints};
use segue::ports::reconcile::OutboxWork;
use segue::ports::target_reads::TargetReads;
use segue::postgres::outbox::RowKey;
use segue::postgres::reconcile::consistent::{ConsistentParams, ConsistentWorker};

use crate::support::{Database, Pair, eventually};
use crate::world::{self, Way, assert_equal, drain, waiting};

const LIMIT: Duration = Duration::from_secs(60);
const SHIFT: &str = "UPDATE segue.control SET phase = 'shift', epoch = 7, revision = 7, \
    settled_at = now(), reads_off = 'a test'";
const ROWS: &str = "
INSERT INTO app.parent SELECT n, 'parent ' || n FROM generate_series(1, 50) AS n;
INSERT INTO app.item (id, parent_id, code, note, amount, state)
    SELECT n, n % 50 + 1, 'Code ' || n, 'note ' || n, n / 3.0, 'paid' FROM generate_series(1, 600) AS n;";

/// Puts reads off and on by the control row, as a fleet of one would.
struct Reads {
    source: Arc<tokio_postgres::Client>,
    put_off: AtomicU64,
}

impl Reads {
    async fn of(source: &Database) -> Arc<Self> {
        let source = Arc::new(source.client().await);
        Arc::new(Self { source, put_off: AtomicU64::new(0) })
    }

    async fn change(&self, row: &ControlRow, off: &str) -> Option<Version> {
        let Version { epoch, revision } = row.version();
        let sql = format!(
            "UPDATE segue.control SET revision = revision + 1, reads_off = nullif('{off}', ''), \
             reads_off_by = CASE WHEN '{off}' <> '' THEN \
                 '00000000-0000-0000-0000-000000000001'::uuid END \
             WHERE epoch = {epoch} AND revision = {revision}"
        );
        let changed = self.source.execute(&sql, &[]).await.unwrap();
        (changed == 1).then_some(Version { epoch, revision: revision + 1 })
    }
}

impl TargetReads for Reads {
    fn put_off<'a>(
        &'a self,
        row: &'a ControlRow,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Option<Version>, SqlFault>> {
        Box::pin(async move {
            self.put_off.fetch_add(1, Ordering::SeqCst);
            Ok(self.change(row, &reason.replace('\'', "")).await)
        })
    }

    fn let_on<'a>(&'a self, row: &'a ControlRow) -> BoxFuture<'a, Result<bool, SqlFault>> {
        Box::pin(async move { Ok(self.change(row, "").await.is_some()) })
    }
}

async fn in_shift() -> (Pair, Arc<Reads>) {
    let pair = world::pair().await;
    pair.source.run(SHIFT).await;
    pair.target.run("UPDATE segue.control SET phase = 'shift', epoch = 7").await;
    let reads = Reads::of(&pair.source).await;
    (pair, reads)
}

fn worker(pair: &Pair, reads: &Arc<Reads>, keys_max: usize) -> ConsistentWorker {
    let way = Way::forth(pair);
    let reconciler = way.reconciler(world::params());
    let steps = segue::postgres::reconcile::batch::OutboxWorker::new(
        way.outbox(),
        Arc::clone(&reconciler),
        world::batch(),
    );
    let params = ConsistentParams { keys_max, idle_max: Duration::from_secs(2) };
    ConsistentWorker::new(reconciler, steps, Arc::<Reads>::clone(reads), params)
}

async fn reads_off(pair: &Pair) -> String {
    pair.source.rows("SELECT coalesce(reads_off, 'on') FROM segue.control").await.remove(0)
}

async fn until_on(pair: &Pair, worker: &ConsistentWorker) {
    eventually("reads are on", LIMIT, || async {
        worker.work().await.unwrap();
        (reads_off(pair).await == "on").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_waits_is_committed_at_once_whatever_stands_in_the_way() {
    let (pair, reads) = in_shift().await;
    pair.source.run(ROWS).await;
    let worker = worker(&pair, &reads, 5_000);
    let done = worker.work().await.unwrap();
    assert_eq!((done.keys, done.reconciled, done.failed), (650, 650, 0));
    assert_eq!(waiting(&pair.source).await, Vec::<String>::new());
    assert_eq!(reads_off(&pair).await, "on");
    assert_equal(&pair).await;
    // Values that are unique swapped, one handed on, a parent without its children, and time for
    // trying again that has not come.
    pair.source
        .run(
            "UPDATE app.item SET code = CASE id WHEN 1 THEN 'Code 2' ELSE 'Code 1' END || '?' \
                WHERE id IN (1, 2); \
             UPDATE app.item SET code = replace(code, '?', '') WHERE id IN (1, 2); \
             UPDATE app.item SET code = 'gone' WHERE id = 3; \
             UPDATE app.item SET code = 'Code 3' WHERE id = 4; \
             DELETE FROM app.item WHERE parent_id = 9; DELETE FROM app.parent WHERE id = 9; \
             INSERT INTO app.pair VALUES ('a', gen_random_uuid(), 1); \
             UPDATE segue.outbox SET next_attempt_at = now() + '1 hour'::interval \
                WHERE forgotten_at IS NULL AND table_id = 2",
        )
        .await;
    worker.work().await.unwrap();
    assert_equal(&pair).await;
    let transactions = "SELECT count(DISTINCT x) FROM (SELECT xmin::text AS x FROM moved.item \
        WHERE id IN (1, 2, 3, 4) UNION ALL SELECT xmin::text FROM moved.pair) AS t";
    assert_eq!(pair.target.rows(transactions).await, ["1"]);
    assert_eq!(reads.put_off.load(Ordering::SeqCst), 0);
}

/// Whoever does not know of the phase yet, or of the other way: nothing is written on its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_not_written_on_their_own_while_reads_are_shifted() {
    let (pair, reads) = in_shift().await;
    pair.source
        .run("INSERT INTO app.parent VALUES (1, 'one'); INSERT INTO app.parent VALUES (2, 'two')")
        .await;
    let late = Way::forth(&pair).worker();
    let done = late.work().await.unwrap();
    assert_eq!((done.keys, done.reconciled, done.changed, done.more), (2, 0, 0, false));
    assert_eq!(pair.target.rows("SELECT count(*) FROM moved.parent").await, ["0"]);
    assert_eq!(waiting(&pair.source).await.len(), 2, "nothing is forgotten, and nothing failed");
    let worker = worker(&pair, &reads, 100);
    worker.work().await.unwrap();
    assert_equal(&pair).await;
    // A repair asks for its keys, and waits until they are applied with the rest.
    pair.target.run("UPDATE moved.parent SET name = 'other' WHERE id = 2").await;
    let way = Way::forth(&pair);
    let repair = tokio::spawn(async move {
        let key = RowKey { table_id: 1, values: vec!["2".to_owned()] };
        way.reconciler(world::params()).reconcile([key].into_iter().collect()).await
    });
    eventually("it asks", LIMIT, || async {
        (waiting(&pair.source).await == ["1|{2}|0|NULL"]).then_some(())
    })
    .await;
    assert_eq!(pair.target.rows("SELECT name FROM moved.parent WHERE id = 2").await, ["other"]);
    worker.work().await.unwrap();
    let report = repair.await.unwrap();
    assert_eq!((report.done.len(), report.failed.len(), report.stopped), (1, 0, None));
    assert_equal(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_one_batch_is_done_in_steps_with_reads_off() {
    let (pair, reads) = in_shift().await;
    let worker = worker(&pair, &reads, 100);
    pair.source.run("INSERT INTO app.parent VALUES (1, 'one')").await;
    until_on(&pair, &worker).await;
    let before = reads.put_off.load(Ordering::SeqCst);
    // Too much at once, then a whole table.
    for sql in [
        "INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(2, 900) AS n",
        "TRUNCATE app.parent CASCADE",
    ] {
        pair.source.run(sql).await;
        worker.work().await.unwrap();
        assert_ne!(reads_off(&pair).await, "on", "{sql}");
        until_on(&pair, &worker).await;
        assert_equal(&pair).await;
    }
    assert_eq!(reads.put_off.load(Ordering::SeqCst) - before, 2);
    // A key that does not go in holds nobody else up, and reads stay off until it does.
    pair.target.run("ALTER TABLE moved.parent ADD CHECK (name <> 'unfit')").await;
    pair.source
        .run("INSERT INTO app.parent VALUES (1, 'unfit'); INSERT INTO app.parent VALUES (2, 'fit')")
        .await;
    eventually("the other one is there", LIMIT, || async {
        worker.work().await.unwrap();
        (pair.target.rows("SELECT name FROM moved.parent").await == ["fit"]).then_some(())
    })
    .await;
    assert!(reads_off(&pair).await.contains("cannot be applied"), "{}", reads_off(&pair).await);
    pair.source.run("UPDATE app.parent SET name = 'well' WHERE id = 1").await;
    until_on(&pair, &worker).await;
    assert_equal(&pair).await;
}

/// The server ends the turn of a process that is stopped, before its lease has ended.
/// Bytes bound a batch as keys do, and a row that is larger than a batch goes alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_too_many_bytes_for_one_batch_is_done_in_steps_with_reads_off() {
    let (pair, reads) = in_shift().await;
    let worker = worker(&pair, &reads, 5_000);
    pair.source.run("INSERT INTO app.parent VALUES (1, 'one')").await;
    worker.work().await.unwrap();
    let rows = |first: u32, count: u32, megabytes: u32| {
        format!(
            "INSERT INTO app.item (id, parent_id, code, note, state) \
             SELECT n, 1, 'Code ' || n, repeat(md5(n::text), {} * 32768), 'paid' \
             FROM generate_series({first}, {}) AS n",
            megabytes,
            first + count - 1
        )
    };
    // Within the bounds.
    pair.source.run(&rows(1, 10, 1)).await;
    worker.work().await.unwrap();
    assert_equal(&pair).await;
    assert_eq!(reads.put_off.load(Ordering::SeqCst), 0);
    for sql in [rows(100, 24, 1), rows(200, 1, 24)] {
        let before = reads.put_off.load(Ordering::SeqCst);
        pair.source.run(&sql).await;
        worker.work().await.unwrap();
        assert!(
            reads_off(&pair).await.contains("too much for one batch"),
            "{}",
            reads_off(&pair).await
        );
        until_on(&pair, &worker).await;
        assert_eq!(reads.put_off.load(Ordering::SeqCst) - before, 1);
        assert_equal(&pair).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_ends_at_the_server_though_nothing_is_heard_of_its_holder() {
    let (pair, reads) = in_shift().await;
    pair.source.run("INSERT INTO app.parent VALUES (1, 'one')").await;
    // It stands between its snapshot and its commit, and never goes on.
    let failpoints = FailPoints::losing_where(|place| {
        if place == FailPoint::AfterClaim {
            std::thread::sleep(Duration::from_secs(4));
        }
        false
    });
    let way = Way::forth(&pair);
    let params = segue::postgres::reconcile::Params { failpoints, ..world::params() };
    let reconciler = way.reconciler(params);
    let steps = segue::postgres::reconcile::batch::OutboxWorker::new(
        way.outbox(),
        Arc::clone(&reconciler),
        world::batch(),
    );
    let limits = ConsistentParams { keys_max: 100, idle_max: Duration::from_millis(500) };
    let stopped =
        Arc::new(ConsistentWorker::new(reconciler, steps, Arc::<Reads>::clone(&reads), limits));
    let held = Arc::clone(&stopped);
    let held = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { held.work().await.map(drop) })
    });
    eventually("it has the turn", LIMIT, || async {
        let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted";
        (pair.target.rows(sql).await == ["1"]).then_some(())
    })
    .await;
    let begun = Instant::now();
    until_on(&pair, &worker(&pair, &reads, 100)).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(held.join().unwrap().is_err(), "its transaction had ended");
    assert_equal(&pair).await;
}

/// Rows a second of both ways, over the same changes: `cargo test --release --test reconcile
/// whole_snapshots_beside -- --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_snapshots_beside_key_by_key() {
    let (pair, reads) = in_shift().await;
    pair.source.run(ROWS).await;
    let (snapshots, keys) = (worker(&pair, &reads, 5_000), Way::forth(&pair).worker());
    snapshots.work().await.unwrap();
    let mut took = [Duration::ZERO; 2];
    for round in 0..6 {
        let way = round % 2;
        let phase = if way == 0 { "shift" } else { "shadow_read" };
        pair.source.run(&format!("UPDATE segue.control SET phase = '{phase}'")).await;
        pair.source.run(&format!("UPDATE app.item SET note = 'round {round}'")).await;
        let begun = Instant::now();
        let done = if way == 0 { snapshots.work().await.unwrap() } else { drain(&keys).await };
        took[way] += begun.elapsed();
        assert_eq!((done.reconciled, done.failed), (600, 0));
    }
    let rate = |took: Duration| 1_800.0 / took.as_secs_f64();
    println!(
        "whole snapshots: {:.0} rows/s, key by key: {:.0} rows/s, ratio {:.2}",
        rate(took[0]),
        rate(took[1]),
        rate(took[0]) / rate(took[1])
    );
    assert_equal(&pair).await;
}
