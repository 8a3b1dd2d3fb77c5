//! One chunk, held up or ended at each step while the world moves: the cases that the steps of
//! a chunk are there for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use segue::domain::backfill::{Chunk, Copied, Load, Way};
use segue::domain::control::{ControlState, Percentage, Phase};
use segue::domain::reason::Reason;
use segue::domain::side::{Side, Sides};
use segue::domain::table::{TableMapping, TableName};
use segue::dsn::Dsn;
use segue::failpoint::{FailPoint, FailPoints};
use segue::ports::backfill::{Beat, ChunkCopier, ChunkStore, CopyHalt, Meter, Next, SourceWatch};
use segue::ports::control::{ControlChange, ControlStore};
use segue::ports::reconcile::{OutboxWork, Upkeep};
use segue::postgres::backfill::admit;
use segue::postgres::backfill::claims::{Claims, Owner};
use segue::postgres::backfill::copier::{Copier, Params};
use segue::postgres::backfill::plan;
use segue::postgres::backfill::split::Splitter;
use segue::postgres::backfill::watch::Watch;
use segue::postgres::control::ControlTable;
use segue::postgres::fence::{CLASS, COPIES};
use segue::postgres::outbox::Outbox;
use segue::postgres::outbox::upkeep::{OutboxUpkeep, UpkeepParams};
use segue::postgres::pool::{Params as PoolParams, Pool};
use segue::postgres::reconcile::batch::{BatchParams, OutboxWorker};
use segue::postgres::reconcile::session::ForeignKeys;
use segue::postgres::reconcile::{self, Reconciler};
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;
use tokio::sync::Notify;

use crate::support::{Pair, Segue, eventually};
use crate::world::{ENDS, same_rows};

const ROWS: &str = "SELECT id::text, code FROM app.t ORDER BY id";

fn table(key: &str) -> String {
    format!("CREATE SCHEMA app; CREATE TABLE app.t (id {key} PRIMARY KEY, code text UNIQUE);")
}

/// Twenty rows on the source, captured; nothing on the target.
async fn captured(key: &str) -> Pair {
    let rows = "INSERT INTO app.t SELECT n, 'c' || n FROM generate_series(10, 29) AS n;";
    // The target's servers know no collations of ICU.
    let on_target = key.split(" COLLATE").next().unwrap();
    let pair = Pair::fresh(&format!("{} {rows}", table(key)), &table(on_target)).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    pair
}

struct Free;

impl Meter for Free {
    fn pass(&self, _: u64, _: u64) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

fn pool(side: Side, dsn: &str, name: Option<String>) -> Pool {
    let mut dsn = Dsn::parse(dsn, &|_: &str| None).unwrap();
    if let Some(name) = name {
        dsn.application_name = name;
    }
    let connector = Connector::new(side, dsn).unwrap();
    Pool::new(connector, PoolParams::new(Purpose::Own, 10, Duration::from_secs(10))).unwrap()
}

/// Where a test holds a chunk up, or ends it as if its process had ended (true).
type Hook = Arc<dyn Fn(FailPoint) -> BoxFuture<'static, bool> + Send + Sync>;

/// A process of a backfill, without its process.
struct Process {
    claims: Claims,
    copier: Copier,
    watch: Watch,
    owner: Owner,
}

impl Process {
    async fn of(pair: &Pair, chunk_rows: u64, hook: Option<Hook>) -> Self {
        Self::by(Load::Copy, pair, chunk_rows, hook).await
    }

    async fn by(load: Load, pair: &Pair, chunk_rows: u64, hook: Option<Hook>) -> Self {
        let id = uuid::Uuid::new_v4();
        let owner =
            Owner { id, host: "test".to_owned(), workers: 1, lease: Duration::from_secs(60) };
        let source = pool(Side::Source, pair.source.dsn(), None);
        let target = pool(Side::Target, pair.target.dsn(), Some(owner.application_name()));
        let name = TableName::new("app", "t");
        let mapping = TableMapping { source: name.clone(), target: name };
        let (registered, _) = plan::registered(&source, &[mapping]).await.unwrap();
        let plan = plan::plan(&source, &target, &registered, chunk_rows, load).await.unwrap();
        assert!(plan.refused.is_empty(), "{:?}", plan.refused);
        let (_, captured) = admit::state(&source).await.unwrap();
        let splitter = Arc::new(Splitter::new(source.clone(), plan.tables.clone()));
        let ids = plan.plans.iter().map(|table| table.table_id).collect();
        let claims = Claims::new(target.clone(), splitter, owner.clone(), ids, Some(captured.gaps));
        claims.plan(&plan.plans).await.unwrap();
        claims.renew(&Beat { share: 1.0, ..Beat::default() }).await.unwrap();
        let reconciler = Arc::new(Reconciler::new(
            source.clone(),
            target.clone(),
            Side::Source,
            reconcile::Params::new(Arc::new(|| 0.5)),
        ));
        let params = Params {
            memory: segue::postgres::memory::RowMemory::default(),
            row_bytes_max: segue::postgres::reconcile::ROW_BYTES_MAX,
            captured: Some(captured),
            foreign_keys: ForeignKeys::Replica,
            fenced: true,
            failpoints: hook.map(|hook| FailPoints::asking(move |at| hook(at))).unwrap_or_default(),
        };
        let copier = Copier::new(source.clone(), target, plan.tables, Some(reconciler), params);
        Self { claims, copier, watch: Watch::new(source, id, true), owner }
    }

    async fn claim(&self) -> Chunk {
        match self.claims.claim().await.unwrap() {
            Next::Chunk(chunk) => *chunk,
            other => panic!("a chunk is there, not {other:?}"),
        }
    }

    async fn copy(&self, chunk: &Chunk) -> Result<Copied, CopyHalt> {
        let copied = self.copier.copy(chunk, &Free).await?;
        assert!(self.claims.finish(chunk, &copied).await.unwrap());
        Ok(copied)
    }

    async fn rest(&self) -> Vec<Copied> {
        let mut all = Vec::new();
        while let Next::Chunk(chunk) = self.claims.claim().await.unwrap() {
            all.push(self.copy(&chunk).await.unwrap());
        }
        all
    }

    /// As if it had been silent for too long.
    async fn lease_runs_out(&self, pair: &Pair) {
        pair.target
            .run(&format!(
                "UPDATE segue.backfill_worker SET lease_until = now() - '1 s'::interval \
                 WHERE owner = '{}'",
                self.owner.id
            ))
            .await;
    }
}

/// Runs statements on the source when a chunk passes a place, and reconciles what they wrote.
fn meanwhile(pair: &Pair, place: FailPoint, sql: &'static str) -> Hook {
    let (source, target) = (pair.source.dsn().to_owned(), pair.target.dsn().to_owned());
    Arc::new(move |passed| {
        let (source, target) = (source.clone(), target.clone());
        async move {
            if passed == place {
                crate::support::connect(&source).await.batch_execute(sql).await.unwrap();
                drain(&source, &target).await;
            }
            false
        }
        .boxed()
    })
}

/// The same, and then ends the chunk at another place as if the process had ended.
fn and_crash_at(hook: Hook, crash: FailPoint) -> Hook {
    Arc::new(move |passed| {
        let before = hook(passed);
        async move { before.await || passed == crash }.boxed()
    })
}

/// Works off the outbox as a sidecar does.
async fn drain(source: &str, target: &str) {
    let (from, to) = (pool(Side::Source, source, None), pool(Side::Target, target, None));
    let params = reconcile::Params::new(Arc::new(|| 0.5));
    let reconciler = Reconciler::new(from.clone(), to, Side::Source, params);
    let worker = OutboxWorker::new(Outbox::new(from), Arc::new(reconciler), BatchParams::default());
    while worker.work().await.unwrap().rows > 0 {}
}

async fn drained_and_equal(pair: &Pair) {
    drain(pair.source.dsn(), pair.target.dsn()).await;
    same_rows(pair, ROWS, ROWS).await;
}

const CHANGES: &str = "DELETE FROM app.t WHERE id = 12; UPDATE app.t SET code = 'new' WHERE id = 13; \
    UPDATE app.t SET id = 99 WHERE id = 14; DELETE FROM app.t WHERE id = 15; \
    INSERT INTO app.t VALUES (15, 'again'); INSERT INTO app.t VALUES (16000, 'far'), (-1, 'near')";

/// Step 3: what was deleted, changed or moved after the snapshot, and forgotten before the
/// chunk's commit, does not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_after_the_snapshot_is_looked_at_again() {
    let places = [
        FailPoint::AfterSnapshot,
        FailPoint::BeforeChunkCommit,
        FailPoint::AfterChunkCommit,
        FailPoint::BeforeChunkDone,
    ];
    for (load, place) in [Load::Copy, Load::Insert].map(|load| places.map(|it| (load, it))).concat()
    {
        // Rows that the chunk holds locked make the other side's reconcile wait for its commit.
        let pair = captured("int").await;
        let reconcile_waits = place == FailPoint::BeforeChunkCommit;
        let hook = if reconcile_waits {
            unreconciled(&pair, place)
        } else {
            meanwhile(&pair, place, CHANGES)
        };
        let process = Process::by(load, &pair, 1000, Some(hook)).await;
        let copied = process.copy(&process.claim().await).await.unwrap();
        assert_eq!((copied.rows, copied.failed), (20, 0), "by {load:?} at {place}");
        drained_and_equal(&pair).await;
    }
}

/// Stops whoever passes `place`, which is told of, until it is woken; and ends it at `end`.
fn held_at(place: FailPoint, end: Option<FailPoint>) -> (Hook, Arc<Notify>, Arc<Notify>) {
    let (stopped, wakes) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&stopped), Arc::clone(&wakes));
    let hook: Hook = Arc::new(move |passed| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            if passed == place {
                tell.notify_one();
                wait.notified().await;
            }
            end == Some(passed)
        }
        .boxed()
    });
    (hook, stopped, wakes)
}

fn unreconciled(pair: &Pair, place: FailPoint) -> Hook {
    let source = pair.source.dsn().to_owned();
    Arc::new(move |passed| {
        let source = source.clone();
        async move {
            if passed == place {
                crate::support::connect(&source).await.batch_execute(CHANGES).await.unwrap();
            }
            false
        }
        .boxed()
    })
}

/// The empty A: the first attempt's image is stale, and what tells of it was captured before
/// the second attempt's snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_begun_again_takes_nothing_for_granted() {
    begun_again(Load::Copy, Way::Staged).await;
    begun_again(Load::Insert, Way::Straight).await;
}

async fn begun_again(load: Load, way: Way) {
    let pair = captured("int").await;
    let hook = and_crash_at(
        meanwhile(&pair, FailPoint::AfterSnapshot, CHANGES),
        FailPoint::AfterChunkCommit,
    );
    let first = Process::by(load, &pair, 1000, Some(hook)).await;
    let chunk = first.claim().await;
    let ended = first.copier.copy(&chunk, &Free).await.unwrap_err();
    assert_eq!(ended, CopyHalt::Again(format!("ended at {}", FailPoint::AfterChunkCommit)));
    let stale = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM app.t WHERE id = 12";
    assert_eq!(pair.target.rows(stale).await, ["12"], "the first attempt's image is stale");
    let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
    assert_eq!(pair.source.rows(waiting).await, ["0"], "and all that tells of it is forgotten");

    first.lease_runs_out(&pair).await;
    let second = Process::by(load, &pair, 1000, None).await;
    let again = second.claim().await;
    assert_eq!((again.id, again.attempt, again.begun_at), (chunk.id, 2, chunk.begun_at));
    let copied = second.copy(&again).await.unwrap();
    assert_eq!(copied.way, way, "by {load:?}");
    same_rows(&pair, ROWS, ROWS).await;
}

/// The claim's generation: a process that was stopped after its snapshot wakes when another one
/// has copied its chunk, and ends before it could look at the outbox.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_been_replaced_does_not_write_when_it_wakes() {
    let pair = captured("int").await;
    let (hook, stopped, wakes) =
        held_at(FailPoint::AfterSnapshot, Some(FailPoint::AfterChunkCommit));
    let old = Arc::new(Process::of(&pair, 1000, Some(hook)).await);
    let chunk = old.claim().await;
    let sleeper = Arc::clone(&old);
    let asleep = tokio::spawn(async move { sleeper.copier.copy(&chunk, &Free).await });
    stopped.notified().await;

    old.lease_runs_out(&pair).await;
    pair.source.run(CHANGES).await;
    drain(pair.source.dsn(), pair.target.dsn()).await;
    let new = Process::of(&pair, 1000, None).await;
    assert_eq!(new.claim().await.attempt, 2);
    // Its sessions are ended by whoever renews a lease; here it wakes with new ones.
    let done = new.claims.progress().await.unwrap();
    assert_eq!(done[0].chunks_claimed, 1);
    wakes.notify_one();
    assert_eq!(asleep.await.unwrap(), Err(CopyHalt::Lost));
    assert!(pair.target.rows("SELECT FROM app.t WHERE id IN (12, 14)").await.is_empty());
}

/// What a stopped process holds open on the target is ended when its lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sessions_of_who_is_silent_too_long_are_ended() {
    let pair = captured("int").await;
    let (hook, stopped, wakes) = held_at(FailPoint::BeforeChunkCommit, None);
    let old = Arc::new(Process::of(&pair, 1000, Some(hook)).await);
    let chunk = old.claim().await;
    let (sleeper, its_chunk) = (Arc::clone(&old), chunk.clone());
    let asleep = tokio::spawn(async move { sleeper.copier.copy(&its_chunk, &Free).await });
    stopped.notified().await;
    old.lease_runs_out(&pair).await;

    let new = Process::of(&pair, 1000, None).await;
    let taken = eventually("the chunk can be taken over", ENDS, || async {
        new.claims.renew(&Beat::default()).await.unwrap();
        match new.claims.claim().await.unwrap() {
            Next::Chunk(chunk) => Some(*chunk),
            _ => None,
        }
    })
    .await;
    assert_eq!((taken.id, taken.attempt), (chunk.id, 2));
    new.copy(&taken).await.unwrap();
    wakes.notify_one();
    assert!(matches!(asleep.await.unwrap(), Err(CopyHalt::Away(_))));
    assert_eq!(old.claims.again(&chunk).await.unwrap(), None, "it is another's by now");
    drained_and_equal(&pair).await;
}

fn upkeep(pair: &Pair) -> OutboxUpkeep {
    let params = UpkeepParams {
        window: Duration::ZERO,
        lock_wait: Duration::from_millis(200),
        bytes_max: 1 << 30,
        idempotency_kept: Duration::from_secs(3600),
        rows_max: 10_000,
    };
    OutboxUpkeep::new(Outbox::new(pool(Side::Source, pair.source.dsn(), None)), params)
}

/// Moves what is in the outbox to a part of the ring that may be emptied.
async fn outbox_rests(pair: &Pair) {
    let resting = "((floor(extract(epoch FROM now()) / 600)::int8 + 5) % 12)::int2";
    pair.source.run(&format!("UPDATE segue.outbox SET slot = {resting}")).await;
}

/// The guard: what a chunk under way needs is kept. And where it is gone all the same, that is
/// noticed, and the chunk's whole range is made equal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ring_keeps_what_a_chunk_needs_and_tells_what_it_removed() {
    // A text key in a collation of its own has no range on the target: the table is asked for.
    for key in ["int", "text COLLATE \"en-x-icu\""] {
        let changes = if key == "int" { CHANGES } else { "DELETE FROM app.t WHERE id = '12'" };
        let pair = captured(key).await;
        let hook = and_crash_at(
            meanwhile(&pair, FailPoint::AfterSnapshot, changes),
            FailPoint::AfterChunkCommit,
        );
        let first = Process::of(&pair, 1000, Some(hook)).await;
        first.watch.look(None).await.unwrap();
        let chunk = first.claim().await;
        first.watch.look(Some(chunk.begun_at)).await.unwrap();
        first.copier.copy(&chunk, &Free).await.unwrap_err();
        outbox_rests(&pair).await;
        assert_eq!(upkeep(&pair).truncate_ring().await.unwrap(), 0, "it is held");
        first.watch.release().await.unwrap();
        assert_eq!(upkeep(&pair).truncate_ring().await.unwrap(), 1, "nobody holds it");
        assert!(pair.source.rows("SELECT FROM segue.outbox").await.is_empty());

        first.lease_runs_out(&pair).await;
        let second = Process::of(&pair, 1000, None).await;
        second.rest().await;
        let asked = pair.source.rows("SELECT count(*) FROM segue.outbox WHERE key IS NULL").await;
        assert_eq!(asked, [if key == "int" { "0" } else { "1" }]);
        drained_and_equal(&pair).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncate_on_the_way_leaves_nothing_behind() {
    let pair = captured("int").await;
    let changes = "TRUNCATE app.t; INSERT INTO app.t VALUES (13, 'after')";
    let process =
        Process::of(&pair, 1000, Some(meanwhile(&pair, FailPoint::AfterSnapshot, changes))).await;
    process.rest().await;
    drained_and_equal(&pair).await;
    assert_eq!(pair.target.rows("SELECT count(*) FROM app.t").await, ["1"]);
}

/// A row whose unique value is held by a stale row is not passed over: both are reconciled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_others_hold_back_are_reconciled_with_them() {
    let pair = captured("int").await;
    pair.source.run("UPDATE app.t SET code = code WHERE id IN (11, 12)").await;
    drain(pair.source.dsn(), pair.target.dsn()).await;
    // The target's rows become stale, and nobody works off the outbox.
    pair.source
        .run("UPDATE app.t SET code = 'other' WHERE id = 11; UPDATE app.t SET code = 'c11' WHERE id = 20; \
            DELETE FROM app.t WHERE id = 12; UPDATE app.t SET code = 'c12' WHERE id = 21")
        .await;
    let process = Process::of(&pair, 1000, None).await;
    let copied = process.copy(&process.claim().await).await.unwrap();
    assert_eq!((copied.way, copied.failed), (Way::Staged, 0));
    assert!(copied.reconciled >= 2, "{copied:?}");
    same_rows(&pair, ROWS, ROWS).await;
}

/// Rows that come between the look and the `COPY` send it the other way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_was_empty_a_moment_ago_goes_through_staging() {
    for load in [Load::Copy, Load::Insert] {
        let pair = captured("int").await;
        let process = Process::by(load, &pair, 7, None).await;
        let chunk = process.claim().await;
        // It looks empty by its own order, and is not: the unique value is another range's.
        pair.target.run("INSERT INTO app.t VALUES (29, 'c10')").await;
        let copied = process.copy(&chunk).await.unwrap();
        assert_eq!((copied.way, copied.rows), (Way::Staged, 7), "by {load:?}");
        pair.source.run("UPDATE app.t SET code = code WHERE id IN (10, 29)").await;
        process.rest().await;
        drained_and_equal(&pair).await;
    }
}

/// A row that a live write brought is no older than the chunk's image of it, and stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_leaves_what_is_there_and_passes_over_nothing_else() {
    let pair = captured("int").await;
    let process = Process::by(Load::Insert, &pair, 1000, None).await;
    let chunk = process.claim().await;
    // The unique values of 13 to 18 are held by rows that the source no longer has.
    pair.target
        .run(
            "INSERT INTO app.t VALUES (12, 'live'); \
             INSERT INTO app.t SELECT 900 + n, 'c' || n FROM generate_series(13, 18) AS n",
        )
        .await;
    let copied = process.copy(&chunk).await.unwrap();
    assert_eq!((copied.way, copied.rows, copied.failed), (Way::Staged, 20, 0));
    assert_eq!(copied.reconciled, 6, "those that were held back, and no other");
    assert_eq!(pair.target.rows("SELECT code FROM app.t WHERE id = 12").await, ["live"]);
    let there = "SELECT count(*) FROM app.t WHERE id BETWEEN 10 AND 29";
    assert_eq!(pair.target.rows(there).await, ["20"]);
}

/// Capture that was switched off in the middle makes all of it worthless, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_capture_ends_the_copy() {
    let pair = captured("int").await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    let process = Process::of(&pair, 7, None).await;
    process.copy(&process.claim().await).await.unwrap();
    segue.set_phase("source_only").await;
    segue.set_phase("dual_write").await;
    let ended = process.copier.copy(&process.claim().await, &Free).await.unwrap_err();
    assert!(
        matches!(&ended, CopyHalt::Void(reason) if reason.contains("capture was switched off"))
    );
}

/// Makes the target the primary, as a cutover's members do.
async fn promote(pair: &Pair) {
    let pools = Sides {
        source: pool(Side::Source, pair.source.dsn(), None),
        target: pool(Side::Target, pair.target.dsn(), None),
    };
    let store = ControlTable::new(pools);
    let row = store.read(Side::Target).await.unwrap().unwrap();
    let to = ControlChange {
        state: ControlState { epoch: row.state.epoch + 1, phase: Phase::Reversed },
        revision: row.revision + 1,
        target_percentage: Percentage::ZERO,
        held: false,
        reads_off: None,
        reason: "a test".to_owned(),
        changed_by: "a test".to_owned(),
        event: None,
    };
    assert!(store.compare_and_set(Side::Target, Some(row.version()), to).await.unwrap());
}

async fn copies_can_be_locked_out(pair: &Pair) -> bool {
    let sql = format!("SELECT pg_try_advisory_xact_lock({CLASS}, {COPIES})");
    pair.target.rows(&sql).await == ["t"]
}

/// A chunk holds the lock of copies from before its first row to its commit. The target is made
/// the primary only after it, or the chunk is ended; and a chunk that comes later is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_asleep_does_not_write_to_a_target_that_became_the_primary() {
    for (place, locked) in [(FailPoint::AfterSnapshot, false), (FailPoint::BeforeChunkCommit, true)]
    {
        let pair = captured("int").await;
        let (hook, stopped, wakes) = held_at(place, None);
        let process = Arc::new(Process::of(&pair, 1000, Some(hook)).await);
        let chunk = process.claim().await;
        let (sleeper, its_chunk) = (Arc::clone(&process), chunk.clone());
        let asleep = tokio::spawn(async move { sleeper.copier.copy(&its_chunk, &Free).await });
        stopped.notified().await;
        assert_eq!(copies_can_be_locked_out(&pair).await, !locked, "at {place}");
        promote(&pair).await;
        // An application's row, which the chunk's copy of it would have been put beside.
        pair.target.run("INSERT INTO app.t VALUES (12, 'new')").await;
        wakes.notify_one();
        let ended = asleep.await.unwrap().unwrap_err();
        let refused =
            |halt: &CopyHalt| matches!(halt, CopyHalt::Void(why) if why.contains("no shadow"));
        match place {
            FailPoint::AfterSnapshot => assert!(refused(&ended), "{ended:?}"),
            _ => {
                assert!(matches!(ended, CopyHalt::Away(_)), "its session is ended: {ended:?}");
                let again = process.claims.again(&chunk).await.unwrap().unwrap();
                wakes.notify_one();
                let ended = process.copier.copy(&again, &Free).await.unwrap_err();
                assert!(refused(&ended), "{ended:?}");
            }
        }
        assert_eq!(pair.target.rows(ROWS).await, ["12|new"], "at {place}");
    }
}

/// No primary is emptied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_became_the_primary_is_not_emptied() {
    let pair = captured("int").await;
    let process = Process::of(&pair, 1000, None).await;
    process.claims.leave().await.unwrap();
    promote(&pair).await;
    pair.target.run("INSERT INTO app.t VALUES (12, 'new')").await;
    let (source, target) =
        (pool(Side::Source, pair.source.dsn(), None), pool(Side::Target, pair.target.dsn(), None));
    let name = TableName::new("app", "t");
    let mapping = TableMapping { source: name.clone(), target: name };
    let (registered, _) = plan::registered(&source, &[mapping]).await.unwrap();
    let plan = plan::plan(&source, &target, &registered, 1000, Load::Copy).await.unwrap();
    let fault = admit::empty_target(&target, &plan, true).await.unwrap_err();
    assert_eq!(fault.reason, Reason::FenceNotShadow, "{fault:?}");
    assert_eq!(pair.target.rows(ROWS).await, ["12|new"]);
}
