//! What a backfill refuses to begin with, and the way out that it names.

use std::time::Duration;

use segue::postgres::fence::{CLASS, key_of};

use crate::support::{Pair, Segue, eventually};
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
    assert!(error.contains("run `segue init`, start the sidecar"), "{error}");
    assert!(error.contains("or use --source-is-idle"), "{error}");
    segue.succeed(&["init"]);
    let error = refused(&segue, &[]);
    assert!(error.contains("the phase is source_only"), "{error}");
    assert!(error.contains("run `segue phase advance` while a sidecar runs"), "{error}");

    segue.set_phase("dual_write").await;
    // A row of another time, which no outbox row tells of.
    pair.target
        .run_as_copy("INSERT INTO app.account OVERRIDING SYSTEM VALUE VALUES (7, 'stale', 1, 'new', NULL, now())")
        .await;
    let error = refused(&segue, &[]);
    assert!(error.contains("app.account: 1 of its rows were there before"), "{error}");
    assert!(error.contains("--empty-target"), "{error}");
    let plan = segue.succeed(&arguments(&["--dry-run", "--empty-target"]));
    assert!(plan.contains("app.account") && plan.contains("nothing was changed"), "{plan}");
    assert_eq!(pair.target.rows("SELECT code FROM app.account").await, ["stale"]);

    // Rows that dual writes have put there are no obstacle.
    pair.target.run_as_copy("TRUNCATE app.account CASCADE").await;
    pair.source.run("UPDATE app.account SET amount = 5 WHERE id <= 20").await;
    let mut segue = segue;
    segue.serve().await;
    outbox_is_empty(&pair.source).await;
    assert_eq!(pair.target.rows("SELECT count(*) FROM app.account").await, ["20"]);
    // Nor in a later phase; nor what was captured a moment before the phase was set.
    segue.set_phase("shadow_read").await;
    backfill(&segue, &[]);
    assert_equal(&pair).await;

    // What was copied before a gap in capture is worth nothing.
    segue.set_phase("source_only").await;
    segue.set_phase("dual_write").await;
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
    segue.init_in("dual_write").await;
    let functions = "SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p \
        WHERE p.pronamespace = 'segue'::regnamespace AND p.proname LIKE 'capture\\_%'";
    let functions = pair.source.rows(functions).await;
    // A member that is still in source_only: its triggers capture nothing yet.
    segue.set_phase("source_only").await;
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
    segue.init_in("dual_write").await;
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

/// The preflight comes before anything else: what blocks the migration is told, and nothing is
/// begun, emptied or made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_preflight_refuses_is_told_and_nothing_is_begun() {
    let pair = Pair::fresh(
        "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, word text, n int DEFAULT 5);
         INSERT INTO app.t SELECT n, 'w' || n FROM generate_series(1, 500) AS n;",
        "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, word varchar(3), n int);
         INSERT INTO app.t VALUES (1, 'old');",
    )
    .await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    let out = |output: &std::process::Output| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let databases = ["--source", pair.source.dsn(), "--target", pair.target.dsn()];
    let idle = [&databases[..], &["--source-is-idle", "--empty-target"]].concat();
    let (code, page, error) = out(&segue.run(&arguments(&idle)));
    assert_eq!(code, Some(4), "{page}{error}");
    assert_eq!(pair.target.rows("SELECT to_regclass('segue.backfill')").await, ["NULL"]);

    segue.init_in("dual_write").await;
    for more in [&[][..], &["--dry-run"], &["--empty-target"], &["--table", "t"]] {
        let (code, page, error) = out(&segue.run(&arguments(more)));
        assert_eq!(code, Some(4), "{more:?} {page}{error}");
        for part in ["column.narrower", "app.t.word", "way out", "column.default_missing"] {
            assert!(page.contains(part), "{more:?} {part} is not in {page}");
        }
        assert!(error.contains("the preflight refuses, and nothing was begun"), "{error}");
    }
    let (code, lines, _) = out(&segue.run(&arguments(&["--json"])));
    let document: serde_json::Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!(
        (code, &document["event"], &document["refused"]),
        (Some(4), &"check".into(), &true.into())
    );
    assert_eq!(document["findings"][0]["code"], "column.narrower");
    assert_eq!(pair.target.rows("SELECT id, word FROM app.t").await, ["1|old"]);
    assert!(pair.target.rows("SELECT FROM segue.backfill_table").await.is_empty());

    // Who knows of it may pass over it, but not over what would differ in silence.
    let (code, _, error) = out(&segue.run(&arguments(&["--accept", "trigger.always"])));
    assert_eq!(code, Some(2), "{error}");
    let accepted = ["--accept", "column.narrower", "--empty-target"];
    let (code, page, error) = out(&segue.run(&arguments(&accepted)));
    assert_eq!(code, Some(3), "401 words do not fit: {page}{error}");
    assert!(page.contains("401 rows could not be copied"), "{page}");
    assert!(error.contains("column.narrower"), "{error}");

    // A warning is printed, and the copy goes on.
    pair.target.run("ALTER TABLE app.t ALTER COLUMN word TYPE text").await;
    let (code, page, error) = out(&segue.run(&arguments(&["--empty-target"])));
    assert_eq!(code, Some(0), "{page}{error}");
    assert!(error.contains("to be decided on") && error.contains("column.default_missing"));
    assert!(!page.contains("default_missing") && page.contains("complete: 500 rows"), "{page}");
}

const FLEET: &str = "[control]\npoll_interval = \"200ms\"\nlease = \"90s\"\nsettle_wait = \"90s\"";

/// A member is still in `source_only` while another one captures already: it is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_until_every_member_works_by_the_phase() {
    let pair = world::pair(500).await;
    let first = Segue::serving(&pair, "source_only", FLEET).await;
    let mut second = Segue::prepare(pair.source.dsn(), pair.target.dsn(), FLEET);
    second.serve().await;
    second.signal("STOP");
    first.succeed(&["phase", "advance", "--to", "dual_write"]);
    let running = first.running(&arguments(&[]));
    eventually("it says for whom it waits", ENDS, || async {
        assert!(running.runs(), "{}", running.output());
        running.output().contains("waits until every member works by the phase").then_some(())
    })
    .await;
    let waits = running.output();
    assert!(waits.contains("is at epoch 1, and its lease lasts"), "{waits}");
    assert!(pair.target.rows("SELECT FROM app.account").await.is_empty());
    assert!(pair.target.rows("SELECT FROM segue.backfill_table").await.is_empty());
    second.signal("CONT");
    let (code, output) = running.ended(ENDS).await;
    assert_eq!(code, Some(0), "{output}");
    outbox_is_empty(&pair.source).await;
    assert_equal(&pair).await;
}

/// The member's lease is over, but a session of its epoch may still write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_writes_under_an_older_epoch_is_waited_for_and_then_refused() {
    let pair = world::pair(500).await;
    let quick = FLEET.replace("90s", "1s");
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), &quick);
    segue.succeed(&["init"]);
    let older = pair.source.client().await;
    let lock = format!("SELECT pg_advisory_lock_shared({CLASS}, {})", key_of(1));
    older.batch_execute(&lock).await.unwrap();
    segue.set_phase("dual_write").await;
    let error = refused(&segue, &[]);
    assert!(error.contains("the phase has not settled within"), "{error}");
    assert!(error.contains("writes under another epoch"), "{error}");
    assert!(pair.target.rows("SELECT FROM segue.backfill_table").await.is_empty());
    drop(older);
    backfill(&segue, &[]);
    assert_equal(&pair).await;
}
