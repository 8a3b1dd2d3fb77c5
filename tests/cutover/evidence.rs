//! What a cutover looks at before it holds anything.

use serde_json::Value;

use crate::fleet::{Fleet, said};

/// The row lies in a chunk that was proven and written since; nothing waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_differs_is_found_before_anything_is_held() {
    let fleet = Fleet::in_shift(1).await;
    let (source, target) = (&fleet.pair.source, &fleet.pair.target);
    fleet.members[0].succeed(&["verify"]);
    source.run("INSERT INTO ticket (note) VALUES ('new')").await;
    fleet.drained().await;
    target.run_as_copy("UPDATE ticket SET note = 'spoilt' WHERE id = 7").await;

    let output = fleet.change(0, "cutover", &[]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("prove") && told.contains("ticket differs"), "{told}");
    assert!(told.contains("writes were held for 0 ms"), "{told}");
    assert_eq!(fleet.phase().await, "shift");

    fleet.members[0].succeed(&["verify", "--repair"]);
    source.run("INSERT INTO ticket (note) VALUES ('newer')").await;
    fleet.drained().await;
    let output = fleet.change(0, "cutover", &[]);
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("open chunks with"), "{told}");
    assert!(!told.contains("0 open chunks"), "a chunk was written since its proof: {told}");
}

/// Whoever has to answer for a cutover can say which table was proven when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_of_a_cutover_says_which_table_was_proven_when() {
    let fleet = Fleet::in_shift(1).await;
    fleet.members[0].succeed(&["verify", "--table", "ticket"]);
    fleet.settled_at_all().await;
    let output = fleet.change(0, "cutover", &["--json"]);
    let told = said(&output);
    assert!(output.status.success(), "{told}");
    let end = told.lines().rev().find(|line| line.contains("\"outcome\"")).unwrap();
    let end: Value = serde_json::from_str(end).unwrap();
    let proofs = end["proofs"].as_array().unwrap();
    let of = |name: &str| proofs.iter().find(|it| it["table"] == name).unwrap();
    let ticket = of("public.ticket");
    assert_eq!((&ticket["chunks"], &ticket["proven"]), (&1.into(), &1.into()), "{ticket}");
    assert!(ticket["oldest"].as_str().unwrap().starts_with("20"), "{ticket}");
    assert!(of("public.coupon")["oldest"].is_null(), "it was never proven: {end:#}");
    // It is kept with the change.
    let history = fleet.members[0].succeed(&["history"]);
    assert!(history.contains("public.ticket: 1 of 1 chunks proven, the oldest"), "{history}");
    assert!(history.contains("public.coupon: never proven"), "{history}");
}

/// Whoever switches triggers off is held by no fence: here after the gates have passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capture_that_was_off_since_the_gates_calls_the_cutover_off() {
    let mut fleet = Fleet::in_shift(1).await;
    fleet.members[0].succeed(&["verify"]);
    fleet.members[0].kill();
    fleet.members[0].serve_with(&[("SEGUE_STOP_AT", "cutover_after_gates")]).await;
    fleet.settled_at_all().await;
    let running = fleet.stopped_within(0, "cutover", "cutover_after_gates").await;
    let unseen = "BEGIN; ALTER TABLE ticket DISABLE TRIGGER ALL; \
        UPDATE ticket SET note = 'unseen' WHERE id = 7; \
        ALTER TABLE ticket ENABLE TRIGGER ALL; COMMIT";
    fleet.pair.source.run(unseen).await;
    fleet.members[0].signal("CONT");
    let output = running.wait_with_output().unwrap();
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let flat = told.split_whitespace().collect::<Vec<_>>().join(" ");
    // Where the leader's look came first, the open chunk was read before anything was held.
    let noticed = "capture may have missed writes of public.ticket on the source";
    assert!(flat.contains(noticed) || flat.contains("ticket differs"), "{told}");
    assert_eq!(fleet.phase().await, "shift");
    fleet.members[0].kill();
    fleet.members[0].serve().await;
    fleet.settled_at_all().await;
    fleet.members[0].succeed(&["verify", "--repair"]);
    // The first one may mend the triggers, which is noticed once more.
    let again = ["cutover", "--yes", "--force", "--reason", "a test", "--max-pause", "30s"];
    fleet.until_done(&again).await;
    let unseen = "SELECT note FROM ticket WHERE id = 7";
    assert_eq!(fleet.pair.target.rows(unseen).await, ["unseen"]);
}
