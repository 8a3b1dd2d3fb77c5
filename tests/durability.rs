//! Law 1: what a client was told is on the primary, and comes to the shadow, whatever fails.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod ledger;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::{Ledger, SOURCE_SCHEMA, TARGET_SCHEMA, assert_equal};
use segue::grpc::proto::sql_client::SqlClient;
use support::{Durability, Major, Options, Pair, Segue, Server, eventually};
use tokio::task::JoinSet;
use tonic::transport::Endpoint;

const KEYS_OF_A_CLIENT: u64 = 20;
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Clients that write until told to stop: each its own accounts, all the same counters.
struct Load {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(ledger: &Arc<Ledger>, addresses: &[String], clients: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let address = addresses[usize::try_from(client).unwrap() % addresses.len()].clone();
            tasks.spawn(write_until(client, address, Arc::clone(ledger), Arc::clone(&stop)));
        }
        Self { ledger: Arc::clone(ledger), stop, clients: tasks }
    }

    /// Waits until so many more writes have been acknowledged.
    async fn acknowledged(&self, more: u64) {
        let wanted = self.ledger.acknowledged() + more;
        let what = format!("{wanted} acknowledged writes");
        eventually(&what, DRAIN_LIMIT, || async {
            (self.ledger.acknowledged() >= wanted).then_some(())
        })
        .await;
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

async fn write_until(client: u64, address: String, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) {
    let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
    let mut sql = SqlClient::new(channel);
    let mut step = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        step += 1;
        let key = i64::try_from(client * KEYS_OF_A_CLIENT + step % KEYS_OF_A_CLIENT).unwrap();
        if step.is_multiple_of(5) {
            ledger.count(&mut sql, key % 4 + 1).await;
        } else {
            ledger.write_account(&mut sql, key, step.is_multiple_of(7)).await;
        }
        // A sidecar that is down refuses at once; other tasks must get their turn.
        tokio::task::yield_now().await;
    }
}

async fn outbox_is_empty(pair: &Pair) {
    let source = pair.source.client().await;
    eventually("the outbox is empty", DRAIN_LIMIT, || async {
        let row = source
            .query_one("SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL", &[])
            .await
            .unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    })
    .await;
}

/// Ledger, source and target agree.
async fn everything_agrees(ledger: &Ledger, pair: &Pair) {
    outbox_is_empty(pair).await;
    let (source, target) = (pair.source.client().await, pair.target.client().await);
    for side in [&source, &target] {
        side.batch_execute("SET TIME ZONE 'UTC'").await.unwrap();
    }
    ledger.check("source", &source).await;
    ledger.check("target", &target).await;
    assert_equal(&source, &target).await;
}

fn durable() -> Options {
    Options { durability: Durability::Fsync, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_sidecar_is_killed_under_load() {
    let (source, target) =
        (Server::start(Major::V15, &durable()), Server::start(Major::V18, &durable()));
    let pair = Pair::within(&source, &target, SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let mut segue = Segue::serving(&pair, "shadow_read", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[segue.sql_address()], 8);
    for round in 0..5_u64 {
        load.acknowledged(100 + 37 * round).await;
        segue.kill();
        segue.serve().await;
    }
    load.acknowledged(100).await;
    load.stop().await;
    everything_agrees(&ledger, &pair).await;
    let (acknowledged, unknown, refused) = ledger.totals();
    println!("acknowledged {acknowledged}, unknown {unknown}, not applied {refused}");
    assert!(acknowledged >= 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_that_the_target_is_away() {
    let (source, target) =
        (Server::start(Major::V15, &durable()), Server::start(Major::V18, &durable()));
    let pair = Pair::within(&source, &target, SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[segue.sql_address()], 8);
    load.acknowledged(200).await;
    target.stop_immediate();
    load.acknowledged(500).await;
    target.restart();
    load.acknowledged(200).await;
    target.stall();
    load.acknowledged(500).await;
    target.resume();
    load.acknowledged(200).await;
    load.stop().await;
    let (_, unknown, refused) = ledger.totals();
    assert_eq!((unknown, refused), (0, 0), "a caller noticed");
    everything_agrees(&ledger, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_crashes_keeps_what_was_acknowledged() {
    let (source, target) =
        (Server::start(Major::V15, &durable()), Server::start(Major::V18, &durable()));
    let pair = Pair::within(&source, &target, SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[segue.sql_address()], 8);
    for _ in 0..2 {
        load.acknowledged(200).await;
        source.stop_immediate();
        source.restart();
    }
    load.acknowledged(200).await;
    load.stop().await;
    everything_agrees(&ledger, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_on_the_same_rows_converge() {
    let pair = Pair::fresh(SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let one = Segue::serving(&pair, "dual_write", "").await;
    let mut other = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    other.serve().await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[one.sql_address(), other.sql_address()], 8);
    load.acknowledged(500).await;
    other.kill();
    load.acknowledged(200).await;
    other.serve().await;
    load.acknowledged(500).await;
    load.stop().await;
    everything_agrees(&ledger, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_the_calls_in_progress() {
    let pair = Pair::fresh(SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[segue.sql_address()], 8);
    load.acknowledged(200).await;
    assert!(segue.terminate().await, "{}", segue.logs());
    load.stop().await;
    let (_, unknown, _) = ledger.totals();
    assert_eq!(unknown, 0, "a call in progress was not finished");
    segue.serve().await;
    everything_agrees(&ledger, &pair).await;
}
