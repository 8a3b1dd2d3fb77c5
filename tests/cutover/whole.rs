//! `cutover.full_verify`: tables that are compared whole while no one can write.

use serde_json::Value;

use crate::fleet::{Fleet, said};

/// Six chunks, of which the prediction reads every second one.
const LEDGER: &str = "CREATE TABLE big_ledger (id int PRIMARY KEY, amount bigint); \
    INSERT INTO big_ledger SELECT n, n FROM generate_series(1, 60000) AS n; \
    ANALYZE big_ledger;";
const WHOLE: &str = "full_verify = [\"public.big_ledger\"]\n";

/// What the last line of `--json` says.
fn end(told: &str) -> Value {
    let end = told.lines().rev().find(|line| line.contains("\"outcome\"")).unwrap();
    serde_json::from_str(end).unwrap()
}

/// The row lies in a chunk whose proof is fresh, and the outbox knows nothing of the change: only
/// a look at every row under the fence finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_changed_behind_the_proof_calls_the_cutover_off() {
    let mut fleet = Fleet::in_shift_of(1, LEDGER, WHOLE).await;
    fleet.members[0].succeed(&["verify"]);
    fleet.members[0].kill();
    fleet.members[0].serve_with(&[("SEGUE_STOP_AT", "cutover_after_gates")]).await;
    fleet.settled_at_all().await;
    let running = fleet.stopped_within(0, "cutover", "cutover_after_gates").await;
    let spoil = "UPDATE big_ledger SET amount = -1 WHERE id = 15000";
    fleet.pair.target.run_as_copy(spoil).await;
    fleet.members[0].signal("CONT");
    let output = running.wait_with_output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let flat = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("a row of public.big_ledger differs"), "{told}");
    assert!(flat.contains("verify") && !flat.contains("flip"), "{told}");
    assert_eq!(fleet.phase().await, "shift");
    // Writes go on.
    fleet.pair.source.run("INSERT INTO ticket (note) VALUES ('after')").await;
    fleet.drained().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_take_longer_than_the_pause_are_refused_before_anything_is_held() {
    let fleet = Fleet::in_shift_of(1, LEDGER, WHOLE).await;
    fleet.members[0].succeed(&["verify"]);
    let cutover = |pause| {
        ["cutover", "--yes", "--force", "--reason", "a test", "--json", "--max-pause", pause]
    };
    let output = fleet.members[0].run(&cutover("5ms"));
    let told = said(&output);
    let flat = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(flat.contains("the tables of cutover.full_verify take about"), "{told}");
    assert!(flat.contains("name fewer tables in cutover.full_verify"), "{told}");
    assert_eq!(end(&told)["paused_ms"], 0.0, "{told}");
    assert_eq!(fleet.phase().await, "shift");

    let output = fleet.members[0].run(&cutover("30s"));
    assert!(output.status.success(), "{}", said(&output));
    let end = end(&said(&output));
    let of = |name: &str| end["proofs"].as_array().unwrap().iter().find(|it| it["table"] == name);
    assert_eq!(of("public.big_ledger").unwrap()["rows_under_fence"], 60_000, "{end:#}");
    assert!(of("public.ticket").unwrap()["rows_under_fence"].is_null(), "{end:#}");
}
