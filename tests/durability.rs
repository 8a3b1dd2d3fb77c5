//! Law 1: what a client was told is on the primary, and comes to the shadow, whatever fails.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]
#![allow(clippy::print_stdout)]

mod ledger;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::{Ledger, SOURCE_SCHEMA, TARGET_SCHEMA, assert_equal};
use segue::grpc::proto::sql_client::SqlClient;
use support::{Durability, Major, Options, Pair, Proxy, Segue, Server, eventually};
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
    assert_eq!(unknown, 0, "a call in progress was not finished: {:#?}", ledger.doubts());
    segue.serve().await;
    everything_agrees(&ledger, &pair).await;
}

/// The longest that a call may take while the target is unwell: far above what a busy machine
/// does to it, far below any of segue's limits on the target.
const CALL_MAX: Duration = Duration::from_secs(4);

/// A target that ails, and callers that must not notice.
struct Ailing {
    pair: Pair,
    target: Server,
    proxy: Proxy,
    segue: Segue,
    ledger: Arc<Ledger>,
    load: Load,
    _source: Server,
}

impl Ailing {
    async fn start() -> Self {
        let source = Server::start(Major::V15, &durable());
        let settings = durable().with("max_connections", "25");
        let target = Server::start(Major::V18, &settings);
        let pair = Pair::within(&source, &target, SOURCE_SCHEMA, TARGET_SCHEMA).await;
        let proxy = Proxy::start(target.port());
        let by_proxy = target.dsn_by_port(pair.target.name(), proxy.port());
        let sections = "[outbox]\nbackoff_max = \"1s\"";
        let mut segue = Segue::prepare(pair.source.dsn(), &by_proxy, sections);
        segue.succeed(&["init", "--phase", "shadow_read"]);
        segue.serve().await;
        let ledger = Arc::new(Ledger::default());
        let load = Load::start(&ledger, &[segue.sql_address()], 8);
        load.acknowledged(300).await;
        Self { pair, target, proxy, segue, ledger, load, _source: source }
    }

    /// So many writes while it ails; none may take long.
    async fn unnoticed(&self, what: &str, writes: u64) {
        let [p50, p99, _] = self.ledger.latencies();
        self.load.acknowledged(writes).await;
        let [ill50, ill99, longest] = self.ledger.latencies();
        println!(
            "{what}: p50 {ill50:?} (well {p50:?}), p99 {ill99:?} (well {p99:?}), longest \
             {longest:?}, {} kB",
            self.segue.memory_kb()
        );
        assert!(longest < CALL_MAX, "{what}: a call took {longest:?}");
    }

    async fn well_again(self) {
        self.load.acknowledged(200).await;
        self.load.stop().await;
        let (_, unknown, refused) = self.ledger.totals();
        assert_eq!((unknown, refused), (0, 0), "a caller noticed");
        everything_agrees(&self.ledger, &self.pair).await;
        drop((self.segue, self.target));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_a_target_without_free_connections() {
    let ailing = Ailing::start().await;
    let mut hogs = Vec::new();
    let first = ailing.pair.target.client().await;
    while let Ok(hog) = support::try_connect(ailing.pair.target.dsn()).await {
        hogs.push(hog);
    }
    // What segue had is ended, and taken before it can have it again.
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE application_name LIKE 'segue%'";
    first.batch_execute(others).await.unwrap();
    while let Ok(hog) = support::try_connect(ailing.pair.target.dsn()).await {
        hogs.push(hog);
    }
    ailing.unnoticed("no connections", 600).await;
    drop((hogs, first));
    ailing.well_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_a_target_that_refuses_them() {
    let ailing = Ailing::start().await;
    let admin = support::connect(&ailing.target.dsn("postgres")).await;
    let name = ailing.pair.target.name();
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await.unwrap();
    let others =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    admin.batch_execute(&others).await.unwrap();
    ailing.unnoticed("refused", 600).await;
    admin.batch_execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await.unwrap();
    ailing.well_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_a_slow_target_nor_answers_cut_in_the_middle() {
    let ailing = Ailing::start().await;
    ailing.proxy.delay(Duration::from_secs(5));
    ailing.unnoticed("5 s late", 1500).await;
    ailing.proxy.delay(Duration::ZERO);
    for bytes in [40, 400, 4_000] {
        ailing.load.acknowledged(100).await;
        ailing.proxy.cut_after(bytes);
        ailing.unnoticed("cut", 150).await;
    }
    ailing.well_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_while_the_target_is_away() {
    let ailing = Ailing::start().await;
    ailing.target.stop_immediate();
    ailing.load.acknowledged(500).await;
    let before = ailing.segue.memory_kb();
    ailing.load.acknowledged(6_000).await;
    // A large transaction of somebody else's as well: the outbox has it, segue has not.
    ailing
        .pair
        .source
        .run("INSERT INTO account (id, version) SELECT n, 0 FROM generate_series(10000, 69999) AS n; \
              DELETE FROM account WHERE id >= 10000")
        .await;
    ailing.load.acknowledged(500).await;
    let away = ailing.segue.memory_kb();
    ailing.target.restart();
    let during = std::cell::Cell::new(0);
    let source = ailing.pair.source.client().await;
    eventually("the backlog drains", 3 * DRAIN_LIMIT, || async {
        during.set(during.get().max(ailing.segue.memory_kb()));
        let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
        let row = source.query_one(waiting, &[]).await.unwrap();
        (row.get::<_, i64>(0) < 1000).then_some(())
    })
    .await;
    println!("memory: {before} kB before, {away} kB away, {} kB at most draining", during.get());
    assert!(away < before + 20_000, "{before} kB became {away} kB");
    assert!(during.get() < before + 60_000, "{before} kB became {} kB", during.get());
    ailing.well_again().await;
}

/// What somebody does to capture behind segue's back is noticed, mended, and made good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_were_missed_are_made_good() {
    let pair = Pair::fresh(SOURCE_SCHEMA, TARGET_SCHEMA).await;
    // What the comparer is told to overlook is copied all the same.
    let sections = "[outbox]\ncapture_check_interval = \"300ms\"\n\
        [[compare.rules]]\ntable = \"public.account\"\ncolumn = \"version\"\nignore = true";
    let mut segue = Segue::serving(&pair, "dual_write", sections).await;
    for (fault, write) in [
        ("ALTER TABLE account DISABLE TRIGGER ALL", "INSERT INTO account VALUES (1, 1)"),
        ("DROP TRIGGER segue_capture_delete ON counter", "DELETE FROM counter WHERE id = 2"),
        (
            "CREATE OR REPLACE FUNCTION segue.capture_3_update() RETURNS trigger \
             LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "UPDATE counter SET n = 5 WHERE id = 3",
        ),
    ] {
        pair.source.run(&format!("BEGIN; {fault}; {write}; COMMIT")).await;
        let (source, target) = (pair.source.client().await, pair.target.client().await);
        let rows = "SELECT (SELECT string_agg(a.id || ' ' || version, ',' ORDER BY a.id) FROM account AS a), \
            (SELECT string_agg(id || ' ' || n, ',' ORDER BY id) FROM counter)";
        eventually(fault, DRAIN_LIMIT, || async {
            let read = |row: tokio_postgres::Row| {
                (row.get::<_, Option<String>>(0), row.get::<_, Option<String>>(1))
            };
            let one = read(source.query_one(rows, &[]).await.unwrap());
            (one == read(target.query_one(rows, &[]).await.unwrap())).then_some(())
        })
        .await;
    }
    // A table without a primary key turns up: it is told, and keeps nobody from the data.
    pair.source.run("CREATE TABLE stray (line text)").await;
    let warned = || async {
        let told = segue.succeed(&["status"]);
        told.contains("public.stray has no primary key").then_some(())
    };
    eventually("the status warns", DRAIN_LIMIT, warned).await;
    assert!(segue.terminate().await);
    segue.serve().await;
    assert!(segue.terminate().await);
    // A table of the migration loses its key: its writes would be lost on the target.
    pair.source.run("ALTER TABLE account DROP CONSTRAINT account_pkey").await;
    let output = segue.run(&["serve"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("public.account") && !told.contains("public.stray"), "{told}");
    assert!(told.contains("tables.exclude"), "{told}");
}
