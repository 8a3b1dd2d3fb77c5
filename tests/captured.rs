//! Each kind of write that capture knows, end to end: through the command or round it, and
//! both databases hold the same rows afterwards.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::proto::{self, value::Kind};
use support::{Major, Pair, Segue, eventually, shared};
use tonic::transport::Channel;

const DRAIN_LIMIT: Duration = Duration::from_secs(60);

const SOURCE: &str = r#"
CREATE TYPE mood AS ENUM ('so so', 'fine');
CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE, note text, amount numeric(12,2),
    at timestamptz, doc json, feeling mood);
CREATE FUNCTION raise_all() RETURNS void LANGUAGE sql AS 'UPDATE t SET amount = amount + 0.5';
CREATE TABLE p (id int PRIMARY KEY);
CREATE TABLE d (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE log (id int PRIMARY KEY, note text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN INSERT INTO log VALUES (NEW.id, ''made''); RETURN NEW; END';
CREATE TRIGGER audit BEFORE INSERT ON d FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TABLE r (id int PRIMARY KEY, v int);
CREATE RULE also AS ON INSERT TO r DO ALSO INSERT INTO log VALUES (NEW.id + 100, 'rule');
CREATE VIEW w AS SELECT id, v + 1 AS more FROM r;
CREATE RULE instead AS ON UPDATE TO w
    DO INSTEAD UPDATE r SET v = NEW.more - 1 WHERE id = OLD.id;
CREATE TABLE part (region text, id int, v int, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE part_eu PARTITION OF part FOR VALUES IN ('eu');
CREATE TABLE part_us (v int, id int NOT NULL, region text NOT NULL);
ALTER TABLE part ATTACH PARTITION part_us FOR VALUES IN ('us');
CREATE TABLE part_rest PARTITION OF part DEFAULT PARTITION BY RANGE (id);
CREATE TABLE part_rest_0 PARTITION OF part_rest FOR VALUES FROM (0) TO (1000);
CREATE SCHEMA "Odd ""Schema""";
CREATE TABLE "Odd ""Schema"""."Odd ""Name""" ("select" mood, "größe $segue$" numeric(6,2),
    "order" int, "user" text, PRIMARY KEY ("select", "größe $segue$", "order"));
CREATE TABLE tenant_row (id bigint PRIMARY KEY, tenant text, v int);
ALTER TABLE tenant_row ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tenant_row USING (tenant = current_user);
CREATE ROLE captured_app LOGIN;
GRANT ALL ON tenant_row TO captured_app;
"#;

/// Other types, no trigger, no rule, no cascade, and no partition.
const TARGET: &str = r#"
CREATE TYPE mood AS ENUM ('fine', 'great', 'so so');
CREATE TABLE t (id int8 PRIMARY KEY, v int8 UNIQUE, note text COLLATE "C", amount numeric,
    at timestamptz(3), doc jsonb, feeling mood);
CREATE TABLE p (id int8 PRIMARY KEY);
CREATE TABLE d (id int8 PRIMARY KEY, p int8 REFERENCES p);
CREATE TABLE n (id int8 PRIMARY KEY, p int8 REFERENCES p);
CREATE TABLE log (id int8 PRIMARY KEY, note varchar(80));
CREATE TABLE r (id int8 PRIMARY KEY, v int8);
CREATE TABLE part (region varchar(9) COLLATE "C", id int8, v int8, PRIMARY KEY (id, region));
CREATE SCHEMA "Odd ""Schema""";
CREATE TABLE "Odd ""Schema"""."Odd ""Name""" ("user" text COLLATE "C", "order" int8,
    "größe $segue$" numeric(6,2), "select" mood, PRIMARY KEY ("select", "größe $segue$", "order"));
CREATE TABLE tenant_row (id int8 PRIMARY KEY, tenant text COLLATE "C", v int8);
"#;

/// All rows of all tables, one text for each, which both sides must agree on.
const ROWS: &str = r#"
SELECT line FROM (
    SELECT 't' || row(id, v, note, amount, at::timestamptz(3), doc::jsonb, feeling)::text FROM t
    UNION ALL SELECT 'p' || row(id)::text FROM p
    UNION ALL SELECT 'd' || row(id, p)::text FROM d
    UNION ALL SELECT 'n' || row(id, p)::text FROM n
    UNION ALL SELECT 'log' || row(id, note)::text FROM log
    UNION ALL SELECT 'r' || row(id, v)::text FROM r
    UNION ALL SELECT 'part' || row(region, id, v)::text FROM part
    UNION ALL SELECT 'odd' || row("select", "größe $segue$", "order", "user")::text
        FROM "Odd ""Schema"""."Odd ""Name"""
    UNION ALL SELECT 'tenant' || row(id, tenant, v)::text FROM tenant_row
) AS all_rows (line) ORDER BY line COLLATE "C" "#;

/// Two databases and a sidecar that copies.
struct World {
    pair: Pair,
    sql: SqlClient<Channel>,
    rows: &'static str,
    _segue: Segue,
}

fn statement(sql: &str, params: Vec<Kind>) -> proto::Statement {
    let params = params.into_iter().map(|kind| proto::Value { kind: Some(kind) }).collect();
    proto::Statement { text: Some(proto::statement::Text::Sql(sql.to_owned())), params }
}

impl World {
    async fn new(source: &str, target: &str, rows: &'static str, sections: &str) -> Self {
        let pair = Pair::fresh(source, target).await;
        let segue = Segue::serving(&pair, "dual_write", sections).await;
        let sql = SqlClient::connect(segue.sql_address()).await.unwrap();
        Self { pair, sql, rows, _segue: segue }
    }

    /// Waits until nothing is left to copy; gives the rows, which are the same on both sides.
    async fn copied(&self, what: &str) -> Vec<String> {
        let due = "SELECT count(*), max(last_error) FROM segue.outbox WHERE forgotten_at IS NULL";
        let source = self.pair.source.client().await;
        eventually(&format!("{what} is copied"), DRAIN_LIMIT, || async {
            let row = source.query_one(due, &[]).await.unwrap();
            (row.get::<_, i64>(0) == 0).then_some(())
        })
        .await;
        let held = self.pair.source.rows(self.rows).await;
        assert_eq!(self.pair.target.rows(self.rows).await, held, "{what}");
        held
    }

    /// The rows before, which the write must change, and after.
    async fn compare(&self, what: &str, before: &[String]) {
        assert_ne!(self.copied(what).await, before, "{what} changed nothing");
    }

    async fn before(&self) -> Vec<String> {
        self.pair.source.rows(self.rows).await
    }

    async fn execute(&mut self, sql: &str) {
        self.execute_with(sql, Vec::new()).await;
    }

    async fn execute_with(&mut self, sql: &str, params: Vec<Kind>) {
        let before = self.before().await;
        self.call(sql, params, "").await;
        self.compare(sql, &before).await;
    }

    async fn call(&mut self, sql: &str, params: Vec<Kind>, transaction_id: &str) {
        let request = proto::ExecuteRequest {
            statement: Some(statement(sql, params)),
            transaction: proto::TransactionSelector::open(transaction_id.to_owned()),
            ..Default::default()
        };
        self.sql.execute(request).await.unwrap_or_else(|status| panic!("{sql}: {status:?}"));
    }

    async fn transaction(&mut self, statements: &[&str]) {
        let before = self.before().await;
        let begun = self.sql.begin(proto::BeginRequest::default()).await.unwrap();
        let transaction_id = begun.into_inner().transaction_id;
        for sql in statements {
            self.call(sql, Vec::new(), &transaction_id).await;
        }
        self.sql
            .commit(proto::CommitRequest { transaction_id, ..Default::default() })
            .await
            .unwrap();
        self.compare(&statements.join("; "), &before).await;
    }

    async fn batch(&mut self, statements: &[&str]) {
        let before = self.before().await;
        let request = proto::BatchRequest {
            statements: statements.iter().map(|sql| statement(sql, Vec::new())).collect(),
            ..Default::default()
        };
        let what = statements.join("; ");
        self.sql.batch(request).await.unwrap_or_else(|status| panic!("{what}: {status:?}"));
        self.compare(&what, &before).await;
    }

    /// A script of psql's on the source: segue does not see it.
    async fn psql(&self, dsn: &str, script: &str) {
        let before = self.before().await;
        let mut psql = Command::new(shared(Major::V15).programs().join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(psql.wait().unwrap().success(), "{script}");
        self.compare(script, &before).await;
    }

    /// So many rows with such a beginning are on the target.
    async fn on_target(&self, table: &str, rows: usize) {
        let held = self.pair.target.rows(self.rows).await;
        let found = held.iter().filter(|line| line.starts_with(&format!("{table}("))).count();
        assert_eq!(found, rows, "{table}: {held:?}");
    }
}

async fn statements(w: &mut World) {
    w.execute(
        "INSERT INTO t VALUES (1, 1, 'ä', 1.10, '2024-05-06 07:08:09.123456Z', '{\"b\": 1, \"a\": 2.50}', 'fine'),
            (2, 2, NULL, 0, '1999-12-31 23:59:59.999Z', '[1e2, null]', 'so so'), (3, 3, '', NULL, NULL, NULL, NULL)",
    )
    .await;
    w.execute_with(
        "INSERT INTO t (id, v, note) VALUES ($1, 9, $2), (4, 4, 'new')
         ON CONFLICT (id) DO UPDATE SET v = excluded.v, note = excluded.note",
        vec![Kind::Int64(1), Kind::Text("again".to_owned())],
    )
    .await;
    w.execute("INSERT INTO t VALUES (1, 1), (5, 5) ON CONFLICT DO NOTHING").await;
    w.execute("UPDATE t SET doc = '{\"x\": [1.0]}', amount = 12.30 WHERE id IN (2, 3)").await;
    w.execute("UPDATE t SET id = id + 10 WHERE id IN (2, 3)").await;
    w.execute("DELETE FROM t WHERE id >= 12 AND id < 13").await;
    w.execute(
        "MERGE INTO t USING (VALUES (1), (4), (6)) AS s (id) ON t.id = s.id
         WHEN MATCHED AND s.id = 4 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 77
         WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.id)",
    )
    .await;
    w.execute(
        "WITH a AS (INSERT INTO t VALUES (20, 20, 'cte', 1) RETURNING id),
              b AS (DELETE FROM t WHERE id = 6 RETURNING id)
         SELECT * FROM a, b",
    )
    .await;
    w.execute("SELECT raise_all()").await;
    w.execute("INSERT INTO t (id, v, note) SELECT id + 500, v + 500, 'of ' || id FROM t").await;
    w.batch(&[
        "UPDATE t SET v = NULL WHERE id = 1",
        "UPDATE t SET v = 77 WHERE id = 20",
        "UPDATE t SET v = 20 WHERE id = 1",
    ])
    .await;
    w.transaction(&[
        "INSERT INTO t VALUES (40, 40)",
        "SAVEPOINT s",
        "INSERT INTO t VALUES (41, 41)",
        "DELETE FROM t WHERE id = 1",
        "ROLLBACK TO SAVEPOINT s",
        "INSERT INTO t VALUES (42, 42)",
    ])
    .await;
}

async fn effects(w: &mut World) {
    w.execute("INSERT INTO p VALUES (1), (2)").await;
    w.batch(&["INSERT INTO d VALUES (10, 1), (11, 2)", "INSERT INTO n VALUES (20, 1), (21, 2)"])
        .await;
    w.on_target("log", 2).await;
    w.execute("UPDATE p SET id = 3 WHERE id = 1").await;
    w.execute("DELETE FROM p WHERE id = 3").await;
    w.on_target("d", 1).await;
    w.on_target("n", 2).await;
    w.execute("INSERT INTO r VALUES (1, 1)").await;
    w.on_target("log", 3).await;
    w.execute("UPDATE w SET more = 50 WHERE id = 1").await;
    w.execute("TRUNCATE p CASCADE").await;
    for table in ["p", "d", "n"] {
        w.on_target(table, 0).await;
    }
}

async fn partitions(w: &mut World) {
    w.execute("INSERT INTO part VALUES ('eu', 1), ('us', 2), ('xx', 3)").await;
    w.execute("INSERT INTO part_us (region, id) VALUES ('us', 9)").await;
    w.execute("INSERT INTO part_rest VALUES ('yy', 4)").await;
    w.execute("UPDATE part_rest_0 SET v = 1").await;
    w.execute("UPDATE part SET region = 'us' WHERE id = 1").await;
    w.execute("UPDATE part_us SET id = 99 WHERE id = 1").await;
    w.execute("DELETE FROM part_us WHERE id = 99").await;
    w.on_target("part", 4).await;
    w.execute("TRUNCATE part_us").await;
    w.on_target("part", 2).await;
}

async fn odd_names(w: &mut World) {
    let odd = r#""Odd ""Schema"""."Odd ""Name""""#;
    w.execute(&format!("INSERT INTO {odd} VALUES ('so so', 1.5, 1, 'ü'), ('fine', 2, 2, NULL)"))
        .await;
    w.execute(&format!("UPDATE {odd} SET \"user\" = '☃ ''\"' WHERE \"order\" = 2")).await;
    w.execute(&format!("UPDATE {odd} SET \"größe $segue$\" = 7.25, \"select\" = 'fine'")).await;
    w.execute(&format!("DELETE FROM {odd} WHERE \"order\" = 1")).await;
    w.on_target("odd", 1).await;
}

async fn row_security(w: &mut World) {
    w.execute("INSERT INTO tenant_row VALUES (1, 'other', 0), (2, 'captured_app', 0)").await;
    w.transaction(&["SET LOCAL ROLE captured_app", "UPDATE tenant_row SET v = v + 1"]).await;
    let app = w.pair.source.dsn_with("postgres@", "captured_app@");
    w.psql(
        &app,
        "UPDATE tenant_row SET id = id + 20; INSERT INTO tenant_row VALUES (3, 'captured_app', 5);",
    )
    .await;
    let held = w.pair.target.rows("SELECT id, v FROM tenant_row ORDER BY id").await;
    assert_eq!(held, ["1|0", "3|5", "22|1"]);
}

async fn round_segue(w: &mut World) {
    let dsn = w.pair.source.dsn().to_owned();
    w.psql(&dsn, "COPY t (id, v, note) FROM STDIN;\n900\t900\tcopied\n901\t901\t\\N\n\\.\n").await;
    w.psql(
        &dsn,
        "BEGIN; UPDATE t SET note = 'round' WHERE id > 900; DELETE FROM t WHERE id = 900; COMMIT;",
    )
    .await;
    w.psql(&dsn, "INSERT INTO part SELECT 'eu', i, i FROM generate_series(100, 1500) AS i;").await;
    w.on_target("part", 1403).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_write_comes_to_the_target() {
    let mut w = World::new(SOURCE, TARGET, ROWS, "").await;
    statements(&mut w).await;
    effects(&mut w).await;
    partitions(&mut w).await;
    odd_names(&mut w).await;
    row_security(&mut w).await;
    round_segue(&mut w).await;
    let copied = w.pair.target.rows("SELECT count(*) > 5 FROM t").await;
    assert_eq!(copied, ["t"], "rows were there before they were emptied");
    w.execute("TRUNCATE t").await;
    w.on_target("t", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_comes_to_the_place_that_the_configuration_names() {
    let source = "CREATE TABLE orders (id int PRIMARY KEY, total numeric(10,2), at timestamptz);
        CREATE TABLE left_alone (id int PRIMARY KEY);
        CREATE SCHEMA moved; CREATE VIEW moved.orders2 AS SELECT * FROM orders";
    let target = "CREATE SCHEMA moved;
        CREATE TABLE moved.orders2 (at timestamptz(3), id int8 PRIMARY KEY, total numeric)";
    let rows =
        "SELECT 'o' || row(id, total, at::timestamptz(3))::text FROM moved.orders2 ORDER BY id";
    let map = "[[tables.map]]\nsource = \"public.orders\"\ntarget = \"moved.orders2\"";
    let mut w = World::new(source, target, rows, map).await;
    w.execute("INSERT INTO orders VALUES (1, 9.90, '2024-01-02 03:04:05.678Z'), (2, 0, NULL)")
        .await;
    w.batch(&["UPDATE orders SET total = 5", "DELETE FROM orders WHERE id = 2"]).await;
    w.on_target("o", 1).await;
    let dsn = w.pair.source.dsn().to_owned();
    w.psql(&dsn, "UPDATE orders SET id = 7; INSERT INTO orders VALUES (8);").await;
    w.on_target("o", 2).await;
    w.execute("TRUNCATE orders").await;
    w.on_target("o", 0).await;
    // What is not named is not copied, and nothing asks for its table on the target.
    w.sql
        .execute(proto::ExecuteRequest {
            statement: Some(statement("INSERT INTO left_alone VALUES (1)", Vec::new())),
            ..Default::default()
        })
        .await
        .unwrap();
    assert!(w.copied("nothing").await.is_empty());
}
