//! Programs that write on the target while it follows: what they write is reconciled back, they are
//! named, and a gate fails until an operator has resolved them.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod support;

use std::time::Duration;

use futures_util::SinkExt;
use serde_json::Value;
use support::{Database, Pair, Segue, connect, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Client;

const LIMIT: Duration = Duration::from_secs(120);
const TABLES: &str = "CREATE TABLE item (id int PRIMARY KEY, v int); \
    CREATE TABLE audit (id int PRIMARY KEY, v int); \
    CREATE TABLE part (id int PRIMARY KEY, v int) PARTITION BY RANGE (id); \
    CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (1000); \
    CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (1000) TO (2000);";
/// The key's columns stand in another order on either side.
const PAIRS_OF_SOURCE: &str = "CREATE TABLE pair (a int, b text, v int, PRIMARY KEY (a, b));";
const PAIRS_OF_TARGET: &str = "CREATE TABLE pair (a int, b text, v int, PRIMARY KEY (b, a));";
const ROWS: &str = "INSERT INTO item SELECT n, n FROM generate_series(1, 1000) AS n; \
    INSERT INTO audit SELECT n, n FROM generate_series(1, 300) AS n; \
    INSERT INTO part SELECT n, n FROM generate_series(900, 1100) AS n; \
    INSERT INTO pair SELECT n, 'k' || n, n FROM generate_series(1, 50) AS n; ANALYZE;";
const QUICK: &str = "[control]\npoll_interval = \"200ms\"\nlease = \"4s\"\n\
    [outbox]\ncapture_check_interval = \"1s\"\npoll_interval = \"100ms\"\n\
    [gates]\ndual_write_min = \"1ms\"\nquiet_min = \"1ms\"\nsamples_min = 0\n\
    full_shift_min = \"1ms\"\nrehearsals_min = 0\noutbox_age_max = \"60s\"\n\
    [cutover]\nprepare_wait = \"2s\"\n";
const SHIFT: [&str; 7] = ["phase", "advance", "--to", "shift", "--force", "--reason", "no samples"];
const ALL: [&str; 4] = ["item", "audit", "part", "pair"];

/// A sidecar whose target has all rows by a backfill, verified, in `shadow_read`.
async fn verified() -> (Pair, Segue) {
    let source = format!("{TABLES} {PAIRS_OF_SOURCE} {ROWS}");
    let pair = Pair::fresh(&source, &format!("{TABLES} {PAIRS_OF_TARGET}")).await;
    let segue = Segue::serving(&pair, "dual_write", QUICK).await;
    segue.succeed(&["backfill"]);
    done(&segue, &["phase", "advance", "--to", "shadow_read"]).await;
    segue.succeed(&["verify"]);
    (pair, segue)
}

/// Runs a command until it succeeds: an epoch may have to settle.
async fn done(segue: &Segue, arguments: &[&str]) {
    eventually(&format!("{arguments:?}"), LIMIT, || async {
        segue.run(arguments).status.success().then_some(())
    })
    .await;
}

/// A session as another program has it.
async fn program(database: &Database, name: &str) -> Client {
    let role = format!("etl_{}", database.name());
    let setup = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN \
         CREATE ROLE {role} LOGIN; END IF; END $$; \
         GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"
    );
    database.run(&setup).await;
    let client = connect(&database.dsn_with("//postgres@", &format!("//{role}@"))).await;
    client.batch_execute(&format!("SET application_name = '{name}'")).await.unwrap();
    client
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

async fn are_equal(pair: &Pair, tables: &[&str]) {
    are_equal_within(LIMIT, pair, tables).await;
}

async fn are_equal_within(limit: Duration, pair: &Pair, tables: &[&str]) {
    for table in tables {
        let rows = format!("SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY 1");
        eventually(&format!("{table} is equal on both sides"), limit, || async {
            (pair.source.rows(&rows).await == pair.target.rows(&rows).await).then_some(())
        })
        .await;
    }
    let notes = "SELECT count(*) FROM segue.foreign_write";
    assert_eq!(pair.target.rows(notes).await, ["0"], "what was handled goes");
}

/// Waits until the target's own row says that it refuses others' writes.
async fn refuses(pair: &Pair) {
    eventually("the target refuses", LIMIT, || async {
        let phase = pair.target.rows("SELECT phase FROM segue.control").await;
        (phase == ["shift"]).then_some(())
    })
    .await;
}

/// A gate of the present phase: how it stands, and what was found.
fn gate(segue: &Segue, name: &str) -> (String, String) {
    let report: Value = serde_json::from_str(&segue.succeed(&["phase", "--json"])).unwrap();
    let gates = report["gates"].as_array().unwrap();
    let gate = gates.iter().find(|it| it["name"] == name);
    let gate = gate.unwrap_or_else(|| panic!("no gate {name} in {report:#}"));
    (gate["mark"].as_str().unwrap().to_owned(), gate["found"].as_str().unwrap().to_owned())
}

fn drift(segue: &Segue) -> Vec<Value> {
    let output = segue.run(&["drift", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = found.as_array().unwrap().clone();
    let open = found.iter().any(|it| it["resolution"].is_null());
    assert_eq!(output.status.code(), Some(if open { 3 } else { 0 }));
    found
}

fn keys(writer: &Value, table: &str) -> (u64, u64) {
    let tables = writer["tables"].as_array().unwrap();
    let table = tables.iter().find(|it| it["table"] == table);
    let table = table.unwrap_or_else(|| panic!("no such table: {writer:#}"));
    (table["keys"].as_u64().unwrap(), table["whole"].as_u64().unwrap())
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn metrics(segue: &Segue) -> String {
    let address = segue.admin_address();
    let mut stream =
        tokio::net::TcpStream::connect(address.trim_start_matches("http://")).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: segue\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// In one transaction, so that no look of segue's falls into it.
const UNSEEN_ON_TARGET: &str = "BEGIN; ALTER TABLE item DISABLE TRIGGER ALL; \
    UPDATE item SET v = -1 WHERE id = 7; \
    ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_insert; \
    ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_update; \
    ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_delete; \
    ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_truncate; \
    ALTER TABLE item ENABLE ALWAYS TRIGGER segue_capture_key; COMMIT";

/// The target takes such writes, notes nothing and refuses nothing: only the catalogue tells.
#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_were_off_on_the_target_void_the_proofs_and_the_gate_waits() {
    let source = format!("{TABLES} {PAIRS_OF_SOURCE} {ROWS}");
    let pair = Pair::fresh(&source, &format!("{TABLES} {PAIRS_OF_TARGET}")).await;
    let segue = Segue::serving(&pair, "dual_write", QUICK).await;
    segue.succeed(&["backfill"]);
    segue.succeed(&["verify"]);
    let why = "the proofs of public.item are void: on the target triggers of capture were switched";
    let is_void = async |since: &str| {
        eventually(since, LIMIT, || async {
            flat(&segue.succeed(&["status"])).contains(why).then_some(())
        })
        .await;
    };
    let found = || segue.run(&["verify"]).status.code();

    pair.target.run(UNSEEN_ON_TARGET).await;
    is_void("it is noticed in dual_write").await;
    done(&segue, &["phase", "advance", "--to", "shadow_read"]).await;
    let (mark, text) = gate(&segue, "verify");
    assert_eq!(mark, "inconclusive", "{text}");
    assert!(text.contains(why), "{text}");
    assert_eq!(found(), Some(3), "the row is found");
    segue.succeed(&["verify", "--repair"]);
    assert_eq!(gate(&segue, "verify").0, "pass");

    done(&segue, &SHIFT).await;
    refuses(&pair).await;
    assert_eq!(gate(&segue, "verify").0, "pass");
    pair.target.run(UNSEEN_ON_TARGET).await;
    let (mark, text) = gate(&segue, "verify");
    assert_eq!(mark, "inconclusive", "{text}");
    assert!(text.contains(why), "{text}");
    is_void("it is noticed in shift").await;
    assert_eq!(found(), Some(3), "the row is found");
    segue.succeed(&["verify", "--repair"]);
    assert_eq!(gate(&segue, "verify").0, "pass");
    are_equal(&pair, &ALL).await;
}

/// Every way to write, from after the verify to the cutover.
#[tokio::test(flavor = "multi_thread")]
async fn what_other_programs_write_on_the_target_is_reconciled_back_named_and_resolved() {
    let (pair, segue) = verified().await;
    assert_eq!(gate(&segue, "foreign writes").0, "pass");
    let client = program(&pair.target, "nightly load").await;
    run(&client, "UPDATE item SET v = -1 WHERE id <= 5").await;
    run(&client, "UPDATE item SET id = id + 5000 WHERE id = 700").await;
    run(&client, "INSERT INTO item VALUES (9001, 1), (9002, 2)").await;
    run(&client, "DELETE FROM part WHERE id BETWEEN 995 AND 1004").await;
    run(&client, "UPDATE part SET id = id + 500 WHERE id = 950").await;
    run(&client, "UPDATE pair SET v = -1 WHERE a = 7; DELETE FROM pair WHERE a = 8").await;
    run(&client, "TRUNCATE audit").await;
    let copy = client.copy_in::<_, &[u8]>("COPY item FROM STDIN").await.unwrap();
    let mut copy = std::pin::pin!(copy);
    copy.send(b"9100\t1\n9101\t2\n9102\t3\n").await.unwrap();
    copy.finish().await.unwrap();
    // What touches no row, and what is rolled back, is nothing.
    run(&client, "UPDATE audit SET v = 0 WHERE id < 0; BEGIN; DELETE FROM item; ROLLBACK").await;

    let (mark, found) = gate(&segue, "foreign writes");
    assert_eq!(mark, "fail", "{found}");
    for part in [
        &format!("role etl_{}", pair.target.name()) as &str,
        "application \"nightly load\"",
        "from 127.0.0.1",
        "keys of public.item",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    are_equal(&pair, &ALL).await;
    let writers = drift(&segue);
    assert_eq!(writers.len(), 1, "{writers:#?}");
    let writer = &writers[0];
    assert_eq!(
        (&writer["side"], &writer["application"]),
        (&"target".into(), &"nightly load".into())
    );
    // Two inserted, three copied, five updated, and one whose key was: the old and the new one.
    assert_eq!(keys(writer, "public.item"), (12, 0));
    // Ten deleted, and one moved to another partition.
    assert_eq!(keys(writer, "public.part"), (12, 0));
    assert_eq!(keys(writer, "public.pair"), (2, 0));
    assert_eq!(keys(writer, "public.audit"), (0, 1));
    // Everywhere that an operator looks.
    let status = flat(&segue.succeed(&["status"]));
    assert!(status.contains("application \"nightly load\", from 127.0.0.1 wrote on"), "{status}");
    let history = flat(&segue.succeed(&["history"]));
    assert!(history.contains("writes on the target past segue:"), "{history}");
    assert_eq!(history.matches("writes on the target past segue:").count(), 1, "{history}");
    let metric = "application=\"nightly load\",address=\"127.0.0.1\",table=\"public.item\"} 12.0";
    eventually("the scrape has it", LIMIT, || async {
        metrics(&segue).await.contains(metric).then_some(())
    })
    .await;

    let shift = ["phase", "advance", "--to", "shift"];
    assert_eq!(segue.run(&shift).status.code(), Some(4), "a gate fails");
    let id = writer["id"].as_str().unwrap();
    assert_eq!(segue.run(&["drift", "resolve", id]).status.code(), Some(2), "without a reason");
    let nobody = segue.run(&["drift", "resolve", "0000", "--reason", "x", "--actor", "me"]);
    assert_eq!(nobody.status.code(), Some(1), "{}", String::from_utf8_lossy(&nobody.stderr));
    let resolve = ["drift", "resolve", id, "--reason", "the load is switched off", "--actor", "me"];
    segue.succeed(&resolve);
    assert_eq!(gate(&segue, "foreign writes").0, "pass");
    assert_eq!(drift(&segue)[0]["resolution"]["reason"], "the load is switched off");
    let history = flat(&segue.succeed(&["history"]));
    assert!(history.contains("are resolved: the load is switched off"), "{history}");
    // It was not.
    run(&client, "UPDATE item SET v = -2 WHERE id = 17").await;
    let (mark, found) = gate(&segue, "foreign writes");
    assert_eq!(mark, "fail", "{found}");
    segue.succeed(&["drift", "resolve", "--all", "--reason", "now it is", "--actor", "me"]);
    are_equal(&pair, &ALL).await;
    // Nobody reads here, so that nothing was sampled: there is too little evidence, and no more.
    assert_eq!(segue.run(&shift).status.code(), Some(5));
    done(&segue, &SHIFT).await;
    // From here on it is refused, as soon as the target knows.
    refuses(&pair).await;
    let refused = client.batch_execute("UPDATE item SET v = -3 WHERE id = 18").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "25006");
    let force = ["cutover", "--yes", "--force", "--reason", "a test", "--max-pause", "30s"];
    done(&segue, &force).await;
    are_equal(&pair, &ALL).await;
}

/// Triggers fire there all the same, and a role that was taken on is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_replica_mode_is_noted_as_any_other() {
    let (pair, segue) = verified().await;
    let name = pair.target.name();
    let taken_on = format!(
        "SET application_name = 'import'; SET session_replication_role = replica; \
         CREATE ROLE other_{name}; GRANT ALL ON item TO other_{name}; SET ROLE other_{name}; \
         UPDATE item SET v = -1 WHERE id <= 100; RESET ROLE; DROP OWNED BY other_{name}; \
         DROP ROLE other_{name}"
    );
    pair.target.run(&taken_on).await;
    let (mark, found) = gate(&segue, "foreign writes");
    assert_eq!(mark, "fail", "{found}");
    assert!(
        found.contains(&format!("role postgres as other_{name}, application \"import\"")),
        "{found}"
    );
    are_equal(&pair, &ALL).await;
    assert_eq!(keys(&drift(&segue)[0], "public.item"), (100, 0));
}

/// A setting that says so is not enough to pass for a copy.
#[tokio::test(flavor = "multi_thread")]
async fn who_says_to_be_a_copy_and_is_none_is_noted() {
    let (pair, segue) = verified().await;
    let client = program(&pair.target, "clever").await;
    run(&client, "SET segue.copies = 'on'; UPDATE item SET v = -1 WHERE id = 3").await;
    assert_eq!(gate(&segue, "foreign writes").0, "fail");
    are_equal(&pair, &["item"]).await;
}

/// Segue's own copies pass: backfill, reconcile, repair, also where they are ended in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn segues_own_copies_leave_no_notes() {
    let source = format!("{TABLES} {PAIRS_OF_SOURCE} {ROWS}");
    let pair = Pair::fresh(&source, &format!("{TABLES} {PAIRS_OF_TARGET}")).await;
    let more = "INSERT INTO item SELECT n, n FROM generate_series(10001, 40000) AS n";
    pair.source.run(more).await;
    let mut segue = Segue::serving(&pair, "dual_write", QUICK).await;
    // A note that came and was handled stands in the list.
    let noted = "SELECT (SELECT count(*) FROM segue.foreign_write)";
    let listed = "SELECT count(*) FROM segue.foreign_writer";
    let copy = segue.running(&["backfill", "--chunk-rows", "500"]);
    eventually("some of it is copied", LIMIT, || async {
        let copied = pair.target.rows("SELECT count(*) > 2000 FROM item").await;
        (copied == ["t"]).then_some(())
    })
    .await;
    copy.kill();
    pair.source.run("UPDATE item SET v = v + 1 WHERE id % 7 = 0; DELETE FROM part").await;
    pair.source.run("TRUNCATE audit; UPDATE pair SET a = a + 1000 WHERE a < 20").await;
    segue.kill();
    segue.serve().await;
    segue.succeed(&["backfill"]);
    done(&segue, &["phase", "advance", "--to", "shadow_read"]).await;
    pair.target.run_as_copy("UPDATE item SET v = -9 WHERE id IN (5, 20000)").await;
    segue.run(&["verify", "--repair"]);
    are_equal(&pair, &ALL).await;
    assert_eq!(pair.target.rows(noted).await, ["0"]);
    assert_eq!(pair.source.rows(listed).await, ["0"]);
    segue.succeed(&["backfill", "--empty-target"]);
    are_equal(&pair, &ALL).await;
    assert_eq!(pair.source.rows(listed).await, ["0"]);
    assert_eq!(gate(&segue, "foreign writes").0, "pass");
}

/// All rows of both tables are gone through, in debug and beside other tests.
const MASS_LIMIT: Duration = Duration::from_secs(600);

/// Large statements and very many small ones are noted as whole tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_mass_of_writes_is_bounded_in_notes_memory_and_time() {
    const ROWS: u64 = 200_000;
    const SMALL: u64 = 60_000;
    const MEMORY_KB_MAX: u64 = 100_000;
    let rows = format!(
        "CREATE TABLE big (id int PRIMARY KEY, v int); CREATE TABLE many (id int PRIMARY KEY, v int); \
         INSERT INTO big SELECT n, n FROM generate_series(1, {ROWS}) AS n; \
         INSERT INTO many SELECT n, n FROM generate_series(1, {SMALL}) AS n; ANALYZE;"
    );
    let pair = Pair::fresh(&rows, &rows).await;
    let mut segue = Segue::serving(&pair, "shadow_read", QUICK).await;
    let before = segue.memory_kb();
    // Nobody takes the notes away meanwhile.
    segue.kill();
    pair.target.run("UPDATE big SET v = -1").await;
    let notes =
        "SELECT count(*), coalesce(sum(key_count), 0), count(keys) FROM segue.foreign_write";
    assert_eq!(pair.target.rows(notes).await, [format!("1|{ROWS}|0")], "one note, without keys");
    let one_by_one = format!(
        "DO $$ BEGIN FOR n IN 1..{SMALL} LOOP UPDATE many SET v = -1 WHERE id = n; END LOOP; END $$"
    );
    pair.target.run(&one_by_one).await;
    let begun = std::time::Instant::now();
    segue.serve().await;
    are_equal_within(MASS_LIMIT, &pair, &["big", "many"]).await;
    println!("equal again after {:?}", begun.elapsed());
    let writers = drift(&segue);
    assert_eq!(keys(&writers[0], "public.big"), (ROWS, 1));
    assert_eq!(keys(&writers[0], "public.many"), (SMALL, 1));
    let held = segue.memory_kb();
    assert!(held < before + MEMORY_KB_MAX, "{held} kB, {before} kB before");
}

/// Its notes come with its commit: neither a gate nor a cutover may be faster.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_from_before_shift_is_waited_for_and_then_counted() {
    let (pair, segue) = verified().await;
    let open = program(&pair.target, "slow").await;
    run(&open, "BEGIN; UPDATE item SET v = -1 WHERE id = 3").await;
    let old = program(&pair.target, "old").await;
    run(&old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM item").await;
    done(&segue, &SHIFT).await;
    refuses(&pair).await;
    // What sees the phase of before must not go by it.
    let refused = old.batch_execute("UPDATE item SET v = -1 WHERE id = 4").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "40001");
    run(&old, "ROLLBACK").await;
    // Nor is any read shifted to what is not undone yet.
    let output = segue.run(&["phase", "percentage", "100"]);
    let told = flat(&String::from_utf8([output.stdout, output.stderr].concat()).unwrap());
    assert!(!output.status.success() && told.contains("wrote on the target past segue"), "{told}");
    let cutover = |more: &[&str]| {
        let asked = ["cutover", "--yes", "--max-pause", "30s"];
        let output = segue.run(&[&asked, more].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), flat(&String::from_utf8(text).unwrap()))
    };
    let (code, told) = cutover(&["--force", "--reason", "a test"]);
    assert_eq!(code, Some(1), "{told}");
    let expected = "a transaction that wrote on the target past segue is open: process";
    assert!(told.contains(expected), "{told}");
    run(&open, "COMMIT").await;
    done(&segue, &["phase", "percentage", "100"]).await;
    assert_eq!(pair.target.rows("SELECT v FROM item WHERE id = 3").await, ["3"]);
    let (code, told) = cutover(&[]);
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains("foreign writes fail"), "{told}");
    are_equal(&pair, &["item"]).await;
    segue.succeed(&["drift", "resolve", "--all", "--reason", "it has ended", "--actor", "me"]);
    done(&segue, &["cutover", "--yes", "--max-pause", "30s", "--force", "--reason", "a test"])
        .await;
    assert_eq!(pair.target.rows("SELECT v FROM item WHERE id = 3").await, ["3"]);
    are_equal(&pair, &ALL).await;
}

/// A table that came after the target was first captured is noted as well.
#[tokio::test(flavor = "multi_thread")]
async fn tables_and_partitions_that_come_later_are_noted_as_well() {
    let (pair, segue) = verified().await;
    let later = "CREATE TABLE a_later (id int PRIMARY KEY, v int); \
        CREATE TABLE part_top PARTITION OF part FOR VALUES FROM (2000) TO (3000)";
    pair.target.run(later).await;
    pair.source.run(later).await;
    pair.source.run("INSERT INTO a_later VALUES (1, 1)").await;
    let triggers = "SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid \
        WHERE relname IN ('a_later', 'part_top') AND tgname LIKE 'segue_capture_%' AND tgenabled = 'A'";
    eventually("they are captured", LIMIT, || async {
        (pair.target.rows(triggers).await == ["9"]).then_some(())
    })
    .await;
    let client = program(&pair.target, "later").await;
    run(&client, "INSERT INTO a_later VALUES (2, 2); INSERT INTO part_top VALUES (2500, 1)").await;
    assert_eq!(gate(&segue, "foreign writes").0, "fail");
    are_equal(&pair, &["a_later", "part"]).await;
    let writers = drift(&segue);
    assert_eq!(
        (keys(&writers[0], "public.a_later"), keys(&writers[0], "public.part")),
        ((1, 0), (1, 0))
    );
}
