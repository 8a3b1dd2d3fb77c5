//! Workloads that lay traps beside the ledger's: functions that leave things in their session,
//! functions that write, transfers whose sum is read back on either side, updates that change only a
//! spelling, exotic types, a table that is not migrated, tables whose rows are other roles' and other
//! tenants', and programs that go past segue (`direct`). All clients of segue are one role, which is
//! not segue's, with settings of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segue::grpc::proto;
use segue::grpc::proto::Side;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::value::Kind;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Endpoint;

use crate::direct::{self, DRIFTING, SLOW, Slow};
use crate::ledger::calls::{Sql, int, statement, text};
use crate::ledger::{COUNTERS, Ledger};
use crate::support::{Pair, eventually};
use crate::{drift, exotic, limits};

/// Tables that both sides have in one form, so that what is stored can be compared to the letter.
const SHARED: &str = "
CREATE TABLE purse (id int PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO purse SELECT i, 1000 FROM generate_series(1, 8) AS i;
CREATE TABLE spelling (
    id int PRIMARY KEY,
    doc json,
    tags jsonb,
    amount numeric,
    parts numeric[],
    far timestamp,
    span int4range,
    address inet
);
INSERT INTO spelling (id) SELECT i FROM generate_series(1, 40) AS i;
CREATE TABLE mine (id int PRIMARY KEY, who name NOT NULL DEFAULT current_user, n int NOT NULL);
INSERT INTO mine VALUES (1, 'somebody', 0), (2, 'soak_app', 0);
ALTER TABLE mine ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON mine USING (who = current_user);
CREATE TABLE rented (id int PRIMARY KEY, tenant text NOT NULL, n int NOT NULL);
INSERT INTO rented SELECT i, i % 2 + 5, 0 FROM generate_series(1, 6) AS i;
ALTER TABLE rented ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenants ON rented USING (tenant = current_setting('soak.tenant', true));
CREATE SEQUENCE order_number;
CREATE TABLE ordered (id text PRIMARY KEY DEFAULT 'ORD-' || nextval('order_number'), n int NOT NULL);";

/// The role of callers' statements.
pub const APPLICATION: &str = "soak_app";

/// What it may do, on either side, and its own settings.
const ROLE: &str = "
CREATE ROLE soak_app LOGIN;
CREATE ROLE soak_nobody;
GRANT soak_nobody TO soak_app;
GRANT SET ON PARAMETER session_replication_role TO soak_app;
GRANT ALL ON ALL TABLES IN SCHEMA public TO soak_app;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO soak_app;
ALTER ROLE soak_app SET search_path = public, pg_temp;
ALTER ROLE soak_app SET soak.house = 'its own';";

/// On the source besides: what leaves things behind, and what is not migrated.
const SOURCE_ALONE: &str = "
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.counter AS TABLE public.counter;
CREATE TABLE elsewhere.purse AS TABLE public.purse;
CREATE TABLE elsewhere.spelling AS TABLE public.spelling;
CREATE TABLE public.journal (n bigint NOT NULL);
GRANT USAGE ON SCHEMA elsewhere TO soak_app;
GRANT ALL ON ALL TABLES IN SCHEMA elsewhere, public TO soak_app;
CREATE FUNCTION leave_path() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('search_path', 'elsewhere, public', false); END $$;
CREATE FUNCTION leave_replica() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('session_replication_role', 'replica', false); END $$;
CREATE FUNCTION leave_role() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('role', 'soak_nobody', false); END $$;
CREATE FUNCTION leave_tenant() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('soak.tenant', '5', false); END $$;
CREATE FUNCTION leave_tables() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN
        CREATE TEMP TABLE IF NOT EXISTS counter AS TABLE public.counter;
        CREATE TEMP TABLE IF NOT EXISTS purse AS TABLE public.purse;
    END $$;
CREATE FUNCTION leave_lock() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(4242); END $$;
CREATE FUNCTION bump(counter int8) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN UPDATE public.counter SET n = n + 1 WHERE id = $1; END $$;";

/// Settings of both databases that segue's own statements must not depend on.
const SETTINGS: [&str; 5] = [
    "enable_indexscan = off",
    "quote_all_identifiers = on",
    "array_nulls = off",
    "plan_cache_mode = force_generic_plan",
    "idle_session_timeout = '20s'",
];

/// The same of the target alone: the source does not know it. It ends the session, and no work of
/// segue's may be cut off by it.
const SETTING_OF_TARGET: &str = "transaction_timeout = '10s'";

/// What is not migrated, for the configuration.
pub const EXCLUDED: &str = "[tables]\nexclude = [\"elsewhere.*\", \"public.journal\"]\n";

/// The functions that leave something behind.
const LEAVING: [&str; 6] =
    ["leave_path", "leave_replica", "leave_role", "leave_tenant", "leave_tables", "leave_lock"];
const TOTAL: i64 = 8 * 1000;
pub const PURSES: i64 = 8;
pub const SPELLED: i64 = 40;

/// Between two calls of one client.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two traps, and between two writes of the program that goes to the target.
pub const TRAP_PAUSE: Duration = Duration::from_millis(150);
const STOP_LIMIT: Duration = Duration::from_secs(180);

/// What stands in one row of `spelling`, in several spellings of few values.
const DOCS: [&str; 5] = [
    "{\"a\":1,\"b\":2}",
    "{\"b\":2,\"a\":1}",
    "{ \"a\": 1, \"b\" : 2 }",
    "{\"a\":1,\"a\":1}",
    "null",
];
const TAGS: [&str; 4] = ["[1.5]", "[1.50]", "[1.500]", "{}"];
const AMOUNTS: [&str; 5] = ["1", "1.0", "1.000", "NaN", "-0.00"];
const PARTS: [&str; 4] = ["{1,2.0}", "{1.0,2}", "{}", "{NULL,1}"];
const FAR: [&str; 4] =
    ["infinity", "294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC", "-infinity"];
const SPANS: [&str; 3] = ["empty", "[1,2)", "(,)"];
const ADDRESSES: [&str; 3] = ["10.0.0.1", "10.0.0.1/31", "::1"];
const SPELL: &str = "UPDATE spelling SET doc = $2::text::json, tags = $3::text::jsonb, \
    amount = $4::text::numeric, parts = $5::text::numeric[], far = $6::text::timestamp, \
    span = $7::text::int4range, address = $8::text::inet WHERE id = $1";
const TRANSFER: &str = "UPDATE purse SET balance = balance + \
    CASE id WHEN $1 THEN -$3 ELSE $3 END WHERE id IN ($1, $2)";

/// What the two databases of the soak have besides the ledger's tables.
pub async fn prepare(pair: &Pair) {
    for database in [&pair.source, &pair.target] {
        for tables in [SHARED, exotic::TABLES, direct::TABLES, drift::TABLES, limits::TABLES] {
            database.run(tables).await;
        }
        database.run(ROLE).await;
    }
    pair.source.run(SOURCE_ALONE).await;
    for database in [&pair.source, &pair.target] {
        for setting in SETTINGS {
            database.run(&format!("ALTER DATABASE {} SET {setting}", database.name())).await;
        }
    }
    let limit = format!("ALTER DATABASE {} SET {SETTING_OF_TARGET}", pair.target.name());
    pair.target.run(&limit).await;
}

/// The clients; a wrong answer ends them with a panic that [`Traps::stop`] passes on.
pub struct Traps {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    /// Writes of the program that goes to the target.
    drifted: Arc<AtomicI64>,
}

struct Shared {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    /// Rows of the table that is not migrated: acknowledged, and perhaps there.
    journal: [AtomicI64; 2],
    /// Totals that the target told.
    sums_there: AtomicI64,
}

// === impl Traps ===

impl Traps {
    /// Starts one client of each kind.
    pub async fn start(
        (ledger, slow): (&Arc<Ledger>, &Arc<Slow>),
        pair: &Pair,
        addresses: &[String],
        seed: u64,
    ) -> Self {
        let rows = pair.source.rows("SELECT count(*) FROM journal").await[0].parse().unwrap();
        let shared = Arc::new(Shared {
            ledger: Arc::clone(ledger),
            stop: Arc::default(),
            journal: [AtomicI64::new(rows), AtomicI64::new(0)],
            sums_there: AtomicI64::new(0),
        });
        let mut clients = JoinSet::new();
        let mut number = 0;
        let mut client = || {
            let address = addresses[number % addresses.len()].clone();
            number += 1;
            let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
            let rng = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
            Client { shared: Arc::clone(&shared), sql: SqlClient::new(channel), rng }
        };
        clients.spawn(client().lay_traps());
        clients.spawn(client().bump());
        clients.spawn(client().transfer());
        clients.spawn(client().read_sums());
        clients.spawn(client().spell());
        clients.spawn(client().keep_a_journal());
        clients.spawn(client().stay_apart());
        clients.spawn(client().be_exotic());
        clients.spawn(client().order());
        let (drifted, stop) = (Arc::<AtomicI64>::default(), &shared.stop);
        let (target, rng) = (pair.target.dsn().to_owned(), StdRng::seed_from_u64(seed));
        let (counted, stopped) = (Arc::clone(&drifted), Arc::clone(stop));
        clients.spawn(direct::write_to_the_target(target, rng, counted, stopped));
        for number in 0..SLOW {
            let source = pair.source.dsn().to_owned();
            clients.spawn(Arc::clone(slow).write(number, source, Arc::clone(stop)));
        }
        Self { shared, clients, drifted }
    }

    /// How often the target was written to past segue.
    pub fn drifted(&self) -> i64 {
        self.drifted.load(Ordering::Relaxed)
    }

    /// Waits until the target has told another total.
    pub async fn target_answers(&self) {
        let told = || self.shared.sums_there.load(Ordering::Relaxed);
        let before = told();
        eventually("the target answers", STOP_LIMIT, || async { (told() > before).then_some(()) })
            .await;
    }

    /// Lets all of them finish what they are at; gives how often the target was written to.
    pub async fn stop(mut self) -> i64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.unwrap();
            }
        };
        tokio::time::timeout(STOP_LIMIT, ended).await.expect("no caller is left hanging");
        self.drifted()
    }
}

/// Both sides store the same, to the letter, and no money was made or lost. What was written to the
/// target in between, so often, is gone, and its writer is named.
pub async fn agree(pair: &Pair, drifted: i64) {
    let notes = "SELECT count(*) FROM segue.foreign_write";
    let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
    eventually("what was written to the target is reconciled", STOP_LIMIT, || async {
        let handed_over = pair.target.rows(notes).await == ["0"];
        (handed_over && pair.source.rows(waiting).await == ["0"]).then_some(())
    })
    .await;
    let named = format!(
        "SELECT count(DISTINCT writer_id), sum(keys) > 0 FROM segue.foreign_writer \
         WHERE application_name = '{DRIFTING}'"
    );
    if drifted > 0 {
        assert_eq!(pair.source.rows(&named).await, ["1|t"], "{drifted} writes to the target");
    }
    for sql in [
        "SELECT * FROM purse ORDER BY id",
        "SELECT id, doc::text, tags::text, amount::text, parts::text, far::text, span::text, \
         address::text FROM spelling ORDER BY id",
        "SELECT * FROM mine ORDER BY id",
        "SELECT * FROM rented ORDER BY id",
        "SELECT * FROM exotic ORDER BY id",
        "SELECT * FROM slow ORDER BY id",
        "SELECT * FROM unwatched ORDER BY id",
        "SELECT * FROM ordered ORDER BY id",
        "SELECT count(*), sum(v), md5(string_agg(concat(id, ' ', v), ',' ORDER BY id)) FROM bulk",
        "SELECT id, length(body), md5(body) FROM wide ORDER BY id",
    ] {
        let (ours, theirs) = (pair.source.rows(sql).await, pair.target.rows(sql).await);
        for (one, other) in ours.iter().zip(&theirs) {
            assert_eq!(one, other, "source and target differ: {sql}");
        }
        assert_eq!(ours.len(), theirs.len(), "rows are missing: {sql}");
    }
    let sum = pair.source.rows("SELECT sum(balance) FROM purse").await;
    assert_eq!(sum, [TOTAL.to_string()], "transfers changed the total");
    let own = "SELECT (SELECT n > 0 FROM mine WHERE who = 'soak_app') AND sum(n) > 0 FROM rented";
    assert_eq!(pair.source.rows(own).await, ["t"], "callers write what is their own");
    let foreign = "SELECT n FROM mine WHERE who <> 'soak_app'";
    assert_eq!(pair.source.rows(foreign).await, ["0"], "a row of another role was written");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242";
    assert_eq!(pair.source.rows(locks).await, ["0"], "a lock of a caller's function is left");
}

struct Client {
    shared: Arc<Shared>,
    sql: Sql,
    rng: StdRng,
}

// === impl Client ===

impl Client {
    fn goes_on(&self) -> bool {
        !self.shared.stop.load(Ordering::Relaxed)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.random_range(0..of.len())]
    }

    async fn execute(
        &mut self,
        sql: &str,
        params: Vec<proto::Value>,
    ) -> Result<proto::ExecuteResponse, Status> {
        let statement = Some(statement(sql, params));
        let request = proto::ExecuteRequest { statement, ..Default::default() };
        self.sql.execute(request).await.map(tonic::Response::into_inner)
    }

    /// The first cell of an answer that came to its end; nothing where the call failed.
    async fn first(&mut self, sql: &str) -> Option<Option<Kind>> {
        Some(self.first_of(sql).await?.0)
    }

    /// The same with the side that answered.
    async fn first_of(&mut self, sql: &str) -> Option<(Option<Kind>, Side)> {
        let statement = Some(statement(sql, Vec::new()));
        let request = proto::QueryRequest { statement, ..Default::default() };
        let mut stream = self.sql.query(request).await.ok()?.into_inner();
        let (mut first, mut side) = (None, None);
        while let Some(response) = stream.message().await.ok()? {
            let row = response.typed_rows().into_iter().next();
            first = first.or_else(|| row.map(|row| row.values[0].kind.clone()));
            side = response.footer.map(|end| end.side());
        }
        let side =
            side.unwrap_or_else(|| panic!("an answer was cut short without an error: {sql}"));
        Some((first?, side))
    }

    /// Calls a function that leaves something in its session; then asks what is there.
    async fn lay_traps(mut self) {
        while self.goes_on() {
            let function = self.pick(&LEAVING);
            let _ = self.execute(&format!("SELECT {function}()"), Vec::new()).await;
            let tenant = "SELECT coalesce(current_setting('soak.tenant', true), '')";
            if let Some(found) = self.first(tenant).await {
                assert_eq!(found, Some(Kind::Text(String::new())), "another caller's setting");
            }
            tokio::time::sleep(TRAP_PAUSE).await;
        }
    }

    /// Writes by a function, which no text of a statement tells.
    async fn bump(mut self) {
        while self.goes_on() {
            let counter = self.rng.random_range(1..=COUNTERS);
            let ledger = Arc::clone(&self.shared.ledger);
            ledger.count_by_function(&mut self.sql, counter).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn transfer(mut self) {
        while self.goes_on() {
            let from = self.rng.random_range(1..=PURSES);
            let to = from % PURSES + 1;
            let amount = self.rng.random_range(1..100);
            // Whatever became of it: the total stays.
            let _ = self.execute(TRANSFER, vec![int(from), int(to), int(amount)]).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read_sums(mut self) {
        while self.goes_on() {
            let sql = "SELECT sum(balance)::int8 FROM purse";
            if let Some((found, side)) = self.first_of(sql).await {
                assert_eq!(found, Some(Kind::Int64(TOTAL)), "{side:?}: a total that never was");
                let there = i64::from(side == Side::Target);
                self.shared.sums_there.fetch_add(there, Ordering::Relaxed);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn spell(mut self) {
        while self.goes_on() {
            let id = self.rng.random_range(1..=SPELLED);
            let mut params = vec![int(id)];
            for of in [&DOCS[..], &TAGS, &AMOUNTS, &PARTS, &FAR, &SPANS, &ADDRESSES] {
                params.push(text(self.pick(of)));
            }
            let _ = self.execute(SPELL, params).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sees and writes its own rows alone, whatever others have left in the session, and as its own
    /// role with its own settings.
    async fn stay_apart(mut self) {
        let own = "SELECT concat_ws('|', current_user, session_user, \
            current_setting('search_path'), current_setting('soak.house', true), \
            (SELECT count(*) FROM mine), (SELECT count(*) FROM rented))";
        let wanted = "soak_app|soak_app|public, pg_temp|its own|1|0";
        while self.goes_on() {
            if let Some(found) = self.first(own).await {
                assert_eq!(found, Some(Kind::Text(wanted.to_owned())), "not a caller's own view");
            }
            for table in ["mine", "rented"] {
                let write = format!("UPDATE {table} SET n = n + 1");
                if let Ok(done) = self.execute(&write, Vec::new()).await {
                    let rows = if table == "mine" { 1 } else { 0 };
                    assert_eq!(done.affected_rows(), rows, "{table}: rows of others were written");
                }
            }
            self.rent().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A tenant of one transaction.
    async fn rent(&mut self) {
        let tenant = self.pick(&["5", "6"]);
        let statements = [
            format!("SELECT set_config('soak.tenant', '{tenant}', true)"),
            "UPDATE rented SET n = n + 1".to_owned(),
        ];
        let statements = statements.iter().map(|sql| statement(sql, Vec::new())).collect();
        let request = proto::BatchRequest { statements, ..Default::default() };
        if let Ok(done) = self.sql.batch(request).await {
            let rows: Vec<u64> =
                done.into_inner().results.iter().map(|it| it.affected_rows).collect();
            assert_eq!(rows.last(), Some(&3), "a tenant has three rows");
        }
    }

    /// Writes and counts rows of a table that is not migrated.
    async fn keep_a_journal(mut self) {
        let [surely, perhaps] = &self.shared.clone().journal;
        while self.goes_on() {
            match self.execute("INSERT INTO journal VALUES (1)", Vec::new()).await {
                Ok(_) => surely.fetch_add(1, Ordering::Relaxed),
                Err(_) => perhaps.fetch_add(1, Ordering::Relaxed),
            };
            let least = surely.load(Ordering::Relaxed);
            if let Some(found) = self.first("SELECT count(*) FROM journal").await {
                let Some(Kind::Int64(found)) = found else { panic!("no count: {found:?}") };
                let most = least + perhaps.load(Ordering::Relaxed);
                assert!((least..=most).contains(&found), "{found} rows of {least} to {most}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes rows whose keys are texts with a sequence's numbers in them: none comes twice.
    async fn order(mut self) {
        while self.goes_on() {
            let insert = "INSERT INTO ordered (n) VALUES (1)";
            if let Err(status) = self.execute(insert, Vec::new()).await {
                assert_ne!(status.code(), tonic::Code::AlreadyExists, "{status:?}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes and reads one value of a seldom type.
    async fn be_exotic(mut self) {
        while self.goes_on() {
            let (column, values) = exotic::VALUES[self.rng.random_range(0..exotic::VALUES.len())];
            let (id, value) = (self.rng.random_range(1..=exotic::ROWS), self.pick(values));
            let update = format!(
                "UPDATE exotic SET {column} = $2::text::{} WHERE id = $1",
                exotic::type_of(column)
            );
            let _ = self.execute(&update, vec![int(id), text(value)]).await;
            let read = format!("SELECT {column}::text FROM exotic WHERE id = {id}");
            let _ = self.first(&read).await;
            tokio::time::sleep(PAUSE).await;
        }
    }
}
