//! Proofs have an age: gates refuse those that are too old, and the sweep renews them in time.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Pair, Segue, eventually};

const LIMIT: Duration = Duration::from_secs(120);
const TABLES: &str = "CREATE TABLE item (id int PRIMARY KEY, v int); \
    CREATE TABLE audit (id int PRIMARY KEY, v int); \
    INSERT INTO item SELECT n, n FROM generate_series(1, 1000) AS n; \
    INSERT INTO audit SELECT n, n FROM generate_series(1, 300) AS n;";
const QUICK: &str = "[control]\npoll_interval = \"200ms\"\nlease = \"4s\"\n";

/// How the gate *verify* of the present phase stands, and what was found.
fn gate(segue: &Segue) -> (String, String) {
    let report: Value = serde_json::from_str(&segue.succeed(&["phase", "--json"])).unwrap();
    let gates = report["gates"].as_array().unwrap();
    let gate = gates.iter().find(|it| it["name"] == "verify").unwrap();
    let text = |key: &str| gate[key].as_str().unwrap().to_owned();
    (text("mark"), text("found"))
}

async fn aged(pair: &Pair, table: &str, by: &str) {
    let sql = format!(
        "UPDATE segue.verify SET read_at = read_at - interval '{by}', \
             proven_at = proven_at - interval '{by}' \
         WHERE table_id = (SELECT table_id FROM segue.migrated_table WHERE source_name = '{table}')"
    );
    pair.source.run(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_of_verify_refuses_a_proof_that_is_too_old_and_names_its_table() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let sections = format!("{QUICK}[gates]\nproof_max_age_of = {{ \"public.audit\" = \"7d\" }}\n");
    let segue = Segue::serving(&pair, "shadow_read", &sections).await;
    segue.succeed(&["verify", "--chunk-rows", "250"]);
    assert_eq!(gate(&segue).0, "pass");
    aged(&pair, "audit", "3 days").await;
    assert_eq!(gate(&segue).0, "pass", "it has an age of its own");
    aged(&pair, "item", "25 hours").await;
    let (mark, found) = gate(&segue);
    assert_eq!(mark, "inconclusive", "{found}");
    assert!(found.contains("public.item is 1 d 1 h old, and may be 1 d"), "{found}");
    assert!(!found.contains("audit"), "{found}");
    // The step forward goes by it.
    let output = segue.run(&["phase", "advance", "--to", "shift", "--reason", "a test"]);
    assert!(!output.status.success());
    // The oldest proof of each table is in the status.
    let status: Value = serde_json::from_str(&segue.succeed(&["status", "--json"])).unwrap();
    let tables = status["verify"]["tables"].as_array().unwrap();
    let names: Vec<&str> = tables.iter().map(|it| it["table"].as_str().unwrap()).collect();
    assert_eq!(names, ["public.audit", "public.item", "segue.idempotency"]);
    assert!(tables[0]["oldest_age_s"].as_f64().unwrap() > 3.0 * 86_400.0, "{status:#}");
    let page = segue.succeed(&["status"]);
    assert!(page.contains("public.audit: 2 of 2 chunks proven, the oldest proof is of"), "{page}");
    segue.succeed(&["verify", "--chunk-rows", "250"]);
    assert_eq!(gate(&segue).0, "pass");
}

/// Nobody writes anything: `verify.again_after` would leave the proofs alone for a day.
#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_renews_proofs_before_they_are_too_old() {
    let pair = Pair::fresh(TABLES, TABLES).await;
    let sections =
        format!("{QUICK}[gates]\nproof_max_age = \"40s\"\n[verify]\nsweep = true\nload = 1.0\n");
    let segue = Segue::serving(&pair, "shadow_read", &sections).await;
    segue.succeed(&["verify", "--chunk-rows", "100"]);
    let first = pair.source.rows("SELECT max(read_at) FROM segue.verify").await.remove(0);
    let renewed = format!(
        "SELECT count(*) FILTER (WHERE read_at <= '{first}'), \
             max(extract(epoch FROM clock_timestamp() - read_at))::int \
         FROM segue.verify WHERE proven_at IS NOT NULL"
    );
    let oldest = eventually("every proof is renewed", LIMIT, || async {
        let row = pair.source.rows(&renewed).await.remove(0);
        let (old, oldest) = row.split_once('|').unwrap();
        let oldest: u64 = oldest.parse().unwrap();
        (old == "0").then_some(oldest)
    })
    .await;
    assert!(oldest < 40, "no proof has run out: {oldest} s");
    assert_eq!(gate(&segue).0, "pass");
}
