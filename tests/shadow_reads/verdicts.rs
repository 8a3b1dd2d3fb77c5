//! Each verdict, found by a statement that deserves it.

use crate::client::{
    VERDICT_LIMIT, client, dropped, is_finding, listed, read, status, until_listed, write,
};
use crate::support::{Pair, Segue, eventually};

const BOTH: &str = "
CREATE TABLE plain (id int PRIMARY KEY, note text);
INSERT INTO plain SELECT i, 'note ' || i FROM generate_series(1, 20) AS i;
CREATE TABLE late (id int PRIMARY KEY, note text);
INSERT INTO late VALUES (1, 'early');
CREATE TABLE stuck (id int PRIMARY KEY, note text);
INSERT INTO stuck VALUES (1, 'a'), (2, 'b'), (3, 'c');
-- Declared stable, so that nobody can tell from the statement.
CREATE FUNCTION wobble() RETURNS text STABLE LANGUAGE sql AS 'SELECT random()::text';
CREATE FUNCTION same() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1';";

const SOURCE: &str = "
CREATE TABLE event (id int PRIMARY KEY, at timestamptz, body json);
INSERT INTO event VALUES (1, '2026-01-01 00:00:00.123456+00', '{\"b\": 1, \"a\": 1.0}');
CREATE TABLE word (id int PRIMARY KEY, w text COLLATE \"en-x-icu\");
INSERT INTO word VALUES (1, 'a'), (2, 'B'), (3, 'c');
CREATE TABLE heap (id int PRIMARY KEY);
INSERT INTO heap SELECT i FROM generate_series(1, 9) AS i;
CREATE TABLE ruled (id int PRIMARY KEY, ignored text, at timestamptz, f float8);
INSERT INTO ruled VALUES (1, 'here', '2026-01-01 00:00:01.9', 1.0);
CREATE TABLE loose (id int PRIMARY KEY, rank int);
INSERT INTO loose VALUES (1, 1), (2, 2);
CREATE FUNCTION only_here() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION slow_there() RETURNS int LANGUAGE sql AS 'SELECT 1';";

const TARGET: &str = "
CREATE TABLE event (id int8 PRIMARY KEY, at timestamptz(3), body jsonb);
ALTER TABLE stuck ADD CHECK (note <> 'refused there');
INSERT INTO event VALUES (1, '2026-01-01 00:00:00.123456+00', '{\"b\": 1, \"a\": 1.0}');
CREATE TABLE word (id int8 PRIMARY KEY, w text COLLATE \"C\");
INSERT INTO word VALUES (1, 'a'), (2, 'B'), (3, 'c');
CREATE TABLE heap (id int8 PRIMARY KEY);
INSERT INTO heap SELECT i FROM generate_series(9, 1, -1) AS i;
CREATE TABLE ruled (id int8 PRIMARY KEY, ignored text, at timestamptz, f float8);
INSERT INTO ruled VALUES (1, 'there', '2026-01-01 00:00:01.95', 1.0000000001);
CREATE TABLE loose (id int8 PRIMARY KEY, rank int);
INSERT INTO loose VALUES (1, 2), (2, 1);
CREATE FUNCTION slow_there() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(30)';";

const SETTINGS: &str = r#"
[sampling]
rate = 1
deadline = "1s"
answer_bytes_max = "64KiB"
look_again_after = "50ms"
pending_wait_max = "1s"
[compare]
flush_interval = "100ms"
[[compare.rules]]
table = "public.ruled"
column = "ignored"
ignore = true
[[compare.rules]]
table = "public.ruled"
column = "at"
precision = 0
[[compare.rules]]
table = "public.ruled"
column = "f"
float_tolerance = 1e-6
[[compare.rules]]
table = "public.loose"
unordered = true
"#;

async fn pair() -> Pair {
    Pair::fresh(&format!("{BOTH}{SOURCE}"), &format!("{BOTH}{TARGET}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verdict_is_given_where_it_is_deserved() {
    let pair = pair().await;
    let mut segue = Segue::serving(&pair, "shadow_read", SETTINGS).await;
    let seen = |sql, part, verdict| {
        let segue = &segue;
        async move { until_listed(segue, (sql, part), &[], verdict).await }
    };
    seen("SELECT note FROM plain ORDER BY id", "plain", "match").await;
    let event = seen("SELECT at, body FROM event", "event", "normalized").await;
    let rules = event["rules"].as_array().unwrap().len();
    assert!(rules >= 2, "{event:#}");
    let missing = seen("SELECT only_here()", "only_here", "error").await;
    assert!(missing["example"].as_str().unwrap().contains("42883"), "{missing:#}");
    let word = seen("SELECT w FROM word ORDER BY w", "word", "incompatible").await;
    assert_eq!((&word["category"], &word["suspected"]), (&"collation_order".into(), &false.into()));
    assert!(word["rewrite"].as_str().unwrap().contains("COLLATE \"C\""), "{word:#}");
    seen("SELECT random()", "random", "noise").await;
    seen("SELECT wobble()", "wobble", "noise").await;
    let heap = seen("SELECT id FROM heap LIMIT 3", "heap", "skipped").await;
    assert_eq!(heap["category"], "limit_without_order");
    seen("SELECT current_database()", "current_database", "skipped").await;

    // Rules of the configuration.
    for sql in ["SELECT ignored FROM ruled", "SELECT at FROM ruled", "SELECT f FROM ruled"] {
        let part = sql.trim_start_matches("SELECT ");
        until_listed(&segue, (sql, part), &[], "normalized").await;
    }
    seen("SELECT id FROM loose ORDER BY rank", "loose", "normalized").await;

    // What cannot be compared is dropped, and says why.
    for (sql, reason) in
        [("SELECT repeat('x', 100000)", "too_large"), ("SELECT slow_there()", "deadline")]
    {
        eventually(reason, VERDICT_LIMIT, || async {
            read(&mut client(&segue), sql, &[]).await.unwrap();
            (dropped(&segue, reason) > 0).then_some(())
        })
        .await;
    }
    let findings: Vec<_> = listed(&segue).into_iter().filter(is_finding).collect();
    assert_eq!(findings.len(), 2, "{findings:#?}");
    assert!(segue.terminate().await, "{}", segue.logs());
}

#[tokio::test(flavor = "multi_thread")]
async fn different_data_is_found_shown_resolved_and_found_again() {
    let pair = pair().await;
    let mut segue = Segue::serving(&pair, "shadow_read", SETTINGS).await;
    pair.target.run_as_copy("UPDATE plain SET note = 'planted secret' WHERE id = 5").await;
    let asked = ("SELECT id, note FROM plain WHERE id = $1", "plain");
    let found = until_listed(&segue, asked, &[5], "data").await;
    let example = found["example"].as_str().unwrap();
    assert!(example.contains("note") && !example.contains("secret"), "{example}");

    let fingerprint = found["fingerprint"].as_str().unwrap();
    let without_reason = segue.run(&["mismatches", "resolve", fingerprint]);
    assert_eq!(without_reason.status.code(), Some(2));
    let unknown = segue.run(&["mismatches", "resolve", "ffff", "--reason", "none"]);
    assert_eq!(unknown.status.code(), Some(1));
    let resolve =
        ["mismatches", "resolve", fingerprint, "--verdict", "data", "--reason", "put right"];
    assert!(segue.succeed(&resolve).contains("resolved: 1"));
    let record =
        "SELECT resolved_by <> '', resolved_reason FROM segue.mismatch WHERE verdict = 'data'";
    assert_eq!(pair.source.rows(record).await, ["t|put right"]);
    // The suspects of before may still be on their way to the list.
    eventually("nothing is found any more", VERDICT_LIMIT, || async {
        (!listed(&segue).iter().any(is_finding)).then_some(()).or_else(|| {
            segue.run(&resolve);
            None
        })
    })
    .await;
    // It was not put right: the next sample says so.
    until_listed(&segue, asked, &[5], "data").await;

    // With values, and without sampling.
    assert!(segue.terminate().await);
    let shown = SETTINGS.replace("[compare]\n", "[compare]\nshow_values = true\n");
    let mut segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), &shown);
    segue.serve().await;
    eventually("the value is shown", VERDICT_LIMIT, || async {
        let found = until_listed(&segue, asked, &[5], "data").await;
        found["example"].as_str().unwrap().contains("planted secret").then_some(())
    })
    .await;
    let mut admin =
        segue::grpc::proto::migration_client::MigrationClient::connect(segue.admin_address())
            .await
            .unwrap();
    let request = segue::grpc::proto::SetSamplingRequest { rate: 0.0 };
    assert!(admin.set_sampling(request).await.unwrap().into_inner().previous_rate >= 1.0);
    let before = status(&segue)["sampling"]["sampled_total"].clone();
    for _ in 0..20 {
        read(&mut client(&segue), asked.0, &[5]).await.unwrap();
    }
    assert_eq!(status(&segue)["sampling"]["sampled_total"], before, "set at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_the_outbox_is_pending_and_not_data() {
    let pair = pair().await;
    let segue = Segue::serving(&pair, "shadow_read", SETTINGS).await;
    let holder = pair.target.client().await;
    // Reads go on there, reconciles do not.
    holder
        .batch_execute("BEGIN; LOCK TABLE segue.key_lock IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    write(&mut client(&segue), "UPDATE late SET note = 'late'", &[]).await.unwrap();
    let asked = ("SELECT note FROM late", "late");
    until_listed(&segue, asked, &[], "pending").await;
    let waiting = segue.succeed(&["outbox"]);
    assert!(waiting.contains("public.late"), "{waiting}");
    assert!(waiting.lines().all(|line| line.chars().count() <= 80), "{waiting}");
    holder.batch_execute("COMMIT").await.unwrap();
    let retried = segue.succeed(&["outbox", "retry"]);
    assert!(retried.contains("made due now"), "{retried}");
    until_listed(&segue, asked, &[], "match").await;
    let findings: Vec<_> = listed(&segue).into_iter().filter(is_finding).collect();
    assert!(findings.is_empty(), "{findings:#?}");
    for page in [segue.succeed(&["status"]), segue.succeed(&["mismatches"])] {
        assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    }
}

/// A key that is stuck says nothing of the other rows of its table.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_pending_by_its_own_key_where_that_can_be_told() {
    let pair = pair().await;
    let segue = Segue::serving(&pair, "shadow_read", SETTINGS).await;
    let refused = "UPDATE stuck SET note = 'refused there' WHERE id = 1";
    write(&mut client(&segue), refused, &[]).await.unwrap();
    pair.target.run_as_copy("UPDATE stuck SET note = 'planted' WHERE id = 2").await;
    // By the condition, and by the answer.
    let by_condition = ("SELECT note FROM stuck WHERE id = $1", "SELECT note FROM stuck WHERE id");
    until_listed(&segue, by_condition, &[2], "data").await;
    let own = until_listed(&segue, by_condition, &[1], "pending").await;
    assert!(own["reason"].as_str().unwrap().contains("rows that differ are pending"), "{own:#}");
    let by_answer = ("SELECT id, note FROM stuck WHERE id > 1", "WHERE id >");
    until_listed(&segue, by_answer, &[], "data").await;
    // Nobody can tell of which row a count is.
    let of_table = ("SELECT count(*) FROM stuck WHERE note = 'b'", "count");
    let told = until_listed(&segue, of_table, &[], "pending").await;
    assert!(told["reason"].as_str().unwrap().contains("cannot be told"), "{told:#}");
}

/// A difference that only the sessions' settings make is not one of the data.
#[tokio::test(flavor = "multi_thread")]
async fn what_other_settings_cause_is_told_from_other_data() {
    const SCHEMA: &str = "CREATE TABLE visit (id int PRIMARY KEY, at timestamptz, note text);
        INSERT INTO visit VALUES (1, '2026-01-01 23:30:00+00', 'a\\\\b'), (2, NULL, 'c');";
    const THERE: &str = "DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Tokyo');
        EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off',
            current_database());
        EXECUTE format('ALTER DATABASE %I SET escape_string_warning = off', current_database());
        END $$;";
    let pair = Pair::fresh(SCHEMA, &format!("{SCHEMA}{THERE}")).await;
    pair.source.run(&THERE.replace("Asia/Tokyo", "UTC").replace("= off", "= on")).await;
    let segue = Segue::serving(&pair, "shadow_read", SETTINGS).await;
    for (sql, setting) in [
        ("SELECT date_trunc('day', at) FROM visit WHERE id = 1", "TimeZone"),
        (r"SELECT id FROM visit WHERE note = 'a\\b'", "standard_conforming_strings"),
    ] {
        let found = until_listed(&segue, (sql, "visit"), &[], "incompatible").await;
        assert_eq!(found["category"], "session_setting", "{found:#}");
        assert_eq!(found["suspected"], false, "{found:#}");
        assert!(found["reason"].as_str().unwrap().contains(setting), "{found:#}");
        let fingerprint = found["fingerprint"].as_str().unwrap();
        let resolve = ["mismatches", "resolve", fingerprint, "--reason", "known"];
        assert!(segue.succeed(&resolve).contains("resolved: 1"));
    }
    // Other data stays other data, whatever the settings are.
    pair.target.run_as_copy("UPDATE visit SET note = 'd' WHERE id = 2").await;
    until_listed(&segue, ("SELECT note FROM visit WHERE id = 2", "visit"), &[], "data").await;
}
