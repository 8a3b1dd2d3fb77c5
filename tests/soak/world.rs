//! Two databases, proxies before them, two sidecars, and what befalls them.

use std::time::{Duration, Instant};

use crate::ledger::{SOURCE_SCHEMA, TARGET_SCHEMA};
use crate::plan::{Event, Fault, SIDECARS, Victim};
use crate::support::{Database, Durability, Hogs, Major, Options, Pair, Proxy, Segue, Server};
use crate::{direct, shifted, traps};

/// Few connections, so that somebody else can take them all, and a window that is soon over:
/// whenever a server was restarted, all of it is reconciled again.
const CONNECTIONS: &str = "80";
const POOLS: &str =
    "read_pool_max = 5\nwrite_pool_max = 8\nown_pool_max = 6\npool_wait_max = \"2s\"";
pub const SECTIONS: &str = "[outbox]\nbackoff_max = \"1s\"\nforgotten_window = \"30s\"\n\
    capture_check_interval = \"2s\"\nmax_bytes = \"1MiB\"\n\
    [limits]\nmemory = \"24MiB\"\n\
    [control]\nlease = \"5s\"\n\
    [sampling]\nrate = 0.2\nlook_again_after = \"100ms\"\n";
const OPEN: &str = "[transactions]\nopen_max = 4\n";
/// As it stands in [`SECTIONS`].
pub const LEASE: Duration = Duration::from_secs(5);
/// The tables of the ledger.
const TABLES: &str = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
    WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
/// Between two looks at whether the clients are well.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A sidecar that was killed serves again within this time, the faults of others included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Kilobytes that a sidecar may have at the end.
const MEMORY_MAX_KB: u64 = 300_000;

/// A database and the way to it.
pub struct Side {
    pub server: Server,
    pub proxy: Proxy,
    dsn: String,
}

pub struct World {
    // Dropped before its servers.
    pub pair: Pair,
    /// Another target, and a sidecar whose configuration names it.
    elsewhere: Database,
    untouched: Vec<String>,
    stray: Segue,
    pub sidecars: Vec<Segue>,
    pub source: Side,
    pub target: Side,
}

// === impl World ===

impl World {
    pub async fn start() -> Self {
        let options = Options { durability: Durability::Fsync, ..Options::default() }
            .with("max_connections", CONNECTIONS);
        // Errors of the source are in another language.
        let german = Options { language: Some("de_DE"), ..options.clone() };
        let source = Server::start(Major::V15, &german);
        let target = Server::start(Major::V18, &options);
        let pair = Pair::within(&source, &target, SOURCE_SCHEMA, TARGET_SCHEMA).await;
        traps::prepare(&pair).await;
        let side = |server: Server, dsn: &str| {
            let proxy = Proxy::start(server.port());
            Side { server, proxy, dsn: dsn.to_owned() }
        };
        let source = side(source, pair.source.dsn());
        let target = side(target, pair.target.dsn());
        let mut sidecars = Vec::new();
        for number in 0..SIDECARS {
            let table = |side: &Side, name: &str| {
                let dsn = side.server.dsn_by_port(name, side.proxy.port());
                format!("dsn = \"{dsn}\"\napplication = \"user={}\"\n{POOLS}", traps::APPLICATION)
            };
            let mut segue = Segue::prepare_with(
                &table(&source, pair.source.name()),
                &table(&target, pair.target.name()),
                &format!("{SECTIONS}{OPEN}{}{}", traps::EXCLUDED, shifted::ROUTING),
            );
            if number == 0 {
                segue.init_in("shadow_read").await;
            }
            segue.serve().await;
            sidecars.push(segue);
        }
        let elsewhere = Database::create(&target.server, TARGET_SCHEMA).await;
        let stray = Segue::prepare(
            &source.server.dsn_by_port(pair.source.name(), source.proxy.port()),
            &target.server.dsn_by_port(elsewhere.name(), target.proxy.port()),
            &format!("{SECTIONS}{OPEN}{}{}", traps::EXCLUDED, shifted::ROUTING),
        );
        let untouched = contents(&elsewhere).await;
        Self { pair, elsewhere, untouched, stray, sidecars, source, target }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.sidecars.iter().map(Segue::sql_address).collect()
    }

    /// Kilobytes of each sidecar.
    pub fn memory_kb(&self) -> Vec<u64> {
        self.sidecars.iter().map(Segue::memory_kb).collect()
    }

    /// No sidecar has panicked, nor grown without bound, nor found a difference that is none.
    pub fn is_sound(&self) {
        for segue in &self.sidecars {
            assert!(!segue.logs().contains("panicked"), "{}", segue.logs());
            assert!(segue.memory_kb() < MEMORY_MAX_KB, "{} kB", segue.memory_kb());
        }
        let output = self.sidecars[0].run(&["mismatches", "--json", "--limit", "1000"]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        // What the program on the target has changed is different there until it is undone.
        let is_true = |it: &serde_json::Value| {
            let statement = it["statement"].as_str().unwrap_or_default();
            direct::DRIFTED.iter().any(|table| statement.contains(table))
        };
        let is_data = |it: &&serde_json::Value| it["verdict"] == "data" && !is_true(it);
        let wrong: Vec<_> = found.as_array().unwrap().iter().filter(is_data).collect();
        assert!(wrong.is_empty(), "differences that are none: {wrong:#?}");
    }

    /// A sidecar is started whose configuration names another target.
    pub fn let_one_stray(&mut self) {
        self.stray.spawn();
    }

    /// It has refused, or not found that target at all while it was ill, and written nothing there.
    pub async fn has_written_nothing(&mut self) {
        self.stray.kill();
        let logs = self.stray.logs();
        assert!(!logs.contains("panicked"), "{logs}");
        assert_eq!(
            contents(&self.elsewhere).await,
            self.untouched,
            "another target was written to"
        );
    }

    /// Everything that one round has in store, with `well` asked all the time. Afterwards all
    /// are well again.
    pub async fn suffer(&mut self, round: &[Event], well: impl Fn()) {
        let Self { sidecars, source, target, .. } = self;
        let begun = Instant::now();
        let of = |wanted: fn(Victim) -> bool| {
            round.iter().copied().filter(move |event| wanted(event.victim))
        };
        let of_sidecars = async {
            for event in of(|victim| matches!(victim, Victim::Sidecar(_))) {
                until(begun, event.at).await;
                let Victim::Sidecar(number) = event.victim else { continue };
                befall_sidecar(&mut sidecars[number], &event).await;
            }
        };
        let of_source = async {
            for event in of(|victim| victim == Victim::Source) {
                until(begun, event.at).await;
                source.befall(&event).await;
            }
        };
        let of_target = async {
            for event in of(|victim| victim == Victim::Target) {
                until(begun, event.at).await;
                target.befall(&event).await;
            }
        };
        let watching = async {
            loop {
                well();
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::select! {
            _ = async { tokio::join!(of_sidecars, of_source, of_target) } => {}
            () = watching => {}
        }
        // What is still on its way from sidecars that are gone must not arrive later.
        self.source.proxy.reset();
        self.target.proxy.reset();
    }
}

/// Every table of a database, with its rows.
async fn contents(database: &Database) -> Vec<String> {
    let mut all = Vec::new();
    for table in database.rows(TABLES).await {
        let rows = database.rows(&format!("SELECT t::text FROM {table} AS t ORDER BY 1")).await;
        all.push(format!("{table}: {rows:?}"));
    }
    all
}

async fn until(begun: Instant, at: Duration) {
    tokio::time::sleep(at.saturating_sub(begun.elapsed())).await;
}

async fn befall_sidecar(segue: &mut Segue, event: &Event) {
    match event.fault {
        Fault::Stall => {
            segue.signal("STOP");
            tokio::time::sleep(event.lasting).await;
            segue.signal("CONT");
        }
        _ => {
            segue.kill();
            tokio::time::sleep(event.lasting).await;
            // Where a database is ill it may not stay; whoever looks after it starts it again.
            let begun = Instant::now();
            while !segue.try_serve().await {
                assert!(begun.elapsed() < START_LIMIT, "no start: {}", segue.logs());
            }
        }
    }
}

// === impl Side ===

impl Side {
    async fn befall(&self, event: &Event) {
        let lasting = tokio::time::sleep(event.lasting);
        match event.fault {
            Fault::Kill => {
                self.server.kill();
                lasting.await;
                self.server.restart();
            }
            Fault::Stall => {
                self.server.stall();
                lasting.await;
                self.server.resume();
            }
            Fault::Cut(byte) => {
                self.proxy.cut_after(byte);
                lasting.await;
            }
            Fault::Reset => {
                self.proxy.reset();
                lasting.await;
            }
            Fault::Refuse => {
                self.proxy.refuse(true);
                self.proxy.reset();
                lasting.await;
                self.proxy.refuse(false);
            }
            Fault::Slow(ms) => {
                self.proxy.delay(Duration::from_millis(ms));
                lasting.await;
                self.proxy.delay(Duration::ZERO);
            }
            Fault::Hold => {
                self.proxy.pause();
                lasting.await;
                self.proxy.resume();
            }
            Fault::Full => {
                // It may be killed at the same time.
                let hogs = Hogs::try_take_all(&self.dsn).await;
                lasting.await;
                drop(hogs);
            }
        }
    }
}
