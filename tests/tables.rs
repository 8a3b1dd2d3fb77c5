//! Tables that leave the migration, change their names or their keys, and keys that name nothing
//! any more: what they leave in the outbox has an end, by itself or by the command that the
//! reason names.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Pair, Segue, eventually};

const LIMIT: Duration = Duration::from_secs(120);
/// A key that failed is not tried again by itself while a test runs.
const ONE_TRY: &str = "[outbox]\nstuck_after = 1\nbackoff_min = \"1h\"\nbackoff_max = \"1h\"\n";

async fn until(segue: &Segue, what: &str, holds: impl Fn(&Value) -> bool) {
    eventually(what, LIMIT, || async {
        let now: Value = serde_json::from_str(&segue.succeed(&["status", "--json"])).unwrap();
        holds(&now["outbox"]).then_some(())
    })
    .await;
}

/// Replays what waits until nothing does: tables are not looked at again within a second.
async fn nothing_waits(segue: &Segue) {
    until(segue, "nothing waits", |outbox| {
        if outbox["pending"] == 0 {
            return true;
        }
        segue.succeed(&["outbox", "retry"]);
        false
    })
    .await;
}

fn said(output: &std::process::Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn state_of(segue: &Segue, table: &str) -> String {
    let listed: Value = serde_json::from_str(&segue.succeed(&["tables", "--json"])).unwrap();
    let mut all = listed.as_array().unwrap().iter();
    let found = all.find(|it| it["source"] == table);
    found.map_or_else(|| "none".to_owned(), |it| it["state"].as_str().unwrap().to_owned())
}

const TWO: &str = "CREATE TABLE kept (id int PRIMARY KEY, v text);
    CREATE TABLE doomed (id int PRIMARY KEY, v text)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_dropped_is_retired_by_the_command_that_its_reason_names() {
    let pair = Pair::fresh(TWO, TWO).await;
    let segue = Segue::serving(&pair, "dual_write", ONE_TRY).await;
    pair.target.run("DROP TABLE doomed").await;
    pair.source.run("INSERT INTO doomed VALUES (1, 'a'), (2, 'b')").await;
    until(&segue, "its keys are stuck", |outbox| outbox["stuck"] == 2).await;
    let refused = segue.run(&["tables", "retire", "public.doomed", "--reason", "early"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("tables.exclude"), "{}", said(&refused));

    pair.source.run("DROP TABLE doomed").await;
    assert_eq!(state_of(&segue, "public.doomed"), "gone");
    let stuck = segue.succeed(&["outbox", "--stuck"]);
    assert!(stuck.contains("segue tables retire"), "{stuck}");
    let told = segue.succeed(&["tables", "retire", "public.doomed", "--reason", "dropped"]);
    assert!(told.contains("2 keys settled"), "{told}");
    until(&segue, "nothing waits", |outbox| outbox["pending"] == 0).await;
    assert_eq!(state_of(&segue, "public.doomed"), "retired");
    let history: Value = serde_json::from_str(&segue.succeed(&["history", "--json"])).unwrap();
    let of_table = |it: &&Value| it["figures"]["table"] == "public.doomed";
    let event = history.as_array().unwrap().iter().find(of_table).unwrap();
    assert_eq!(event["figures"]["change"], "retired", "{event:#}");
    assert_eq!(event["figures"]["keys_settled"], 2, "{event:#}");
    // Safe to repeat.
    segue.succeed(&["tables", "retire", "public.doomed", "--reason", "again"]);

    // A key that is noted by whoever began before is taken for done.
    let late = "INSERT INTO segue.outbox (slot, table_id, key)
        SELECT 0, table_id, k FROM segue.retired_table, (VALUES (ARRAY['9']), (NULL)) AS v (k)";
    pair.source.run(late).await;
    until(&segue, "nothing waits", |outbox| outbox["pending"] == 0).await;
    pair.source.run("INSERT INTO kept VALUES (1, 'a')").await;
    eventually("the others go on", LIMIT, async || {
        (pair.target.rows("SELECT v FROM kept").await == ["a"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_excluded_after_a_first_init_is_retired_and_comes_back() {
    let pair = Pair::fresh(TWO, TWO).await;
    let first = Segue::serving(&pair, "dual_write", ONE_TRY).await;
    pair.target.run("ALTER TABLE doomed RENAME TO away").await;
    pair.source.run("INSERT INTO doomed VALUES (1, 'a')").await;
    until(&first, "its key is stuck", |outbox| outbox["stuck"] == 1).await;
    drop(first);

    let sections = format!("{ONE_TRY}[tables]\nexclude = [\"public.doomed\"]\n");
    let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), &sections);
    segue.serve().await;
    assert_eq!(state_of(&segue, "public.doomed"), "excluded");
    let told = segue.succeed(&["tables", "retire", "public.doomed", "--reason", "excluded"]);
    assert!(told.contains("1 key settled"), "{told}");
    pair.source.run("INSERT INTO doomed VALUES (2, 'b'); UPDATE doomed SET v = 'c'").await;
    until(&segue, "nothing waits", |outbox| outbox["pending"] == 0).await;
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'doomed'::regclass";
    assert_eq!(pair.source.rows(triggers).await, ["0"]);
    let refused = segue.run(&["tables", "adopt", "public.doomed", "--reason", "early"]);
    assert!(said(&refused).contains("tables.exclude"), "{}", said(&refused));
    drop(segue);

    // A member that does not exclude it leaves it alone until it is adopted.
    pair.target.run("ALTER TABLE away RENAME TO doomed").await;
    let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), ONE_TRY);
    segue.serve().await;
    segue.succeed(&["capture", "install"]);
    assert_eq!(pair.source.rows(triggers).await, ["0"]);
    segue.succeed(&["tables", "adopt", "public.doomed", "--reason", "wanted again"]);
    assert_eq!(state_of(&segue, "public.doomed"), "migrated");
    eventually("it is copied whole", LIMIT, async || {
        let all = "SELECT id, v FROM doomed ORDER BY 1";
        (pair.target.rows(all).await == ["1|c", "2|c"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_renamed_is_followed_and_the_other_sides_name_is_asked_for() {
    let pair = Pair::fresh(TWO, TWO).await;
    let segue = Segue::serving(&pair, "dual_write", ONE_TRY).await;
    let id = "SELECT table_id FROM segue.migrated_table WHERE source_name IN ('doomed', 'named')";
    let before = pair.source.rows(id).await;
    pair.source.run("ALTER TABLE doomed RENAME TO named").await;
    segue.succeed(&["capture", "install"]);
    assert_eq!(pair.source.rows(id).await, before, "it keeps its id");
    assert_eq!(state_of(&segue, "public.named"), "migrated");
    assert_eq!(state_of(&segue, "public.doomed"), "none");
    pair.source.run("INSERT INTO named VALUES (1, 'a')").await;
    until(&segue, "it waits for the target", |outbox| outbox["stuck"] != 0).await;
    let stuck = segue.succeed(&["outbox", "--stuck"]);
    assert!(stuck.contains("rename it there"), "{stuck}");
    pair.target.run("ALTER TABLE doomed RENAME TO named").await;
    nothing_waits(&segue).await;
    assert_eq!(pair.target.rows("SELECT id, v FROM named").await, ["1|a"]);
}

/// As tools for online changes of the schema do at their end: both names change at one moment, and
/// the triggers stay with the old relation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_exchange_their_names_lose_nothing_and_the_old_one_can_be_retired() {
    let orders = "CREATE TABLE orders (id int PRIMARY KEY, v text)";
    let pair = Pair::fresh(orders, orders).await;
    let segue = Segue::serving(&pair, "dual_write", ONE_TRY).await;
    pair.source.run("INSERT INTO orders SELECT n, 'old' FROM generate_series(1, 50) AS n").await;
    nothing_waits(&segue).await;
    // The tool's copy, with a row that came meanwhile.
    pair.source.run("CREATE TABLE _orders_new (id int PRIMARY KEY, v text)").await;
    pair.source.run("INSERT INTO _orders_new SELECT id, 'copied' FROM orders WHERE id > 1").await;
    // segue may have found it before the exchange.
    segue.succeed(&["capture", "install"]);
    pair.source
        .run(
            "BEGIN; ALTER TABLE orders RENAME TO _orders_old; \
             ALTER TABLE _orders_new RENAME TO orders; \
             INSERT INTO orders VALUES (51, 'at once'); COMMIT",
        )
        .await;
    segue.succeed(&["capture", "install"]);
    pair.source
        .run("INSERT INTO orders VALUES (52, 'after'); DELETE FROM orders WHERE id = 2")
        .await;
    eventually("the new table is copied whole", LIMIT, async || {
        segue.succeed(&["outbox", "retry"]);
        let all = "SELECT id, v FROM orders ORDER BY 1";
        (pair.target.rows(all).await == pair.source.rows(all).await).then_some(())
    })
    .await;
    assert_eq!(state_of(&segue, "public.orders"), "migrated");
    assert_eq!(state_of(&segue, "public._orders_new"), "gone");
    // What is left of the tool's names waits for a table that the target has not.
    for leftover in ["_orders_new", "_orders_old"] {
        pair.source.run(&format!("DROP TABLE IF EXISTS {leftover}")).await;
        let name = format!("public.{leftover}");
        segue.succeed(&["tables", "retire", &name, "--reason", "the tool's"]);
        assert_eq!(state_of(&segue, &name), "retired");
    }
    nothing_waits(&segue).await;
    pair.source.run("UPDATE orders SET v = 'last'").await;
    nothing_waits(&segue).await;
    let last = "SELECT count(*) FROM orders WHERE v = 'last'";
    assert_eq!(pair.target.rows(last).await, pair.source.rows(last).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_the_shadow_cannot_hold_is_done_when_its_row_is_gone() {
    let wide = "CREATE TABLE wide (id bigint PRIMARY KEY, v text)";
    let pair = Pair::fresh(wide, "CREATE TABLE wide (id int PRIMARY KEY, v text)").await;
    let segue = Segue::serving(&pair, "dual_write", ONE_TRY).await;
    pair.source.run("INSERT INTO wide VALUES (1, 'a'), (3000000000, 'far')").await;
    until(&segue, "the far one is stuck", |outbox| outbox["stuck"] == 1 && outbox["pending"] == 1)
        .await;
    // As long as the row is there it waits.
    segue.succeed(&["outbox", "retry"]);
    until(&segue, "it was tried again", |outbox| outbox["failed_total"].as_u64() >= Some(2)).await;
    let kept = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
    assert_eq!(pair.source.rows(kept).await, ["1"]);
    pair.source.run("DELETE FROM wide WHERE id = 3000000000").await;
    nothing_waits(&segue).await;
    assert_eq!(pair.target.rows("SELECT id FROM wide").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_primary_key_that_was_changed_give_way_to_the_whole_table() {
    let source = "CREATE TABLE keyed (a int PRIMARY KEY, b int NOT NULL, v text)";
    let pair = Pair::fresh(source, &source.replace("text", "varchar(3)")).await;
    let segue = Segue::serving(&pair, "dual_write", ONE_TRY).await;
    pair.source.run("INSERT INTO keyed VALUES (1, 1, 'too long'), (2, 2, 'b')").await;
    until(&segue, "a key is stuck", |outbox| outbox["stuck"] == 1).await;
    let change = "ALTER TABLE keyed DROP CONSTRAINT keyed_pkey, ADD PRIMARY KEY (a, b)";
    for side in [&pair.source, &pair.target] {
        side.run(change).await;
    }
    pair.target.run("ALTER TABLE keyed ALTER v TYPE text").await;
    segue.succeed(&["capture", "install"]);
    nothing_waits(&segue).await;
    let all = "SELECT a, b, v FROM keyed ORDER BY a";
    assert_eq!(pair.target.rows(all).await, ["1|1|too long", "2|2|b"]);
}
