//! What the gates make of backfill's and verify's figures, and the sweep of the member that leads.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Pair, Segue, eventually};

const LIMIT: Duration = Duration::from_secs(120);
const TABLES: &str = "CREATE TABLE item (id int PRIMARY KEY, v int); \
    CREATE TABLE note (id text COLLATE \"C\" PRIMARY KEY, v int);";
const ROWS: &str = "INSERT INTO item SELECT n, n FROM generate_series(1, 1000) AS n; \
    INSERT INTO note SELECT 'k' || n, n FROM generate_series(1, 500) AS n;";
const QUICK: &str = "[control]\npoll_interval = \"200ms\"\nlease = \"4s\"\n";

/// A gate of the present phase: how it stands, and what was found.
fn gate(segue: &Segue, name: &str) -> (String, String) {
    let report: Value = serde_json::from_str(&segue.succeed(&["phase", "--json"])).unwrap();
    let gates = report["gates"].as_array().unwrap();
    let gate = gates.iter().find(|it| it["name"] == name);
    let gate = gate.unwrap_or_else(|| panic!("no gate {name} in {report:#}"));
    let text = |key: &str| gate[key].as_str().unwrap().to_owned();
    (text("mark"), text("found"))
}

fn stands(segue: &Segue, name: &str, mark: &str, part: &str) {
    let (found_mark, found) = gate(segue, name);
    assert!(found_mark == mark && found.contains(part), "{name}: {found_mark}: {found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_of_the_backfill_goes_by_all_tables_of_the_migration() {
    let pair = Pair::fresh(&format!("{TABLES} {ROWS}"), TABLES).await;
    let segue = Segue::serving(&pair, "dual_write", QUICK).await;
    stands(&segue, "backfill", "inconclusive", "no copy was begun");
    // All that was begun is done; that is not all there is.
    segue.succeed(&["backfill", "--table", "item"]);
    stands(&segue, "backfill", "inconclusive", "1 of 3 tables copied; not begun: ");
    segue.succeed(&["backfill"]);
    stands(&segue, "backfill", "pass", "3 tables, 1500 rows");
    // A chunk that is not done.
    let open = |state: &str| {
        format!(
            "UPDATE segue.backfill SET state = '{state}' WHERE chunk = 1 AND table_id = \
             (SELECT table_id FROM segue.backfill_table WHERE source_name = 'item')"
        )
    };
    pair.target.run(&open("ready")).await;
    stands(&segue, "backfill", "inconclusive", "2 of 3 tables copied; public.item: ");
    pair.target.run(&open("done")).await;
    stands(&segue, "backfill", "pass", "3 tables");
    // What was copied before a gap in capture is worth nothing.
    pair.source.run("UPDATE segue.outbox_state SET capture_gaps = capture_gaps + 1").await;
    stands(&segue, "backfill", "fail", "capture was switched off since the copy of");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_of_verify_goes_by_proofs_that_stand() {
    let pair = Pair::fresh(&format!("{TABLES} {ROWS}"), &format!("{TABLES} {ROWS}")).await;
    let segue = Segue::serving(&pair, "shadow_read", QUICK).await;
    stands(&segue, "verify", "inconclusive", "nothing was verified yet");
    segue.succeed(&["verify", "--table", "item", "--chunk-rows", "250"]);
    stands(&segue, "verify", "inconclusive", "not all of ");
    segue.succeed(&["verify", "--chunk-rows", "250"]);
    stands(&segue, "verify", "pass", "chunks of 3 tables, 0 of them written since");
    // A write afterwards is the outbox's; the proof is not undone by it.
    pair.source.run("UPDATE item SET v = 0 WHERE id = 3").await;
    stands(&segue, "verify", "pass", "chunks of 3 tables");
    // A row that differs, and nothing on its way.
    pair.target.run_as_copy("UPDATE note SET v = -1 WHERE id = 'k77'").await;
    let output = segue.run(&["verify", "--chunk-rows", "250"]);
    assert_eq!(output.status.code(), Some(3));
    stands(&segue, "verify", "fail", "1 chunks differed when they were last read, of public.note");
    segue.succeed(&["verify", "--chunk-rows", "250", "--repair"]);
    stands(&segue, "verify", "pass", "chunks of 3 tables");
    // A server that was restarted since may have lost what was proven, though nobody noted it.
    pair.source.run("UPDATE segue.verify SET target_server = 'another' WHERE chunk = 1").await;
    stands(&segue, "verify", "inconclusive", "chunks proven; not all of ");
}

/// While the history is being copied, rows are missing that nobody has lost.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_backfill_has_not_come_to_are_told_apart_from_lost_ones() {
    let pair = Pair::fresh(&format!("{TABLES} {ROWS}"), TABLES).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    segue.succeed(&["backfill", "--chunk-rows", "100", "--workers", "1"]);
    // As it was in the middle: two chunks are not copied yet, and the last third is not cut.
    let of_item =
        "table_id = (SELECT table_id FROM segue.backfill_table WHERE source_name = 'item')";
    pair.target
        .run(&format!(
            "UPDATE segue.backfill SET state = 'ready' WHERE chunk IN (2, 3) AND {of_item}; \
             DELETE FROM segue.backfill WHERE chunk > 6 AND {of_item}; \
             UPDATE segue.backfill_table SET split_after = '{{600}}', split_done = false, chunks = 6 \
             WHERE {of_item}; \
             DELETE FROM item WHERE id > 100 AND id <= 300 OR id > 600; \
             DELETE FROM item WHERE id IN (7, 450)"
        ))
        .await;
    let output = segue.run(&["verify", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    let events: Vec<Value> = text.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let of = |what: &str| {
        let named = |it: &&Value| it["event"] == "finding" && it["what"] == what;
        let mut keys: Vec<u32> = events
            .iter()
            .filter(named)
            .map(|it| it["key"][0].as_str().unwrap().parse().unwrap())
            .collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(of("missing"), [7, 450]);
    let expected: Vec<u32> = (101..=300).chain(601..=1000).collect();
    assert_eq!(of("uncopied"), expected);
    let done = events.last().unwrap();
    assert_eq!((&done["differences"], &done["uncopied"]), (&2.into(), &600.into()));
    let told = segue.run(&["verify", "--table", "item", "--limit", "1000"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("uncopied public.item (101): the backfill has not come to it"), "{told}");
    assert!(told.contains("public.item: 2 differences, 600 rows not copied yet"), "{told}");
    // A repair brings them all the same.
    segue.succeed(&["verify", "--table", "item", "--repair"]);
    assert_eq!(pair.target.rows("SELECT count(*) FROM item").await, ["1000"]);
}

/// The member that leads sweeps, unless it is told not to; when it is lost, the one that leads then goes on.
#[tokio::test(flavor = "multi_thread")]
async fn who_leads_sweeps_and_hands_on() {
    let pair = Pair::fresh(&format!("{TABLES} {ROWS}"), TABLES).await;
    let sections = format!("{QUICK}[verify]\nload = 1.0\n");
    let mut first = Segue::prepare(pair.source.dsn(), pair.target.dsn(), &sections);
    first.init_in("dual_write").await;
    first.serve().await;
    let mut second = Segue::prepare(pair.source.dsn(), pair.target.dsn(), &sections);
    second.serve().await;
    let proven = || async {
        let rows =
            "SELECT count(*), count(*) FILTER (WHERE proven_at IS NOT NULL) FROM segue.verify";
        pair.source.rows(rows).await.remove(0)
    };
    assert_eq!(proven().await, "0|0", "before the copy there is nothing to be proven");
    first.succeed(&["backfill", "--table", "item", "--table", "note"]);
    eventually("all is proven", LIMIT, || async {
        let rows = proven().await;
        let (all, proven) = rows.split_once('|').unwrap();
        (all != "0" && all == proven).then_some(())
    })
    .await;
    assert!(first.logs().contains("this member leads, and sweeps"), "{}", first.logs());
    assert!(!second.logs().contains("this member leads, and sweeps"), "{}", second.logs());

    first.kill();
    eventually("the other one leads, and sweeps", LIMIT, || async {
        second.logs().contains("this member leads, and sweeps").then_some(())
    })
    .await;
    pair.target.run_as_copy("UPDATE item SET v = -1 WHERE id = 700").await;
    pair.source.run("UPDATE item SET v = 5 WHERE id = 600").await;
    // As if it had been read a while ago: a chunk is not read again at once.
    pair.source.run("UPDATE segue.verify SET read_at = read_at - '1 hour'::interval").await;
    eventually("it finds what was spoilt", LIMIT, || async {
        let logs = second.logs();
        (logs.contains("rows differ on the shadow") && logs.contains("700")).then_some(())
    })
    .await;
    let differs = "SELECT count(*) FROM segue.verify WHERE differs AND proven_at IS NULL";
    assert_eq!(pair.source.rows(differs).await, ["1"]);
}
