//! Capture that was off, even for a moment, is noticed on both sides; the proofs of its tables are
//! void then, and the gate says which and why.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Database, Pair, Segue, eventually};

const LIMIT: Duration = Duration::from_secs(120);
const TABLES: &str = "CREATE TABLE item (id int PRIMARY KEY, v int); \
    CREATE TABLE audit (id int PRIMARY KEY, v int); \
    CREATE TABLE part (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); \
    CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (1000); \
    CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (1000) TO (2000); \
    INSERT INTO item SELECT n, n FROM generate_series(1, 1000) AS n; \
    INSERT INTO audit SELECT n, n FROM generate_series(1, 300) AS n; \
    INSERT INTO part SELECT n, n FROM generate_series(900, 1100) AS n; ANALYZE;";
const QUICK: &str = "[control]\npoll_interval = \"200ms\"\nlease = \"4s\"\n\
    [outbox]\ncapture_check_interval = \"1s\"\n";

/// How the gate *verify* of the present phase stands, and what was found.
fn gate(segue: &Segue) -> (String, String) {
    let report: Value = serde_json::from_str(&segue.succeed(&["phase", "--json"])).unwrap();
    let gates = report["gates"].as_array().unwrap();
    let gate = gates.iter().find(|it| it["name"] == "verify").unwrap();
    let text = |key: &str| gate[key].as_str().unwrap().to_owned();
    (text("mark"), text("found"))
}

async fn proven(pair: &Pair) -> Segue {
    let segue = Segue::serving(pair, "shadow_read", QUICK).await;
    // The first look at both sides is taken by the gate.
    gate(&segue);
    segue.succeed(&["verify"]);
    assert_eq!(gate(&segue).0, "pass");
    segue
}

/// The proofs of these tables alone are void.
fn void_are(segue: &Segue, names: &[&str], why: &str) {
    let (mark, found) = gate(segue);
    assert_eq!(mark, "inconclusive", "{found}");
    for name in ["item", "audit", "part"] {
        let told = found.contains(&format!("the proofs of public.{name} are void"));
        assert_eq!(told, names.contains(&name), "{name}: {found}");
    }
    assert!(found.contains(why), "{found}");
}

/// As an importing tool does it: no look of segue's falls into the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_were_off_for_an_import_void_the_proofs_of_their_table() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let segue = proven(&pair).await;
    let import = "BEGIN; ALTER TABLE item DISABLE TRIGGER ALL; \
        UPDATE item SET v = -1 WHERE id <= 100; INSERT INTO item VALUES (5000, 1); \
        ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_insert; \
        ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_update; \
        ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_delete; \
        ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_truncate; \
        ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_key; COMMIT";
    pair.source.run(import).await;
    void_are(&segue, &["item"], "on the source triggers of capture were switched off and on");
    // Everywhere that an operator looks.
    let warnings = segue.succeed(&["status"]);
    assert!(warnings.contains("the proofs of public.item are void"), "{warnings}");
    let history = segue.succeed(&["history"]);
    let flat = history.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("public.item on the source: triggers of capture were"), "{history}");
    // Found by the next verify, and mended by it.
    let output = segue.run(&["verify"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stdout));
    segue.succeed(&["verify", "--repair"]);
    assert_eq!(gate(&segue).0, "pass");
    let count = "SELECT count(*) FROM item WHERE v = -1 OR id = 5000";
    assert_eq!(pair.target.rows(count).await, ["101"]);
}

/// Rows come and go with it, and no trigger fires for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_away_voids_the_proofs_on_whichever_side() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let segue = proven(&pair).await;
    let away = |change: &str| {
        format!(
            "BEGIN; ALTER TABLE part DETACH PARTITION part_low; {change}; \
             ALTER TABLE part ATTACH PARTITION part_low FOR VALUES FROM (0) TO (1000); COMMIT"
        )
    };
    for (side, database) in [("source", &pair.source), ("target", &pair.target)] {
        database.run(&away("SELECT 1")).await;
        void_are(&segue, &["part"], &format!("on the {side} a partition was attached, detached"));
        segue.succeed(&["verify"]);
        assert_eq!(gate(&segue).0, "pass");
    }
}

async fn counted(database: &Database, table: &str, changes: u64) {
    let sql = format!(
        "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = '{table}'"
    );
    eventually("the server has counted", LIMIT, || async {
        let counted: u64 = database.rows(&sql).await[0].parse().unwrap();
        (counted >= changes).then_some(())
    })
    .await;
}

/// Counters are held against what triggers saw from the second minute on: lets two be over.
async fn minutes_are_over(database: &Database) {
    for _ in 0..2 {
        database
            .run("UPDATE segue.capture_seen SET counted_at = counted_at - '1 h'::interval")
            .await;
        eventually("the counters are kept", LIMIT, || async {
            let due = "SELECT count(*) FROM segue.capture_seen \
                WHERE counted_at < clock_timestamp() - interval '30 min'";
            (database.rows(due).await == ["0"]).then_some(())
        })
        .await;
    }
}

/// Who passes capture by, whatever way, is counted by the server.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_server_counted_and_capture_did_not_see_void_the_proofs() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let segue = proven(&pair).await;
    minutes_are_over(&pair.source).await;
    // What was rolled back is no write, though it is counted; what was captured neither.
    pair.source.run("BEGIN; INSERT INTO item VALUES (6000, 1), (6001, 1); ROLLBACK").await;
    counted(&pair.source, "item", 1002).await;
    assert_eq!(gate(&segue).0, "pass");
    pair.source.run("UPDATE item SET v = 0 WHERE id = 3").await;
    counted(&pair.source, "item", 1003).await;
    assert_eq!(gate(&segue).0, "pass");
    segue.succeed(&["verify"]);
    pair.source.run_as_copy("UPDATE audit SET v = -1 WHERE id <= 7").await;
    eventually("it is noticed", LIMIT, || async {
        (gate(&segue).0 == "inconclusive").then_some(())
    })
    .await;
    void_are(&segue, &["audit"], "the server counted 7 changed rows, and capture saw none");
}

/// Many more rows than capture saw are not hidden by the ones that it saw; not either where statistics
/// are gathered right after them, as importing tools do.
#[tokio::test(flavor = "multi_thread")]
async fn one_captured_write_does_not_hide_a_thousand_that_were_not() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let segue = proven(&pair).await;
    minutes_are_over(&pair.source).await;
    pair.source
        .run("UPDATE item SET v = 0 WHERE id = 3; UPDATE audit SET v = 0 WHERE id = 3")
        .await;
    pair.source.run("UPDATE part SET v = 0 WHERE id IN (950, 1050)").await;
    pair.source.run("UPDATE part SET id = id + 500 WHERE id IN (951, 952)").await;
    counted(&pair.source, "item", 1001).await;
    counted(&pair.source, "audit", 301).await;
    assert_eq!(gate(&segue).0, "pass", "each of them was captured");
    pair.source.run_as_copy("UPDATE item SET v = -1").await;
    let import = "INSERT INTO audit SELECT n, n FROM generate_series(5000, 7000) AS n";
    pair.source.run_as_copy(import).await;
    pair.source.run("ANALYZE audit").await;
    counted(&pair.source, "item", 2001).await;
    counted(&pair.source, "audit", 2301).await;
    void_are(&segue, &["item", "audit"], "changed rows, and capture saw");
}

/// Segue's own copies and noted writes are accounted for on the target, by what they did there.
#[tokio::test(flavor = "multi_thread")]
async fn rows_on_the_target_that_are_neither_segues_own_nor_noted_void_the_proofs() {
    // Gathering statistics on the target forgets what was counted there.
    let steady = format!("{TABLES} ALTER TABLE audit SET (autovacuum_enabled = off);");
    let pair = Pair::fresh(TABLES, &steady).await;
    let segue = proven(&pair).await;
    minutes_are_over(&pair.target).await;
    pair.source
        .run("UPDATE item SET v = v + 1 WHERE id <= 50; DELETE FROM part WHERE id < 950")
        .await;
    pair.source.run("UPDATE part SET id = id + 500 WHERE id IN (951, 952)").await;
    pair.target.run("UPDATE audit SET v = -5 WHERE id <= 9").await;
    for (table, changes) in [("item", 1050), ("audit", 318)] {
        counted(&pair.target, table, changes).await;
    }
    eventually("segue has written", LIMIT, || async {
        let left = "SELECT count(*) FROM part WHERE id < 953 AND id <> 950";
        (pair.target.rows(left).await == ["0"]).then_some(())
    })
    .await;
    segue.succeed(&["verify"]);
    assert_eq!(gate(&segue).0, "pass");
    // As what fires no trigger: its changes are counted by the server alone.
    let unseen = "UPDATE audit SET v = -1 WHERE id > 100; \
        DELETE FROM segue.accounted WHERE changes = 200 AND xmin = pg_current_xact_id()::xid";
    pair.target.run_as_copy(unseen).await;
    counted(&pair.target, "audit", 518).await;
    void_are(&segue, &["audit"], "on the target the server counted");
}
