//! Many writers, many members, faults in between: in the end both sides are equal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use segue::failpoint::{FailPoint, FailPoints};
use segue::jobs::outbox_worker::{Params as ReplayerParams, Replayer, Running};
use segue::ports::ReconcileWaker;
use segue::postgres::reconcile::Params;
use segue::postgres::reconcile::session::ForeignKeys;

use crate::support::{Major, Options, Pair, Proxy, Server, eventually, shared};
use crate::world::{self, Way, assert_equal, drain, waiting};

/// One transaction of a random writer: inserts, updates, deletes, reinserts, key changes,
/// swaps of unique values, children moved between parents. What conflicts is its own fault.
fn transaction(dice: &mut StdRng) -> String {
    let mut sql = String::from("BEGIN;");
    for _ in 0..dice.random_range(1..4) {
        let (one, other) = (dice.random_range(1..40), dice.random_range(1..40));
        let parent = dice.random_range(1..6);
        let text = match dice.random_range(0..9) {
            0 | 1 => format!(
                "INSERT INTO app.item (id, parent_id, code, note, amount) VALUES ({one}, \
                 (SELECT id FROM app.parent WHERE id = {parent}), 'c{other}', 'n', {other}.50) \
                 ON CONFLICT DO NOTHING;"
            ),
            2 | 3 => format!(
                "UPDATE app.item SET note = note || {other}, at = clock_timestamp() WHERE id = {one};"
            ),
            4 => format!("DELETE FROM app.item WHERE id = {one};"),
            5 => format!(
                "UPDATE app.item SET id = {other} WHERE id = {one} \
                 AND NOT EXISTS (SELECT FROM app.item WHERE id = {other});"
            ),
            6 => format!(
                "DO $$ DECLARE a text; b text; BEGIN \
                 SELECT code INTO a FROM app.item WHERE id = {one} FOR UPDATE; \
                 SELECT code INTO b FROM app.item WHERE id = {other} FOR UPDATE; \
                 IF a IS NOT NULL AND b IS NOT NULL AND {one} <> {other} THEN \
                 UPDATE app.item SET code = 'tmp' || {one} || clock_timestamp() WHERE id = {one}; \
                 UPDATE app.item SET code = a WHERE id = {other}; \
                 UPDATE app.item SET code = b WHERE id = {one}; END IF; END $$;"
            ),
            7 => format!(
                "INSERT INTO app.parent VALUES ({parent}, 'p{parent}') ON CONFLICT (id) \
                 DO UPDATE SET name = 'p{parent} ' || {other};"
            ),
            _ => format!(
                "UPDATE app.item SET parent_id = NULL WHERE parent_id = {parent}; \
                 DELETE FROM app.parent WHERE id = {parent};"
            ),
        };
        sql.push_str(&text);
    }
    sql.push_str("COMMIT");
    sql
}

async fn write(dsn: String, seed: u64, stop: Arc<AtomicBool>, committed: Arc<AtomicU64>) {
    let client = crate::support::connect(&dsn).await;
    let mut dice = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        if client.batch_execute(&transaction(&mut dice)).await.is_ok() {
            committed.fetch_add(1, Ordering::Relaxed);
        } else {
            let _ = client.batch_execute("ROLLBACK").await;
        }
    }
}

fn members(way: &Way, count: usize, params: &Params) -> Vec<(Replayer, Running)> {
    (0..count)
        .map(|_| {
            let worker = Arc::new(way.worker_with(params.clone(), world::batch()));
            let replayer = ReplayerParams {
                poll: Duration::from_millis(20),
                away_first: Duration::from_millis(20),
                away_max: Duration::from_millis(200),
                ..ReplayerParams::new(Arc::new(|| rand::random_range(0.0..1.0)))
            };
            Replayer::start(replayer, worker, Arc::new(|_, _| {}))
        })
        .collect()
}

struct Writers {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

fn writers(pair: &Pair, count: u64) -> Writers {
    let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks = (0..count)
        .map(|seed| {
            let dsn = pair.source.dsn().to_owned();
            tokio::spawn(write(dsn, seed, Arc::clone(&stop), Arc::clone(&committed)))
        })
        .collect();
    Writers { stop, committed, tasks }
}

impl Writers {
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.committed.load(Ordering::Relaxed)
    }
}

async fn settled(pair: &Pair, limit: Duration) {
    let begun = Instant::now();
    while !waiting(&pair.source).await.is_empty() {
        assert!(begun.elapsed() < limit, "{:#?}", waiting(&pair.source).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_equal(pair).await;
}

async fn converge(params: Params, seconds: u64) {
    let pair = world::pair().await;
    converge_by(&pair, &Way::forth(&pair), params, seconds).await;
}

pub async fn converge_by(pair: &Pair, way: &Way, params: Params, seconds: u64) {
    let members = members(way, 3, &params);
    let writers = writers(pair, 4);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        members[0].0.wake();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let committed = writers.end().await;
    settled(pair, Duration::from_secs(60)).await;
    eprintln!(
        "{committed} transactions; members: {:?}",
        members.iter().map(|m| m.0.stats()).collect::<Vec<_>>()
    );
    assert!(committed > 100);
    for (_, running) in members {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_members_and_four_writers_on_hot_keys_converge() {
    converge(world::params(), 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_with_foreign_keys_active_on_the_shadow() {
    converge(Params { foreign_keys: ForeignKeys::Active, ..world::params() }, 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_target_stops_in_the_middle_and_comes_back() {
    let source = Server::start(Major::V15, &Options::default());
    let target = Server::start(Major::V18, &Options::default());
    let pair = world::pair_within(&source, &target).await;
    let members = members(&Way::forth(&pair), 2, &world::params());
    let writers = writers(&pair, 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    target.stop_immediate();
    eventually("a member finds the target away", Duration::from_secs(10), || async {
        members[0].0.stats().is_away.then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    target.restart();
    let committed = writers.end().await;
    settled(&pair, Duration::from_secs(60)).await;
    assert!(committed > 100);
    for (_, running) in members {
        running.stop().await;
    }
    drop(pair);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_lost_at_any_step_loses_nothing() {
    for place in FailPoint::OF_A_BATCH.iter().copied() {
        let pair = world::pair().await;
        let crashes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&crashes);
        let failpoints = FailPoints::losing_where(move |at| {
            at == place && counted.fetch_add(1, Ordering::SeqCst) < 3
        });
        let worker =
            Way::forth(&pair).worker_with(Params { failpoints, ..world::params() }, world::batch());
        let writers = writers(&pair, 2);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut lost = 0;
        while lost < 3 {
            use segue::ports::reconcile::OutboxWork;
            lost += u64::from(worker.work().await.is_err());
        }
        assert!(writers.end().await > 10);
        drain(&worker).await;
        settled(&pair, Duration::from_secs(30)).await;
        assert_eq!(crashes.load(Ordering::SeqCst).min(3), 3, "{place} was not passed");
    }
}

/// A slow member reads the primary early and writes late: only the lock, taken before the
/// read, keeps it from putting an old state over a newer one. The last writes of each round
/// are what it would get wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_member_never_puts_an_old_state_over_a_newer_one() {
    let pair = world::pair().await;
    let target = shared(Major::V18);
    let slow = Proxy::start(target.port());
    slow.delay(Duration::from_millis(15));
    let fast_way = Way::forth(&pair);
    let slow_way =
        Way { target: target.dsn_by_port(pair.target.name(), slow.port()), ..fast_way.clone() };
    let mut all = members(&slow_way, 1, &world::params());
    all.extend(members(&fast_way, 1, &world::params()));
    pair.source
        .run("INSERT INTO app.parent SELECT n, 'p' || n FROM generate_series(1, 4) AS n")
        .await;
    let client = pair.source.client().await;
    for round in 0..25 {
        for step in 0..12 {
            let sql = format!("UPDATE app.parent SET name = id || ' {round} {step}'");
            client.batch_execute(&sql).await.unwrap();
            for (replayer, _) in &all {
                replayer.wake();
            }
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        settled(&pair, Duration::from_secs(30)).await;
    }
    for (replayer, running) in all {
        assert!(replayer.stats().batches > 10, "{:?}", replayer.stats());
        running.stop().await;
    }
}
