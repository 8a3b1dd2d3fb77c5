//! Setting a database up: migrations, privileges, locks, drift, giving up, removal.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod support;

use std::time::{Duration, Instant};

use segue::dialect::Dialect;
use segue::domain::side::Side;
use segue::domain::table::{TableMapping, TableName};
use segue::postgres::capture::{self, Params};
use segue::postgres::schema::{self, GrantParams, Permission, SetupError};
use support::{Database, Major, eventually, shared};
use tokio_postgres::Client;

const SIDE: Side = Side::Source;
const LIMIT: Duration = Duration::from_secs(30);

async fn migrated(sql: &str) -> (Database, Client) {
    let database = Database::create(shared(Major::V15), sql).await;
    let mut client = database.client().await;
    schema::migrate(&mut client, SIDE, Permission::Change).await.expect("schema is made");
    (database, client)
}

fn mapping(name: &str) -> TableMapping {
    TableMapping { source: TableName::new("public", name), target: TableName::new("public", name) }
}

async fn outbox_rows(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM segue.outbox", &[]).await.expect("counted").get(0)
}

#[tokio::test]
async fn migrations_may_run_at_once_and_again() {
    for major in [Major::V15, Major::V18] {
        let database = Database::create(shared(major), "").await;
        let mut one = database.client().await;
        let mut two = database.client().await;
        let outdated = schema::migrate(&mut one, SIDE, Permission::Look).await;
        assert!(matches!(outdated, Err(SetupError::Outdated { found: 0, .. })), "{outdated:?}");
        let (a, b) = tokio::join!(
            schema::migrate(&mut one, SIDE, Permission::Change),
            schema::migrate(&mut two, SIDE, Permission::Change),
        );
        let (a, b) = (a.expect("the first"), b.expect("the second"));
        assert_eq!((a.to, b.to), (schema::version_needed(), schema::version_needed()));
        let again = schema::migrate(&mut one, SIDE, Permission::Look).await.expect("up to date");
        assert_eq!(again.from, schema::version_needed());
        one.batch_execute(&schema::script(SIDE, Dialect::POSTGRESQL)).await.expect("script again");
        assert_eq!(
            database.rows("SELECT epoch, phase FROM segue.control").await,
            ["1|source_only"]
        );
        one.batch_execute("INSERT INTO segue.schema_version VALUES (99)").await.expect("newer");
        let newer = schema::migrate(&mut one, SIDE, Permission::Change).await;
        assert!(matches!(newer, Err(SetupError::Newer { found: 99, .. })), "{newer:?}");
    }
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_to_run_and_then_needs_no_more() {
    let database = Database::create(
        shared(Major::V15),
        "DO $$ BEGIN CREATE ROLE segue_least LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
         CREATE TABLE t (id int PRIMARY KEY);",
    )
    .await;
    let mut client = database.client().await;
    client.batch_execute("SET ROLE segue_least").await.expect("role");
    let refused = schema::migrate(&mut client, SIDE, Permission::Change).await;
    let Err(SetupError::Privilege { sql, role, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(role, "segue_least");
    database.run(&sql).await;
    schema::migrate(&mut client, SIDE, Permission::Change).await.expect("now it may");

    let params = Params::new(SIDE);
    let refused = capture::install(&mut client, &params, &[mapping("t")]).await;
    let Err(SetupError::Privilege { sql, .. }) = refused else { panic!("{refused:?}") };
    let grant = "GRANT TRIGGER ON TABLE \"public\".\"t\" TO \"segue_least\";\n";
    assert!(sql.starts_with(grant) && sql.contains("segue.enable_always"), "{sql}");
    let tables = [TableName::new("public", "t")];
    let grants = schema::grants(&GrantParams {
        side: SIDE,
        database: database.name(),
        role: "segue_least",
        callers: None,
        tables: &tables,
    });
    database.run(&grants).await;
    capture::install(&mut client, &params, &[mapping("t")]).await.expect("now it may");
    database.run("INSERT INTO t VALUES (1)").await;
    assert_eq!(outbox_rows(&client).await, 1);

    let refused = capture::remove(&mut client, &params).await;
    let Err(SetupError::Privilege { sql, .. }) = refused else { panic!("{refused:?}") };
    database.run("INSERT INTO t VALUES (2)").await;
    assert_eq!(outbox_rows(&client).await, 1);
    database.run(&sql).await;
    capture::remove(&mut client, &params).await.expect("the rest goes");
}

#[tokio::test]
async fn drift_is_found_and_mended() {
    let (database, mut client) = migrated(
        "CREATE TABLE t (id int PRIMARY KEY, v int);
         CREATE TABLE p (id int PRIMARY KEY) PARTITION BY HASH (id);
         CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);",
    )
    .await;
    let (params, tables) = (Params::new(SIDE), [mapping("t"), mapping("p")]);
    let first = capture::install(&mut client, &params, &tables).await.expect("installed");
    assert!(first.captured.iter().all(|table| table.changed));
    let again = capture::install(&mut client, &params, &tables).await.expect("again");
    assert!(again.captured.iter().all(|table| !table.changed), "{again:?}");
    for (change, drifts) in [
        ("ALTER TABLE t ADD COLUMN w int", 0),
        ("ALTER TABLE t DISABLE TRIGGER segue_capture_insert", 1),
        // They would be silent where session_replication_role is 'replica'.
        ("ALTER TABLE t ENABLE TRIGGER segue_capture_insert", 1),
        ("ALTER TABLE p ENABLE TRIGGER segue_capture_delete", 1),
        ("ALTER TABLE p0 ENABLE REPLICA TRIGGER segue_capture_update", 1),
        ("ALTER TABLE t RENAME COLUMN id TO number", 4),
        ("DROP TABLE t; CREATE TABLE t (v int, id bigint PRIMARY KEY)", 5),
        ("CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1)", 4),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey CASCADE; ALTER TABLE t ADD PRIMARY KEY (id, v)", 1),
    ] {
        database.run(change).await;
        let found = capture::verify_installed(&client, &params, &tables).await.expect("looked");
        assert!(found.len() >= drifts && (drifts > 0 || found.is_empty()), "{change}: {found:?}");
        capture::install(&mut client, &params, &tables).await.expect("mended");
        let found = capture::verify_installed(&client, &params, &tables).await.expect("looked");
        assert_eq!(found, [], "{change}");
    }
    client.batch_execute("TRUNCATE segue.outbox").await.expect("emptied");
    database.run("INSERT INTO t VALUES (7, 8); UPDATE t SET v = 9; INSERT INTO p1 SELECT i FROM generate_series(0, 40) AS i WHERE satisfies_hash_partition('p'::regclass, 2, 1, i)").await;
    let keys = database
        .rows("SELECT key FROM segue.outbox WHERE cardinality(key) = 2 ORDER BY created_at, key")
        .await;
    assert_eq!(keys, ["{8,7}", "{8,7}", "{8,9}"].map(ToOwned::to_owned), "{keys:?}");
}

#[tokio::test]
async fn a_long_writer_is_not_queued_behind() {
    let (database, mut client) = migrated("CREATE TABLE t (id int PRIMARY KEY)").await;
    let writer = database.client().await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.expect("a long transaction");
    let params = Params { patience: Duration::from_secs(2), ..Params::new(SIDE) };
    let other = database.client().await;
    let table = [mapping("t")];
    let (refused, slowest) = tokio::join!(capture::install(&mut client, &params, &table), async {
        let mut slowest = Duration::ZERO;
        for id in 10..100 {
            let begun = Instant::now();
            other.execute("INSERT INTO t VALUES ($1)", &[&id]).await.expect("inserted");
            slowest = slowest.max(begun.elapsed());
        }
        slowest
    });
    let Err(SetupError::Locked { holders, .. }) = refused else { panic!("{refused:?}") };
    assert!(holders.contains("process"), "{holders}");
    assert!(slowest < Duration::from_secs(1), "a writer waited for {slowest:?}");
    writer.batch_execute("COMMIT").await.expect("ends");
    capture::install(&mut client, &params, &table).await.expect("installed");
}

/// An older schema is brought up to date beside writers: who queues behind the migration waits for
/// less than the time after which a server looks for one to end. Given up on, it names who is in
/// its way.
#[tokio::test]
async fn a_migration_gives_way_to_writers_and_names_who_does_not_end() {
    let (database, mut client) = migrated("").await;
    database.run("DELETE FROM segue.schema_version WHERE version >= 15").await;
    let holder = database.client().await;
    let hold = "BEGIN; UPDATE segue.control SET reason = 'held' WHERE id = 1";
    holder.batch_execute(hold).await.expect("held");
    let migration = tokio::spawn(async move {
        schema::migrate(&mut client, SIDE, Permission::Change).await.map(|it| it.to)
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND datname = current_database()";
    eventually("the migration waits", LIMIT, || async {
        (database.rows(waits).await == ["1"]).then_some(())
    })
    .await;
    let mut longest = Duration::ZERO;
    while !migration.is_finished() {
        let begun = Instant::now();
        database.run("UPDATE segue.control SET held = held WHERE id = 2").await;
        longest = longest.max(begun.elapsed());
    }
    let refused = migration.await.expect("it ran");
    let Err(SetupError::InUse { waited_ms, holders, .. }) = refused else { panic!("{refused:?}") };
    assert!(waited_ms >= 30_000 && holders.contains("idle in transaction"), "{holders}");
    assert!(longest < Duration::from_secs(3), "a writer waited for {longest:?}");

    let mut client = database.client().await;
    let migration = tokio::spawn(async move {
        schema::migrate(&mut client, SIDE, Permission::Change).await.map(|it| it.to)
    });
    eventually("the next one waits", LIMIT, || async {
        (database.rows(waits).await == ["1"]).then_some(())
    })
    .await;
    holder.batch_execute("COMMIT").await.expect("it is still there");
    assert_eq!(migration.await.expect("it ran").expect("done"), schema::version_needed());
}

#[tokio::test]
async fn giving_up_takes_no_lock_and_can_be_taken_back() {
    let (database, mut client) = migrated("CREATE TABLE t (id int PRIMARY KEY)").await;
    let (params, tables) = (Params::new(SIDE), [mapping("t")]);
    capture::install(&mut client, &params, &tables).await.expect("installed");
    let writer = database.client().await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.expect("a writer");
    let replaced = tokio::time::timeout(Duration::from_secs(10), capture::give_up(&client)).await;
    assert_eq!(replaced.expect("no wait").expect("given up"), 5);
    writer.batch_execute("COMMIT; INSERT INTO t VALUES (2)").await.expect("goes on");
    assert_eq!(outbox_rows(&client).await, 1);
    let drift = capture::verify_installed(&client, &params, &tables).await.expect("looked");
    assert_eq!(drift.len(), 5, "{drift:?}");
    capture::install(&mut client, &params, &tables).await.expect("again");
    writer.batch_execute("INSERT INTO t VALUES (3)").await.expect("captured again");
    assert_eq!(outbox_rows(&client).await, 2);
    assert_eq!(capture::remove(&mut client, &params).await.expect("removed"), 5);
    assert_eq!(capture::remove(&mut client, &params).await.expect("again"), 0);
    writer.batch_execute("INSERT INTO t VALUES (4)").await.expect("plain again");
    assert_eq!(outbox_rows(&client).await, 2);
}

#[tokio::test]
async fn what_is_printed_is_what_is_installed() {
    let (database, client) = migrated("CREATE TABLE t (id int PRIMARY KEY, v int)").await;
    let tables = [mapping("t")];
    let params = Params::new(SIDE);
    let (sql, refused) = capture::print(&client, &params, &tables).await.expect("printed");
    assert_eq!(refused, []);
    database
        .run(&format!("INSERT INTO segue.migrated_table VALUES (1, 'public', 't', 'public', 't', '{{id}}'); {sql}"))
        .await;
    let drift = capture::verify_installed(&client, &params, &tables).await.expect("looked");
    assert_eq!(drift, []);
}
