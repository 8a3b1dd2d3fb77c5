//! What a backfill refuses to begin with, and the way out that it names.

use std::time::Duration;

use crate::support::{Segue, eventually};
use crate::world::{self, ENDS, arguments, assert_equal, backfill, outbox_is_empty};

fn refused(segue: &Segue, more: &[&str]) -> String {
    let output = segue.run(&arguments(more));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_under_capture_and_into_a_target_whose_rows_are_known() {
    let pair = world::pair(500).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    let error = refused(&segue, &[]);
    assert!(error.contains("segue init --phase dual_write, or say --source-is-idle"), "{error}");
    segue.succeed(&["init", "--phase", "source_only"]);
    let error = refused(&segue, &[]);
    assert!(error.contains("the phase is source_only"), "{error}");

    segue.succeed(&["init", "--phase", "dual_write"]);
    // A row of another time, which no outbox row tells of.
    pair.target.run("INSERT INTO app.account OVERRIDING SYSTEM VALUE VALUES (7, 'stale', 1, 'new', NULL, now())").await;
    let error = refused(&segue, &[]);
    assert!(error.contains("app.account: 1 of its rows were there before"), "{error}");
    assert!(error.contains("--empty-target"), "{error}");
    let plan = segue.succeed(&arguments(&["--dry-run", "--empty-target"]));
    assert!(plan.contains("app.account") && plan.contains("nothing was changed"), "{plan}");
    assert_eq!(pair.target.rows("SELECT code FROM app.account").await, ["stale"]);

    // Rows that dual writes have put there are no obstacle.
    pair.target.run("TRUNCATE app.account CASCADE").await;
    pair.source.run("UPDATE app.account SET amount = 5 WHERE id <= 20").await;
    let mut segue = segue;
    segue.serve().await;
    outbox_is_empty(&pair.source).await;
    assert_eq!(pair.target.rows("SELECT count(*) FROM app.account").await, ["20"]);
    backfill(&segue, &[]);
    assert_equal(&pair).await;

    // What was copied before a gap in capture is worth nothing.
    segue.succeed(&["init", "--phase", "source_only"]);
    segue.succeed(&["init", "--phase", "dual_write"]);
    let error = refused(&segue, &[]);
    assert!(error.contains("capture has been switched off since its copy was begun"), "{error}");
    backfill(&segue, &["--empty-target"]);
    assert_equal(&pair).await;
    let error = refused(&segue, &["--table", "nothing"]);
    assert!(error.contains("table \"nothing\" is not part of the migration"), "{error}");
}

/// A transaction that wrote before capture stood commits after every chunk was read: no
/// snapshot has its row, and no outbox row tells of it. So the backfill waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_writers_from_before_the_capture() {
    let pair = world::pair(500).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.succeed(&["init", "--phase", "dual_write"]);
    let functions = "SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p \
        WHERE p.pronamespace = 'segue'::regnamespace AND p.proname LIKE 'capture\\_%'";
    let functions = pair.source.rows(functions).await;
    // A member that is still in source_only: its triggers capture nothing yet.
    segue.succeed(&["init", "--phase", "source_only"]);
    let late = pair.source.client().await;
    late.batch_execute(
        "BEGIN; INSERT INTO app.account (id, code) VALUES (9001, 'late'); \
         DELETE FROM app.account WHERE id = 5; UPDATE app.account SET amount = 1 WHERE id = 6",
    )
    .await
    .unwrap();
    // Another member captures already. Segue itself waits for the tables' writers before it puts
    // capture on; whoever runs the SQL by hand may not.
    pair.source.run(&functions.join(";\n")).await;
    pair.source.run("UPDATE segue.control SET phase = 'dual_write', epoch = epoch + 1").await;
    let running = segue.running(&arguments(&[]));
    eventually("it says what it waits for", ENDS, || async {
        running.output().contains("waits for transactions").then_some(())
    })
    .await;
    assert!(pair.target.rows("SELECT FROM app.account").await.is_empty());
    assert!(running.runs());
    late.batch_execute("COMMIT").await.unwrap();
    let (code, output) = running.ended(ENDS).await;
    assert_eq!(code, Some(0), "{output}");
    assert_equal(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_it_at_the_end_of_its_chunks() {
    let pair = world::pair(6000).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.succeed(&["init", "--phase", "dual_write"]);
    let running = segue.running(&arguments(&["--max-rows-per-s", "2000", "--json"]));
    eventually("a chunk is done", ENDS, || async {
        running.output().contains("\"event\":\"chunk\"").then_some(())
    })
    .await;
    running.signal("TERM");
    let (code, output) = running.ended(Duration::from_secs(30)).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("\"complete\":false"), "{output}");
    let under_way = "SELECT count(*) FROM segue.backfill WHERE state = 'claimed'";
    assert_eq!(pair.target.rows(under_way).await, ["0"]);
    assert!(pair.target.rows("SELECT FROM segue.backfill_worker").await.is_empty());
    backfill(&segue, &[]);
    assert_equal(&pair).await;
}
