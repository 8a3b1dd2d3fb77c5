//! Changes of the primary are operations: they can be followed, cancelled and asked for by way of
//! any member, whoever is lost meanwhile.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Duration;

use serde_json::Value;
use tokio_postgres::Client;

use crate::fleet::{Fleet, LIMIT, said};
use crate::support::{Segue, eventually};

const CUTOVER: [&str; 10] = [
    "cutover",
    "--yes",
    "--json",
    "--max-pause",
    "60s",
    "--force",
    "--reason",
    "a test",
    "--reconnect",
    "1s",
];
const STEPS: [&str; 11] = [
    "gates",
    "predict",
    "prove",
    "prepare",
    "pause",
    "fence",
    "drain",
    "verify",
    "sequences",
    "flip",
    "release",
];

/// A transaction of another program, which keeps a cutover waiting for it under the pause.
async fn open_transaction(fleet: &Fleet) -> Client {
    let open = fleet.pair.source.client().await;
    open.batch_execute("BEGIN; INSERT INTO ticket (note) VALUES ('open')").await.unwrap();
    open
}

/// Starts a cutover and reads the operation's id, which is printed first.
fn started(member: &Segue) -> (Child, String) {
    let mut child = member.start_piped(&CUTOVER);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let first: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(first["event"], "started", "{first}");
    (child, first["operation"].as_str().unwrap().to_owned())
}

fn listed(member: &Segue) -> Vec<Value> {
    serde_json::from_str(&member.succeed(&["operation", "list", "--json"])).unwrap()
}

/// Waits until so many events are kept of the operation, as another member has it.
async fn until_event(member: &Segue, id: &str, number: u64) {
    eventually("events are kept", LIMIT, || async {
        let all = listed(member);
        let found = all.iter().find(|it| it["id"] == id)?;
        (found["last_event"].as_u64().unwrap() >= number).then_some(())
    })
    .await;
}

fn lines(output: &std::process::Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each event once, in order, from the first to the last step.
fn assert_whole(events: &[Value]) {
    let numbers: Vec<u64> = events.iter().filter_map(|it| it["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "{events:#?}");
    let done: Vec<&str> = events
        .iter()
        .filter(|it| it["state"] == "done")
        .filter_map(|it| it["step"].as_str())
        .collect();
    assert_eq!(done, STEPS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_whose_client_is_killed_goes_on_and_is_followed_from_another_member() {
    let fleet = Fleet::in_shift(2).await;
    fleet.settled_at_all().await;
    let open = open_transaction(&fleet).await;
    let (mut client, id) = started(&fleet.members[0]);
    // The fence waits for the transaction.
    until_event(&fleet.members[1], &id, 11).await;
    client.kill().unwrap();
    client.wait().unwrap();

    let watch = ["operation", "watch", &id, "--json", "--reconnect", "1s"];
    let following = fleet.members[1].start_piped(&watch);
    let late = ["operation", "watch", &id, "--json", "--after", "11", "--reconnect", "1s"];
    let following_late = fleet.members[0].start_piped(&late);
    open.batch_execute("COMMIT").await.unwrap();
    let followed = following.wait_with_output().unwrap();
    assert!(followed.status.success(), "{}", said(&followed));
    let events = lines(&followed);
    assert_whole(&events);
    let end = events.last().unwrap();
    assert_eq!((&end["operation_state"], &end["outcome"]), (&"succeeded".into(), &"done".into()));
    assert_eq!(fleet.phase().await, "reversed");
    let late = lines(&following_late.wait_with_output().unwrap());
    assert_eq!(late[0]["number"], 12, "{late:#?}");
    // Once more, when it is long over, by way of either member.
    for member in &fleet.members {
        let again = member.run(&watch);
        assert_whole(&lines(&again));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_sidecar_is_killed_is_told_by_another_member() {
    let mut fleet = Fleet::in_shift(2).await;
    for (place, failure, phase) in [
        ("cutover_after_verify", "the switch was not made, and nothing has changed", "shift"),
        ("cutover_after_flip", "the switch was made", "reversed"),
    ] {
        fleet.members[1].kill();
        fleet.members[1].serve_with(&[("SEGUE_CRASH_AT", place)]).await;
        fleet.settled_at_all().await;
        let lost = fleet.members[1].run(&CUTOVER);
        assert_eq!(lost.status.code(), Some(1), "{place}: {}", said(&lost));
        assert!(said(&lost).contains("segue operation watch"), "{place}: {}", said(&lost));
        let id = lines(&lost)[0]["operation"].as_str().unwrap().to_owned();
        let abandoned = eventually("it counts as abandoned", LIMIT, || async {
            let watched = ["operation", "watch", &id, "--json", "--reconnect", "1s"];
            let output = fleet.members[0].run(&watched);
            let end = lines(&output).pop()?;
            (end["operation_state"] == "abandoned").then_some(end)
        })
        .await;
        let told = abandoned["failure"].as_str().unwrap();
        assert!(told.contains("is gone") && told.contains(failure), "{place}: {told}");
        assert_eq!(fleet.phase().await, phase, "{place}");
        let of_list = listed(&fleet.members[0]);
        let found = of_list.iter().find(|it| it["id"] == *id);
        // What is on the old primary alone is found by its id.
        assert!(found.is_none_or(|it| it["state"] == "abandoned"), "{place}: {of_list:#?}");
        fleet.members[1].serve().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_is_cancelled_by_way_of_another_member_and_nothing_has_changed() {
    let fleet = Fleet::in_shift(2).await;
    fleet.settled_at_all().await;
    let open = open_transaction(&fleet).await;
    let (client, id) = started(&fleet.members[0]);
    until_event(&fleet.members[1], &id, 11).await;
    let cancel = ["operation", "cancel", &id, "--actor", "alice", "--reason", "too busy"];
    let cancelled = fleet.members[1].run(&cancel);
    assert_eq!(cancelled.status.code(), Some(0), "{}", said(&cancelled));
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("cancelled by alice: too busy"), "{}", said(&output));
    assert_eq!(fleet.phase().await, "shift");
    // It holds nothing any more.
    open.batch_execute("COMMIT").await.unwrap();
    fleet.pair.source.run("INSERT INTO ticket (note) VALUES ('after')").await;
    let again = fleet.members[1].run(&cancel);
    assert_eq!(again.status.code(), Some(4), "{}", said(&again));
    assert!(said(&again).contains("has ended (cancelled)"), "{}", said(&again));
    fleet.changed("cutover").await;
    eventually("both are listed, the latest first", LIMIT, || async {
        let now = listed(&fleet.members[1]);
        let states: Vec<&str> = now.iter().map(|it| it["state"].as_str().unwrap()).collect();
        (states == ["succeeded", "cancelled"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cutover_is_not_cancelled_after_its_switch() {
    let mut fleet = Fleet::in_shift(2).await;
    fleet.members[1].kill();
    fleet.members[1].serve_with(&[("SEGUE_STOP_AT", "cutover_after_flip")]).await;
    fleet.settled_at_all().await;
    let running = fleet.stopped_within(1, "cutover", "cutover_after_flip").await;
    let id = eventually("it is found", LIMIT, || async {
        let rows = fleet.pair.source.rows("SELECT operation_id::text FROM segue.operation").await;
        rows.first().cloned()
    })
    .await;
    let refused = fleet.members[0].run(&["operation", "cancel", &id, "--actor", "alice"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("cannot be cancelled"), "{}", said(&refused));
    fleet.woken(1, running, "cutover_after_flip").await;
    assert_eq!(fleet.phase().await, "reversed");
}

/// The tables of operations cannot be written while the cutover runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recording_an_operation_neither_lengthens_a_pause_nor_fails_a_cutover() {
    let fleet = Fleet::in_shift(2).await;
    fleet.settled_at_all().await;
    let (source, target) = (fleet.pair.source.client().await, fleet.pair.target.client().await);
    for database in [&source, &target] {
        let lock = "BEGIN; LOCK TABLE segue.operation_event IN ACCESS EXCLUSIVE MODE";
        database.batch_execute(lock).await.unwrap();
    }
    let cutover = ["cutover", "--yes", "--json", "--max-pause", "20s", "--force", "--reason", "x"];
    let output = fleet.members[0].run(&cutover);
    assert!(output.status.success(), "{}", said(&output));
    let events = lines(&output);
    assert_whole(&events[1..]);
    let pause = events.last().unwrap()["paused_ms"].as_f64().unwrap();
    // Recorder's attempts take two seconds each while the lock is held.
    assert!(pause < 2000.0, "writes were held for {pause} ms");
    let id = events[0]["operation"].as_str().unwrap().to_owned();
    for database in [source, target] {
        database.batch_execute("COMMIT").await.unwrap();
    }
    eventually("all of it is kept", Duration::from_secs(30), || async {
        let watched =
            fleet.members[1].run(&["operation", "watch", &id, "--json", "--reconnect", "1s"]);
        let numbered = lines(&watched).iter().filter(|it| it["number"].is_u64()).count();
        (watched.status.success() && numbered == 22).then_some(())
    })
    .await;
}
