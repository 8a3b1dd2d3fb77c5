//! `segue init` and `segue capture` on two real servers.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::{Pair, Segue};

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text); \
     CREATE TABLE log (line text)";
const TABLE: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text)";
const PHASE: &str = "SELECT phase || ' ' || epoch FROM segue.control";
const KEYS: &str = "SELECT key::text FROM segue.outbox WHERE table_id <> 0 ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn init_makes_tables_capture_and_the_first_row_and_leaves_the_phase_as_it_is() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let exclude = "[tables]\nexclude = [\"public.log\"]";
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), exclude);
    let told = segue.succeed(&["init"]);
    assert!(told.contains("source: made segue's tables"), "{told}");
    assert!(told.contains("capture: 2 tables, 2 changed"), "{told}");
    assert!(told.ends_with("phase source_only, epoch 1\n"), "{told}");
    let again = segue.succeed(&["init"]);
    assert!(again.contains("0 changed") && again.ends_with("phase source_only, epoch 1\n"));
    assert_eq!(pair.source.rows(PHASE).await, ["source_only 1"]);

    segue.set_phase("shadow_read").await;
    let again = segue.succeed(&["init"]);
    assert!(again.contains("capture on the target: 2 tables, 0 changed"), "{again}");
    assert!(again.ends_with("phase shadow_read, epoch 2\n"), "{again}");
    assert_eq!(pair.source.rows(PHASE).await, ["shadow_read 2"]);
    assert_eq!(pair.target.rows(PHASE).await, ["shadow_read 2"]);
    pair.source.run("INSERT INTO orders VALUES (7, 'x')").await;
    assert_eq!(pair.source.rows(KEYS).await, ["{7}"]);

    let printed = segue.succeed(&["capture", "print"]);
    assert!(printed.contains("CREATE"), "{printed}");
    let refused = segue.run(&["capture", "remove"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("segue phase back --give-up-copy"), "{told}");
    segue.set_phase("source_only").await;
    let removed = segue.succeed(&["capture", "remove"]);
    assert!(removed.starts_with("capture taken away: "), "{removed}");
    pair.source.run("INSERT INTO orders VALUES (8, 'x')").await;
    assert_eq!(pair.source.rows(KEYS).await, ["{7}"]);
}

/// A deployment may run `init` each time: it does not undo what an operator has decided.
#[tokio::test(flavor = "multi_thread")]
async fn init_starts_no_capture_that_was_stopped_with_the_copy() {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    segue.set_phase("source_only").await;
    let told = segue.succeed(&["init"]);
    assert!(told.contains("capture: left as it is, since source_only captures nothing"), "{told}");
    assert!(told.ends_with("phase source_only, epoch 3\n"), "{told}");
    pair.source.run("INSERT INTO orders VALUES (7, 'x')").await;
    assert!(pair.source.rows(KEYS).await.is_empty());
}

/// The old primary's row follows a moment later, whichever side that is.
#[tokio::test(flavor = "multi_thread")]
async fn capture_is_taken_away_by_the_newer_of_both_control_rows() {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    let set = |phase: &str, epoch: u32| {
        format!("UPDATE segue.control SET phase = '{phase}', epoch = {epoch} WHERE id = 1")
    };
    pair.source.run(&set("reversed", 8)).await;
    for (phase, is_taken) in [("reversed", false), ("target_only", true)] {
        pair.target.run(&set(phase, 9)).await;
        let done = segue.run(&["capture", "remove"]);
        let told = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(if is_taken { 0 } else { 4 }), "{phase}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_row_that_is_missing_is_written_and_none_that_is_there_is_changed() {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.succeed(&["init"]);
    for side in [&pair.source, &pair.target] {
        side.run("DELETE FROM segue.control").await;
    }
    assert!(segue.succeed(&["init"]).ends_with("phase source_only, epoch 1\n"));
    for side in [&pair.source, &pair.target] {
        assert_eq!(side.rows(PHASE).await, ["source_only 1"]);
    }
    segue.set_phase("dual_write").await;
    pair.target.run("DELETE FROM segue.control").await;
    assert!(segue.succeed(&["init"]).ends_with("phase dual_write, epoch 2\n"));
    assert_eq!(pair.target.rows(PHASE).await, ["dual_write 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_that_set_the_phase_is_wrong_usage_and_changes_nothing() {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    let refused = segue.run(&["init", "--phase", "source_only"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("segue phase back"), "{told}");
    assert_eq!(pair.source.rows(PHASE).await, ["dual_write 2"]);
    pair.source.run("INSERT INTO orders VALUES (7, 'x')").await;
    assert_eq!(pair.source.rows(KEYS).await, ["{7}"], "it is captured as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_table_that_cannot_be_captured_is_refused() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let map = "[[tables.map]]\nsource = \"public.log\"";
    let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), map);
    let output = segue.run(&["init"]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("public.log"), "{told}");
    // Nor does a sidecar go on with it.
    segue.serve().await;
    let output = segue.run(&["phase", "advance", "--force", "--reason", "a test"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("public.log"), "{told}");
    assert_eq!(pair.source.rows(PHASE).await, ["source_only 1"]);
}

/// What `segue phase advance` says of tables, refused.
async fn refused(source: &str, target: &str, dsn_target: Option<(&str, &str)>) -> String {
    let pair = Pair::fresh(source, target).await;
    let target =
        dsn_target.map_or(pair.target.dsn().to_owned(), |(a, b)| pair.target.dsn_with(a, b));
    let mut segue = Segue::prepare(pair.source.dsn(), &target, "");
    segue.succeed(&["init"]);
    segue.serve().await;
    let output = segue.run(&["phase", "advance"]);
    // Lines are broken where they would be too long.
    let told = String::from_utf8_lossy(&output.stdout);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}{error}");
    assert!(told.contains("tables fail every table can be captured and copied"), "{told}");
    assert_eq!(pair.source.rows(PHASE).await, ["source_only 1"], "{told}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_copies_is_refused_while_a_table_would_be_left_out() {
    let told = refused(TABLES, TABLES, None).await;
    assert!(told.contains("public.log") && told.contains("tables.exclude"), "{told}");
    for (target, why) in [
        ("", "does not exist"),
        ("CREATE TABLE orders (id int PRIMARY KEY)", "\"note\" is missing"),
        ("CREATE TABLE orders (id int, note text)", "primary key"),
        (
            "CREATE TABLE orders (id int PRIMARY KEY, note text, x int NOT NULL)",
            "\"x\" is NOT NULL",
        ),
        ("CREATE UNLOGGED TABLE orders (id int PRIMARY KEY, note text)", "SET LOGGED"),
    ] {
        let told = refused(TABLE, target, None).await;
        assert!(told.contains(why) && told.contains("tables.exclude"), "{target}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_on_the_target_are_named() {
    let target = format!(
        "{TABLE}; ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
         DO $$ BEGIN CREATE ROLE segue_bare LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
         CREATE SCHEMA segue AUTHORIZATION segue_bare; GRANT SELECT ON orders TO segue_bare"
    );
    let told = refused(TABLE, &target, Some(("postgres@", "segue_bare@"))).await;
    for part in [
        "GRANT SET ON PARAMETER session_replication_role TO \"segue_bare\"",
        "GRANT INSERT, UPDATE, DELETE ON TABLE \"public\".\"orders\" TO \"segue_bare\"",
        "BYPASSRLS",
    ] {
        assert!(told.contains(part), "{part} is not in: {told}");
    }
}

/// What `init --print` says between two lines that begin so.
fn part<'a>(printed: &'a str, from: &str, to: &str) -> &'a str {
    let begin = printed.find(from).unwrap_or_else(|| panic!("no {from} in {printed}"));
    let length = printed[begin..].find(to).unwrap_or_else(|| panic!("no {to} in {printed}"));
    &printed[begin..begin + length]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_grants_are_what_a_role_needs() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let role = format!("role_{}", pair.source.name());
    for side in [&pair.source, &pair.target] {
        side.run(&format!("CREATE ROLE {role} LOGIN")).await;
    }
    let dsn = |side: &support::Database| side.dsn_with("postgres@", &format!("{role}@"));
    let all = Segue::prepare(&dsn(&pair.source), &dsn(&pair.target), "");
    let exclude = "[tables]\nexclude = [\"public.log\"]";
    let segue = Segue::prepare(&dsn(&pair.source), &dsn(&pair.target), exclude);
    let refused = segue.run(&["init"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("CREATE SCHEMA IF NOT EXISTS segue"), "{told}");

    assert!(all.succeed(&["init", "--print"]).contains("-- not migrated: public.log"));
    let printed = segue.succeed(&["init", "--print"]);
    for part in ["CREATE OR REPLACE TRIGGER", "segue.member", "segue.leader", "segue.history"] {
        assert!(printed.contains(part), "{part} is not in {printed}");
    }
    pair.source.run(part(&printed, "-- source:", "-- segue's schema on the source")).await;
    pair.target.run(part(&printed, "-- target:", "-- segue's schema on the target")).await;
    segue.init_in("dual_write").await;
    assert_eq!(pair.source.rows(PHASE).await, ["dual_write 2"]);
    pair.source.run("INSERT INTO orders VALUES (7, 'x')").await;
    assert_eq!(pair.source.rows(KEYS).await, ["{7}"]);
}

/// Settings of a role or a database are the application's; segue's own sessions say what their
/// statements rely on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_for_the_database_does_not_reach_segues_own_work() {
    const KEYS: &str = "CREATE TABLE parts (id int[] PRIMARY KEY, v int)";
    let rows = "INSERT INTO parts SELECT ARRAY[1, NULL, i], i FROM generate_series(1, 50) AS i";
    let pair = Pair::fresh(KEYS, KEYS).await;
    pair.source.run(rows).await;
    for side in [&pair.source, &pair.target] {
        for setting in [
            "quote_all_identifiers = on",
            "array_nulls = off",
            "transform_null_equals = on",
            "enable_indexscan = off",
            "enable_bitmapscan = off",
            "enable_hashjoin = off",
            "cpu_tuple_cost = 1000",
            "plan_cache_mode = force_generic_plan",
            "jit_above_cost = 0",
            "lock_timeout = '1ms'",
            "statement_timeout = '5s'",
            "idle_session_timeout = '200ms'",
            "idle_in_transaction_session_timeout = '500ms'",
        ] {
            side.run(&format!("ALTER DATABASE {} SET {setting}", side.name())).await;
        }
    }
    pair.target
        .run(&format!("ALTER DATABASE {} SET transaction_timeout = '5s'", pair.target.name()))
        .await;
    let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    assert!(segue.succeed(&["capture", "install"]).contains("0 changed"));
    segue.serve().await;
    segue.succeed(&["backfill"]);
    let write = "SET statement_timeout = 0; SET array_nulls = on; UPDATE parts SET v = v + 1; \
        DELETE FROM parts WHERE v > 40; INSERT INTO parts VALUES ('{NULL,NULL}', 7)";
    pair.source.run(write).await;
    let all = "SET statement_timeout = 0; SELECT id, v FROM parts ORDER BY id";
    support::eventually("the target follows", std::time::Duration::from_secs(60), || async {
        (pair.source.rows(all).await == pair.target.rows(all).await).then_some(())
    })
    .await;
    let told = segue.succeed(&["verify"]);
    assert!(!told.contains("differ:"), "{told}");
    let plan = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'segue'";
    assert_ne!(pair.source.rows(plan).await, ["0"], "segue's sessions at rest are kept");
}
