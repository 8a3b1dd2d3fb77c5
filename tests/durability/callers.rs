//! What callers see of a target that is unwell: nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::{Ledger, Load, SOURCE_SCHEMA, TARGET_SCHEMA, agree};
use crate::support::{self, Hogs, Major, Pair, Proxy, Segue, Server, eventually};
use crate::{World, durable};

const DRAIN_LIMIT: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_that_the_target_is_away() {
    let World { pair, target, source: _source } = World::start().await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::statements(&ledger, &[segue.sql_address()]);
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
    agree(&ledger, &pair).await;
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
        segue.init_in("shadow_read").await;
        segue.serve().await;
        let ledger = Arc::new(Ledger::default());
        let load = Load::statements(&ledger, &[segue.sql_address()]);
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
        agree(&self.ledger, &self.pair).await;
        drop((self.segue, self.target));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_do_not_notice_a_target_without_free_connections() {
    let ailing = Ailing::start().await;
    let hogs = Hogs::take_all(ailing.pair.target.dsn()).await;
    ailing.unnoticed("no connections", 600).await;
    drop(hogs);
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
              DELETE FROM account WHERE id < 70000")
        .await;
    ailing.load.acknowledged(500).await;
    let away = ailing.segue.memory_kb();
    ailing.target.restart();
    let during = std::cell::Cell::new(0);
    let source = ailing.pair.source.client().await;
    eventually("the backlog drains", DRAIN_LIMIT, || async {
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
