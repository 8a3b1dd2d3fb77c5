//! Capture as CockroachDB has it, by triggers for single rows, on a stand-in for it.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use segue::dialect::Dialect;
use segue::domain::control::{ControlState, Phase};
use segue::domain::reason::Reason;
use segue::domain::side::{Side, Sides};
use segue::domain::table::TableMapping;
use segue::dsn::Dsn;
use segue::ports::ControlView;
use segue::postgres::capture::{self, Params};
use segue::postgres::drift::{CaptureWatch, Look};
use segue::postgres::pool::{Params as PoolParams, Pool};
use segue::postgres::schema::{self, Permission, SetupError};
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;
use support::stand_in::Cockroach;
use support::{Database, Major, Proxy, connect, shared};
use tokio_postgres::Client;

const PARAMS_SIDE: Side = Side::Target;

/// A stand-in with capture on all its tables, in the phase in which it is the primary.
struct Captured {
    database: Database,
    /// As segue connects to it.
    dsn: String,
    _proxy: Option<Proxy>,
    owner: Client,
    tables: Vec<TableMapping>,
}

impl Captured {
    async fn new(sql: &str) -> Self {
        let Cockroach { database, dsn, proxy } = Cockroach::create(shared(Major::V18), sql).await;
        let mut owner = connect(&dsn).await;
        let migrated = schema::migrate(&mut owner, PARAMS_SIDE, Permission::Change).await;
        assert_eq!(migrated.expect("schema is made").dialect, Dialect::COCKROACHDB);
        let (tables, _) = capture::default_tables(&owner).await.expect("tables are found");
        let mut captured = Self { database, dsn, _proxy: proxy, owner, tables };
        captured.install().await;
        captured.phase("reversed").await;
        captured
    }

    async fn install(&mut self) {
        let params = Params::new(PARAMS_SIDE);
        capture::install(&mut self.owner, &params, &self.tables).await.expect("it is installed");
        assert_eq!(self.drift().await, [""; 0]);
    }

    async fn drift(&self) -> Vec<String> {
        let params = Params::new(PARAMS_SIDE);
        let drifts = capture::verify_installed(&self.owner, &params, &self.tables).await;
        drifts.expect("looked").into_iter().map(|it| format!("{}: {}", it.table, it.what)).collect()
    }

    async fn phase(&self, phase: &str) {
        let sql = format!("UPDATE segue.control SET phase = '{phase}'");
        self.owner.batch_execute(&sql).await.expect("the phase is set");
    }

    /// The outbox as `table:key`, sorted, and emptied.
    async fn take(&self) -> Vec<String> {
        let rows = self
            .database
            .rows(
                "SELECT k FROM (
                    SELECT m.target_name || ':' || coalesce(array_to_string(o.key, ','), '*')
                    FROM segue.outbox AS o JOIN segue.migrated_table AS m USING (table_id)
                 ) AS o (k) ORDER BY k COLLATE \"C\"",
            )
            .await;
        self.owner.batch_execute("DELETE FROM segue.outbox").await.expect("emptied");
        rows
    }

    fn watch(&self) -> CaptureWatch {
        let pool = |side| {
            let dsn = Dsn::parse(&self.dsn, &|_: &str| None).expect("a DSN");
            let params = PoolParams::new(Purpose::Own, 2, Duration::from_secs(10));
            Pool::new(Connector::new(side, dsn).expect("a connector"), params).expect("a pool")
        };
        let pools = Sides { source: pool(Side::Source), target: pool(Side::Target) };
        CaptureWatch::new(pools, Arc::new(Says(Phase::Reversed)))
    }

    async fn check(&self, sql: &str, expected: &[&str]) {
        self.owner.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(self.take().await, expected, "{sql}");
    }

    /// SQLSTATE and hint of a statement that is refused, on a session of its own.
    async fn refused(&self, sql: &str) -> (String, String) {
        let error = self.database.client().await.batch_execute(sql).await;
        let error = error.expect_err(sql);
        let said = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        assert_eq!(self.take().await, [""; 0], "{sql}");
        (said.code().code().to_owned(), said.hint().unwrap_or_default().to_owned())
    }
}

/// The trigger runs as whoever writes there, whatever its function says: see CockroachDB's issue
/// 172407.
#[tokio::test]
async fn a_role_that_writes_and_cannot_fire_the_trigger_is_found_with_what_it_needs() {
    let c = Captured::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let [writer, reader] =
        ["writer", "reader"].map(|what| format!("{what}_of_{}", c.database.name()));
    c.owner
        .batch_execute(&format!(
            "CREATE ROLE {writer} LOGIN; CREATE ROLE {reader} LOGIN;
             GRANT UPDATE ON t TO {writer}; GRANT SELECT ON t TO {reader}"
        ))
        .await
        .expect("roles are made");
    let row = c.owner.query_one("SELECT 't'::regclass::oid", &[]).await.expect("asked");
    let oids = [row.get::<_, u32>(0)];
    let lacking = || capture::writers_lacking(&c.owner, Dialect::COCKROACHDB, &oids);
    let found = lacking().await.expect("asked");
    let named: Vec<&str> = found.iter().map(|(role, _)| role.as_str()).collect();
    assert_eq!(named, [writer.as_str()]);
    let params = Params::new(PARAMS_SIDE);
    let (printed, _) = capture::print(&c.owner, &params, &c.tables).await.expect("printed");
    for grant in &found[0].1 {
        assert!(printed.contains(grant), "{printed}");
        c.owner.batch_execute(grant).await.expect("it is granted");
    }
    assert_eq!(lacking().await.expect("asked"), []);
    let sql = format!("DROP OWNED BY {writer}, {reader}; DROP ROLE {writer}, {reader}");
    c.owner.batch_execute(&sql).await.expect("roles are dropped");
}

#[tokio::test]
async fn statements_leave_the_keys_of_the_rows_they_touched() {
    let c = Captured::new("CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE)").await;
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
        "WITH a AS (INSERT INTO t VALUES (20, 20) RETURNING id),
              b AS (DELETE FROM t WHERE id = 5 RETURNING id)
         SELECT * FROM a, b",
        &["t:20", "t:5"],
    )
    .await;
    c.check("BEGIN; INSERT INTO t VALUES (50); ROLLBACK", &[]).await;
}

#[tokio::test]
async fn cascades_are_captured_and_keys_of_several_columns() {
    let c = Captured::new(
        "CREATE TABLE \"Parent\" (\"The id\" int PRIMARY KEY);
         CREATE TABLE child (p int REFERENCES \"Parent\" ON DELETE CASCADE ON UPDATE CASCADE,
             d date, note text, PRIMARY KEY (p, d))",
    )
    .await;
    c.check(
        "INSERT INTO \"Parent\" VALUES (1), (2); INSERT INTO child VALUES (1, '2026-11-26', 'a')",
        &["Parent:1", "Parent:2", "child:1,2026-11-26"],
    )
    .await;
    let moved = ["Parent:1", "Parent:7", "child:1,2026-11-26", "child:7,2026-11-26"];
    c.check("UPDATE \"Parent\" SET \"The id\" = 7 WHERE \"The id\" = 1", &moved).await;
    c.check("DELETE FROM \"Parent\" WHERE \"The id\" = 7", &["Parent:7", "child:7,2026-11-26"])
        .await;
    // A day and a month that could be taken for one another are not noted.
    let insert = "INSERT INTO child VALUES (2, '2026-01-02')";
    let (code, hint) = c.refused(&format!("SET DateStyle = 'SQL, DMY'; {insert}")).await;
    assert_eq!(code, "55000");
    assert!(hint.contains("DateStyle"), "{hint}");
    c.check(&format!("SET DateStyle = 'ISO, DMY'; {insert}"), &["child:2,2026-01-02"]).await;
}

/// Noted as another key, a write would be missing on the other side in silence.
#[tokio::test]
async fn keys_whose_text_a_setting_changes_are_refused_under_it() {
    for (of, value, setting) in [
        ("bytea", "'\\xff'", "bytea_output = 'escape'"),
        ("float8", "0.1", "extra_float_digits = 0"),
        ("interval", "'1 day'", "IntervalStyle = 'sql_standard'"),
        ("timestamptz", "now()", "DateStyle = 'German'"),
    ] {
        let c = Captured::new(&format!("CREATE TABLE t (id {of} PRIMARY KEY)")).await;
        let insert = format!("INSERT INTO t VALUES ({value})");
        let (code, hint) = c.refused(&format!("SET {setting}; {insert}")).await;
        let (name, _) = setting.split_once(' ').expect("a setting");
        assert_eq!(code, "55000", "{of}");
        assert!(hint.contains(name), "{of}: {hint}");
        c.database.run(&insert).await;
        assert_eq!(c.take().await.len(), 1, "{of}");
    }
}

#[tokio::test]
async fn a_write_is_named_and_a_copy_is_neither_captured_nor_refused() {
    let c = Captured::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let id = "7d5f0d9e-1111-4222-8333-444455556666";
    c.owner
        .batch_execute(&format!("SET segue.write_id = '{id}'; INSERT INTO t VALUES (1)"))
        .await
        .expect("written");
    assert_eq!(c.database.rows("SELECT write_id FROM segue.outbox").await, [id]);
    c.take().await;
    for phase in ["reversed", "shift"] {
        c.phase(phase).await;
        let copy = "BEGIN; SELECT set_config('segue.copies', 'on', true); \
            DELETE FROM t; INSERT INTO t VALUES (2); COMMIT";
        c.check(copy, &[]).await;
    }
    // It was for that transaction.
    let (code, _) = c.refused("INSERT INTO t VALUES (3)").await;
    assert_eq!(code, "25006");
}

#[tokio::test]
async fn writes_are_refused_while_the_other_side_is_the_primary_and_while_there_is_a_fence() {
    let c = Captured::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    for phase in ["dual_write", "shadow_read", "shift"] {
        c.phase(phase).await;
        let (code, hint) = c.refused("INSERT INTO t VALUES (1)").await;
        assert_eq!(code, "25006", "{phase}");
        assert!(hint.contains("segue has changed the primary"), "{hint}");
    }
    c.phase("reversed").await;
    let fence = "UPDATE segue.control SET fenced_by = '7d5f0d9e-1111-4222-8333-444455556666'";
    c.database.run(fence).await;
    assert_eq!(c.refused("INSERT INTO t VALUES (1)").await.0, "25006");
    c.database.run("UPDATE segue.control SET fenced_by = NULL").await;
    let (code, hint) =
        c.refused("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO t VALUES (1)").await;
    assert_eq!(code, "55000");
    assert!(hint.contains("SERIALIZABLE"), "{hint}");
    c.check("INSERT INTO t VALUES (1)", &["t:1"]).await;
    // On its own it is captured no more.
    for phase in ["source_only", "target_only"] {
        c.phase(phase).await;
        c.check("UPDATE t SET id = id", &[]).await;
    }
    // At the end nothing is asked of anybody.
    c.check("BEGIN ISOLATION LEVEL READ COMMITTED; UPDATE t SET id = id; COMMIT", &[]).await;
}

#[tokio::test]
async fn drift_is_found_and_mended_and_all_is_taken_away() {
    let mut c = Captured::new("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)").await;
    let name = "SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass";
    let first = c.database.rows(name).await;
    c.install().await;
    assert_eq!(c.database.rows(name).await, first, "what stands is left as it is");

    c.database.run(&format!("DROP TRIGGER {} ON t", first[0])).await;
    let drift = c.drift().await;
    assert_eq!(drift, [format!("public.t: trigger {} is missing", first[0])]);
    c.install().await;
    assert_eq!(c.database.rows(name).await, first);

    // Another key is another form: the old trigger goes when the new one is there.
    c.database.run("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, n)").await;
    assert_eq!(c.drift().await.len(), 2);
    c.install().await;
    let second = c.database.rows(name).await;
    assert!(second.len() == 1 && second != first, "{second:?}");
    c.check("INSERT INTO t VALUES (1, 2)", &["t:1,2"]).await;

    let removed = capture::remove(&mut c.owner, &Params::new(PARAMS_SIDE)).await;
    assert_eq!(removed.expect("it is taken away"), c.tables.len() as u64);
    assert_eq!(c.database.rows(name).await, [""; 0]);
    let functions = "SELECT proname FROM pg_proc WHERE proname LIKE 'capture%'";
    assert_eq!(c.database.rows(functions).await, [""; 0]);
    c.check("INSERT INTO t VALUES (3, 4)", &[]).await;
}

#[tokio::test]
async fn the_source_cannot_be_one() {
    let mut c = Captured::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let refused = capture::install(&mut c.owner, &Params::new(Side::Source), &c.tables).await;
    assert!(matches!(refused, Err(SetupError::Unsupported { side: Side::Source })), "{refused:?}");
}

/// What is printed is what is installed.
#[tokio::test]
async fn what_is_printed_is_what_is_installed() {
    let mut c = Captured::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    let params = Params::new(PARAMS_SIDE);
    capture::remove(&mut c.owner, &params).await.expect("taken away");
    let (sql, refused) = capture::print(&c.owner, &params, &c.tables).await.expect("it is printed");
    assert!(refused.is_empty(), "{refused:?}");
    c.owner.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert_eq!(c.drift().await, [""; 0]);
}

/// The member's own word for the phase.
struct Says(Phase);

impl ControlView for Says {
    fn current(&self) -> ControlState {
        ControlState { epoch: 1, phase: self.0 }
    }
}

/// A column that a trigger's body names goes by `CASCADE`, and the trigger with it, without a word;
/// from 26.2 on it can be disabled as well. There are no versions of catalogue rows to notice it by.
#[tokio::test]
async fn capture_that_does_not_stand_voids_proofs_as_long_as_it_does_not() {
    let c = Captured::new("CREATE TABLE t (id int PRIMARY KEY, v int)").await;
    let watch = c.watch();
    assert_eq!(watch.look(Look::Routine).await.expect("looked"), []);
    let trigger =
        "SELECT tgname FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal";
    let trigger = c.database.rows(trigger).await.remove(0);
    c.owner.batch_execute(&format!("DROP TRIGGER \"{trigger}\" ON t")).await.expect("dropped");

    let noticed = watch.look(Look::Routine).await.expect("looked");
    assert_eq!(noticed.len(), 1, "{noticed:?}");
    assert!(noticed[0].why.contains("is missing"), "{noticed:?}");
    let voided = "SELECT void_reason FROM segue.verify_table WHERE voided_at IS NOT NULL";
    assert_eq!(c.database.rows(voided).await, [format!("on the target {}", noticed[0].why)]);
    let told = "SELECT count(*) FROM segue.history WHERE kind = 'drift'";
    assert_eq!(c.database.rows(told).await, ["1"]);
    // What was proven since is void again, and it is told once.
    let proven = "UPDATE segue.verify_table SET voided_at = NULL";
    c.owner.batch_execute(proven).await.expect("proven");
    assert_eq!(watch.look(Look::Routine).await.expect("looked"), []);
    assert_eq!(c.database.rows(voided).await.len(), 1);
    assert_eq!(c.database.rows(told).await, ["1"]);
}

/// Without `CASCADE` the column stays: the trigger's function names it.
#[tokio::test]
async fn a_trigger_that_goes_along_with_a_column_of_the_key_is_missed() {
    let c = Captured::new("CREATE TABLE t (id int, v int, PRIMARY KEY (id, v))").await;
    let watch = c.watch();
    assert_eq!(watch.look(Look::Routine).await.expect("looked"), []);
    for change in ["ALTER TABLE t DROP COLUMN v", "ALTER TABLE t RENAME COLUMN v TO w"] {
        let (code, _) = c.refused(change).await;
        assert_eq!(code, "2BP01", "{change}");
    }
    let another_key = "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id)";
    c.database.run(another_key).await;
    let trigger =
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal";
    assert_eq!(c.database.rows(trigger).await, ["1"]);
    let cascade = "ALTER TABLE t DROP COLUMN v CASCADE";
    c.owner.batch_execute(cascade).await.expect("it is dropped");
    assert_eq!(c.database.rows(trigger).await, ["0"]);
    let noticed = watch.look(Look::Routine).await.expect("looked");
    assert!(noticed.iter().any(|it| it.why.contains("is missing")), "{noticed:?}");
    let voided = "SELECT count(*) FROM segue.verify_table WHERE voided_at IS NOT NULL";
    assert_eq!(c.database.rows(voided).await, ["1"]);
}

/// There it has one by a column that nobody declared, whose values no row of the other side has.
#[tokio::test]
async fn a_table_without_a_key_has_none_by_its_hidden_column() {
    let c = Captured::new("CREATE TABLE t (id int PRIMARY KEY)").await;
    c.database.run("CREATE TABLE bare (a int NOT NULL)").await;
    let (tables, refused) = capture::default_tables(&c.owner).await.expect("tables are found");
    assert!(!tables.iter().any(|it| it.target.name == "bare"), "{tables:?}");
    let refused: Vec<_> = refused.iter().map(|it| (&*it.table.name, it.reason)).collect();
    assert_eq!(refused, [("bare", Reason::RefusedNoPrimaryKey)]);
}
