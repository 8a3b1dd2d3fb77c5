//! Capture on real servers: each kind of write leaves the keys of exactly the rows that it
//! touched.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod support;

use segue::domain::reason::Reason;
use segue::domain::side::Side;
use segue::domain::table::{TableMapping, TableName};
use segue::postgres::capture::{self, Params};
use segue::postgres::schema::{self, Permission};
use support::{Database, Major, shared};
use tokio_postgres::Client;

/// A database with capture on all its tables.
struct Captured {
    database: Database,
    owner: Client,
}

async fn captured_on(major: Major, sql: &str) -> Captured {
    let database = Database::create(shared(major), sql).await;
    let mut owner = database.client().await;
    schema::migrate(&mut owner, Side::Source, Permission::Change).await.expect("schema is made");
    let (tables, _) = capture::default_tables(&owner).await.expect("tables are found");
    let params = Params::new(Side::Source);
    capture::install(&mut owner, &params, &tables).await.expect("capture is installed");
    let drift = capture::verify_installed(&owner, &params, &tables).await.expect("looked");
    assert_eq!(drift, []);
    Captured { database, owner }
}

async fn captured(sql: &str) -> Captured {
    captured_on(Major::V15, sql).await
}

impl Captured {
    /// The outbox as `table:key`, sorted, and emptied.
    async fn take(&self) -> Vec<String> {
        let rows = self
            .database
            .rows(
                "SELECT k FROM (
                    SELECT m.source_name || ':' || coalesce(array_to_string(o.key, ','), '*')
                    FROM segue.outbox AS o JOIN segue.migrated_table AS m USING (table_id)
                 ) AS o (k) ORDER BY k COLLATE \"C\"",
            )
            .await;
        self.owner.batch_execute("TRUNCATE segue.outbox").await.expect("emptied");
        rows
    }

    async fn check(&self, sql: &str, expected: &[&str]) {
        self.owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(self.take().await, expected, "{sql}");
    }
}

#[tokio::test]
async fn statements_leave_the_keys_of_the_rows_they_touched() {
    let c = captured("CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE)").await;
    c.check("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)", &["t:1", "t:2", "t:3"]).await;
    c.check(
        "INSERT INTO t VALUES (1, 9), (4, 4) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
        &["t:1", "t:4"],
    )
    .await;
    c.check("INSERT INTO t VALUES (1, 1), (5, 5) ON CONFLICT DO NOTHING", &["t:5"]).await;
    c.check("UPDATE t SET v = v WHERE id IN (2, 3)", &["t:2", "t:3"]).await;
    c.check("UPDATE t SET id = id + 10 WHERE id IN (2, 3)", &["t:12", "t:13", "t:2", "t:3"]).await;
    c.check("UPDATE t SET v = 0 WHERE false", &[]).await;
    c.check("DELETE FROM t WHERE id >= 12", &["t:12", "t:13"]).await;
    c.check(
        "MERGE INTO t USING (VALUES (1), (4), (6)) AS s (id) ON t.id = s.id
         WHEN MATCHED AND s.id = 4 THEN DELETE WHEN MATCHED THEN UPDATE SET v = 77
         WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.id)",
        &["t:1", "t:4", "t:6"],
    )
    .await;
    c.check(
        "WITH a AS (INSERT INTO t VALUES (20, 20) RETURNING id),
              b AS (DELETE FROM t WHERE id = 6 RETURNING id)
         SELECT * FROM a, b",
        &["t:20", "t:6"],
    )
    .await;
    c.check(
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'UPDATE t SET v = v + 1000 WHERE id = 20';
         SELECT f()",
        &["t:20"],
    )
    .await;
    c.check(
        "DO $$ BEGIN INSERT INTO t VALUES (30); INSERT INTO t VALUES (31); END $$",
        &["t:30", "t:31"],
    )
    .await;
    c.check(
        "BEGIN; INSERT INTO t VALUES (40); SAVEPOINT s; INSERT INTO t VALUES (41);
         ROLLBACK TO s; INSERT INTO t VALUES (42); COMMIT",
        &["t:40", "t:42"],
    )
    .await;
    c.check("BEGIN; INSERT INTO t VALUES (50); ROLLBACK", &[]).await;
}

/// An application may set it: in a function, or by a tool that imports.
#[tokio::test]
async fn a_session_in_replica_mode_is_captured_as_any_other() {
    let c = captured(
        "CREATE TABLE t (id int PRIMARY KEY, v int);
         CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
         CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)",
    )
    .await;
    for mode in ["replica", "local"] {
        c.owner.batch_execute(&format!("SET session_replication_role = {mode}")).await.expect(mode);
        c.check("INSERT INTO t VALUES (1, 1), (2, 2)", &["t:1", "t:2"]).await;
        c.check("UPDATE t SET v = 5 WHERE id = 1", &["t:1"]).await;
        c.check("UPDATE t SET id = 7 WHERE id = 2", &["t:2", "t:7"]).await;
        c.check("DELETE FROM t WHERE id = 7", &["t:7"]).await;
        c.check("TRUNCATE t", &["t:*"]).await;
        c.check("INSERT INTO p VALUES (1)", &["p:1"]).await;
        c.check("UPDATE p SET id = 2", &["p:1", "p:2"]).await;
        c.check("DELETE FROM p2", &["p:2"]).await;
    }
}

/// Nobody but segue's role can read what its copies say of themselves.
#[tokio::test]
async fn a_copy_is_told_by_what_segues_role_alone_can_say() {
    let c = captured("CREATE TABLE t (id int PRIMARY KEY, v int); GRANT ALL ON t TO PUBLIC").await;
    for said in ["on", "1", "00000000-0000-0000-0000-000000000000"] {
        c.owner.batch_execute(&format!("SET segue.copies = '{said}'")).await.expect("set");
        c.check("INSERT INTO t VALUES (1, 1)", &["t:1"]).await;
        c.check("UPDATE t SET id = 2", &["t:1", "t:2"]).await;
        c.check("TRUNCATE t", &["t:*"]).await;
    }
    c.owner.batch_execute("RESET segue.copies").await.expect("reset");
    c.database
        .run_as_copy("INSERT INTO t VALUES (1, 1); UPDATE t SET id = 2; UPDATE t SET v = 3")
        .await;
    c.database.run_as_copy("DELETE FROM t; TRUNCATE t").await;
    assert_eq!(c.take().await, [""; 0]);
    let role = format!("caller_{}", c.database.name());
    let tries = format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA segue TO {role}; SET ROLE {role};
         SELECT token FROM segue.copy_token"
    );
    let refused = c.database.client().await.batch_execute(&tries).await.expect_err("it may not");
    assert_eq!(
        refused.code().map(tokio_postgres::error::SqlState::code),
        Some("42501"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn copy_and_a_million_rows_are_captured_in_bounded_time() {
    let c = captured("CREATE TABLE t (id int PRIMARY KEY, v int)").await;
    let sink = c.owner.copy_in("COPY t FROM STDIN").await.expect("copy begins");
    let mut sink = std::pin::pin!(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from_static(b"1\t1\n2\t2\n"))
        .await
        .expect("sent");
    sink.finish().await.expect("copied");
    assert_eq!(c.take().await, ["t:1", "t:2"]);

    let begun = std::time::Instant::now();
    c.owner
        .batch_execute("INSERT INTO t SELECT i, i FROM generate_series(10, 1000009) AS i")
        .await
        .expect("inserted");
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    eprintln!("a million captured inserts took {:?}", begun.elapsed());
    let counted = "SELECT count(*), count(DISTINCT key) FROM segue.outbox";
    assert_eq!(c.database.rows(counted).await, ["1000000|1000000"]);
    c.owner.batch_execute("TRUNCATE segue.outbox").await.expect("emptied");
    let begun = std::time::Instant::now();
    c.owner.batch_execute("UPDATE t SET v = 0 WHERE id >= 10").await.expect("updated");
    assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    eprintln!("a million captured updates took {:?}", begun.elapsed());
    assert_eq!(c.database.rows(counted).await, ["1000000|1000000"]);
}

#[tokio::test]
async fn what_other_things_write_is_captured() {
    let c = captured(
        "CREATE TABLE p (id int PRIMARY KEY);
         CREATE TABLE d (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE);
         CREATE TABLE n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE);
         CREATE TABLE log (id int PRIMARY KEY, note text);
         CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO log VALUES (NEW.id, ''made''); RETURN NEW; END';
         CREATE TRIGGER audit BEFORE INSERT ON d FOR EACH ROW EXECUTE FUNCTION audit();
         CREATE TABLE r (id int PRIMARY KEY);
         CREATE RULE also AS ON INSERT TO r DO ALSO INSERT INTO log VALUES (NEW.id + 100, 'rule');
         CREATE VIEW v AS SELECT * FROM r;",
    )
    .await;
    c.check("INSERT INTO p VALUES (1), (2)", &["p:1", "p:2"]).await;
    c.check("INSERT INTO d VALUES (10, 1), (11, 2)", &["d:10", "d:11", "log:10", "log:11"]).await;
    c.check("INSERT INTO n VALUES (20, 1), (21, 2)", &["n:20", "n:21"]).await;
    c.check("UPDATE p SET id = 3 WHERE id = 1", &["d:10", "n:20", "p:1", "p:3"]).await;
    c.check("DELETE FROM p WHERE id = 3", &["d:10", "n:20", "p:3"]).await;
    c.check("INSERT INTO r VALUES (1)", &["log:101", "r:1"]).await;
    c.check("DELETE FROM v", &["r:1"]).await;
    c.check("TRUNCATE p CASCADE", &["d:*", "n:*", "p:*"]).await;
}

#[tokio::test]
async fn truncate_is_the_whole_table() {
    let c = captured(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
         CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);",
    )
    .await;
    c.check("TRUNCATE t RESTART IDENTITY", &["t:*"]).await;
    c.check("TRUNCATE part1", &["part:*"]).await;
}

#[tokio::test]
async fn partitions_are_named_by_their_root() {
    for major in [Major::V15, Major::V18] {
        let c = captured_on(
            major,
            "CREATE TABLE t (region text, id int, v int, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
             CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu');
             CREATE TABLE t_us (v int, id int NOT NULL, region text NOT NULL);
             ALTER TABLE t ATTACH PARTITION t_us FOR VALUES IN ('us');
             CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY RANGE (id);
             CREATE TABLE t_rest_0 PARTITION OF t_rest FOR VALUES FROM (0) TO (1000);",
        )
        .await;
        c.check(
            "INSERT INTO t VALUES ('eu', 1), ('us', 2), ('xx', 3)",
            &["t:eu,1", "t:us,2", "t:xx,3"],
        )
        .await;
        c.check("INSERT INTO t_us (region, id) VALUES ('us', 9)", &["t:us,9"]).await;
        c.check("INSERT INTO t_rest VALUES ('yy', 4)", &["t:yy,4"]).await;
        c.check("UPDATE t_rest_0 SET v = 1", &["t:xx,3", "t:yy,4"]).await;
        c.check("UPDATE t SET v = 5 WHERE id = 2", &["t:us,2"]).await;
        c.check("UPDATE t SET region = 'us' WHERE id = 1", &["t:eu,1", "t:us,1"]).await;
        c.check("UPDATE t_us SET id = 99 WHERE id = 1", &["t:us,1", "t:us,99"]).await;
        c.check("DELETE FROM t_us WHERE id = 99", &["t:us,99"]).await;
        c.check("DELETE FROM t WHERE region <> 'us'", &["t:xx,3", "t:yy,4"]).await;
    }
}

#[tokio::test]
async fn keys_of_any_name_and_type_are_the_same_text_in_every_session() {
    let c = captured(
        "CREATE SCHEMA \"Odd \"\"Schema\"\"\";
         CREATE TYPE mood AS ENUM ('so so', 'fine');
         CREATE DOMAIN small AS numeric(6, 2);
         CREATE TABLE \"Odd \"\"Schema\"\"\".\"Weird \"\"Name\"\"\" (
            \"select\" mood, \"größe $segue$\" small, at timestamptz, day date, span interval, f float8, b bytea, r tstzrange,
            segue_at int, r1 char(4),
            PRIMARY KEY (\"select\", \"größe $segue$\", at, day, span, f, b, r, segue_at, r1))",
    )
    .await;
    c.check(
        "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601';
         SET extra_float_digits = -10; SET bytea_output = 'escape';
         INSERT INTO \"Odd \"\"Schema\"\"\".\"Weird \"\"Name\"\"\" VALUES ('so so', 1.50, '2024-05-06 07:08:09.123456+00',
            '2024-05-06', '1 day 2 hours', 0.1::float8 + 0.2, '\\x00ff', '[2024-01-01 00:00+00,)', 7, 'ab')",
        &["Weird \"Name\":so so,1.50,2024-05-06 07:08:09.123456+00,2024-05-06,1 day 02:00:00,\
           0.30000000000000004,\\x00ff,[\"2024-01-01 00:00:00+00\",),7,ab"],
    )
    .await;
    c.check("SET TimeZone = 'UTC'", &[]).await;
    assert_eq!(
        c.owner.query_one("SHOW extra_float_digits", &[]).await.expect("shown").get::<_, &str>(0),
        "-10"
    );
}

#[tokio::test]
async fn an_application_needs_no_right_and_cannot_get_in_between() {
    let c = captured(
        "CREATE TABLE t (id bigint PRIMARY KEY, tenant text, v int);
         CREATE TABLE s (id serial PRIMARY KEY);
         ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON t USING (tenant = current_user);
         DO $$ BEGIN CREATE ROLE capture_app LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
         GRANT ALL ON t, s TO capture_app; GRANT ALL ON SEQUENCE s_id_seq TO capture_app;
         INSERT INTO t VALUES (1, 'other', 0), (2, 'capture_app', 0);
         CREATE SCHEMA hostile AUTHORIZATION capture_app;",
    )
    .await;
    let app = c.database.client().await;
    app.batch_execute(
        "SET ROLE capture_app;
         CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
         CREATE FUNCTION hostile.no(text, text) RETURNS bool LANGUAGE sql AS 'SELECT 1 / 0 = 1';
         CREATE FUNCTION hostile.no8(int8, int8) RETURNS bool LANGUAGE sql AS 'SELECT 1 / 0 = 1';
         CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.no);
         CREATE OPERATOR hostile.<> (LEFTARG = int8, RIGHTARG = int8, FUNCTION = hostile.no8);
         CREATE TYPE hostile.text AS (x int);
         CREATE TEMP TABLE segue_new (id int); CREATE TEMP TABLE outbox (id int);
         CREATE TEMP TABLE pg_class (id int);
         SET search_path = hostile, pg_temp, public, pg_catalog;",
    )
    .await
    .expect("the application prepares");
    assert!(app.batch_execute("SELECT * FROM segue.outbox").await.is_err());
    assert!(
        app.batch_execute("INSERT INTO segue.outbox (slot, table_id) VALUES (1, 1)").await.is_err()
    );
    assert!(
        app.batch_execute(
            "CREATE TABLE hostile.forged (id int);
             CREATE TRIGGER x AFTER TRUNCATE ON hostile.forged EXECUTE FUNCTION segue.capture_1_truncate()"
        )
        .await
        .is_err()
    );
    assert_eq!(app.execute("UPDATE public.t SET v = v + 1", &[]).await.expect("updated"), 1);
    assert_eq!(c.take().await, ["t:2"]);
    app.batch_execute("UPDATE public.t SET id = 22").await.expect("updated");
    assert_eq!(c.take().await, ["t:2", "t:22"]);
    let row = app
        .query_one(
            "INSERT INTO public.s DEFAULT VALUES RETURNING id, pg_catalog.lastval() = 1",
            &[],
        )
        .await
        .expect("inserted");
    assert_eq!(row.get::<_, i32>(0), 1);
    let lastval = app.query_one("SELECT pg_catalog.lastval()", &[]).await.expect("lastval stands");
    assert_eq!(lastval.get::<_, i64>(0), 1);
    assert_eq!(c.take().await, ["s:1"]);
    app.batch_execute("CREATE TEMP TABLE t (id int PRIMARY KEY); INSERT INTO pg_temp.t VALUES (5)")
        .await
        .expect("a temporary table of the same name");
    assert_eq!(c.take().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_write_is_named_where_it_was_announced() {
    let c = captured("CREATE TABLE t (id int PRIMARY KEY)").await;
    c.owner
        .batch_execute(
            "BEGIN; SELECT set_config('segue.write_id', '00000000-0000-0000-0000-000000000007', true);
             INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2)",
        )
        .await
        .expect("written");
    let rows = c.database.rows("SELECT key[1], write_id FROM segue.outbox ORDER BY 1").await;
    assert_eq!(rows, ["1|00000000-0000-0000-0000-000000000007", "2|NULL"]);
}

#[tokio::test]
async fn tables_that_cannot_be_captured_are_refused_with_the_way_out() {
    let c = captured(
        "CREATE TABLE keyless (id int); CREATE UNLOGGED TABLE volatile (id int PRIMARY KEY);
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
         CREATE VIEW seen AS SELECT 1 AS id;",
    )
    .await;
    let (_, refused) = capture::default_tables(&c.owner).await.expect("found");
    let found: Vec<_> = refused.iter().map(|r| (r.table.name.as_str(), r.reason)).collect();
    assert_eq!(
        found,
        [
            ("child", Reason::RefusedInheritance),
            ("keyless", Reason::RefusedNoPrimaryKey),
            ("parent", Reason::RefusedInheritance),
            ("volatile", Reason::RefusedUnlogged),
        ]
    );
    let mut client = c.database.client().await;
    let view = TableMapping {
        source: TableName::new("public", "seen"),
        target: TableName::new("public", "seen"),
    };
    let report =
        capture::install(&mut client, &Params::new(Side::Source), &[view]).await.expect("ran");
    assert_eq!(report.refused[0].reason, Reason::RefusedNotATable);
}
