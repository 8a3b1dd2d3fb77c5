//! Every conversion of values, and the values that do not fit.

use crate::support::{Pair, Segue};
use crate::world::{arguments, backfill, same_rows};

const SOURCE: &str = "
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('sad', 'fine', 'happy');
CREATE TYPE app.point3 AS (x int, y numeric, label text);
CREATE DOMAIN app.email AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE app.plain (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    small int2, wide int4, big int8, exact numeric, ratio float4, ratio8 float8,
    word varchar(30), padded char(8), body text, raw bytea, flag bool, uid uuid,
    day date, clock time, moment timestamptz(6), stamp timestamp(6), span interval,
    doc json, docb jsonb, mood app.mood, mail app.email,
    numbers int4[], words varchar(10)[], sums numeric[], address inet, bits bit(5),
    tripled int GENERATED ALWAYS AS (wide * 3) STORED
);
CREATE TABLE app.texts (
    id int PRIMARY KEY, moods app.mood[], place app.point3, span int4range, words tsvector, question tsquery,
    moment timestamptz(6), doc json, raw bytea, body text
);
";

const TARGET: &str = "
CREATE SCHEMA app;
CREATE TYPE app.mood AS ENUM ('happy', 'sad', 'fine');
CREATE TYPE app.point3 AS (x int, y numeric, label text);
CREATE DOMAIN app.letter AS text;
CREATE TABLE app.plain (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    small int8, wide int8, big numeric, exact numeric, ratio float8, ratio8 float8,
    word text, padded text, body app.letter, raw bytea, flag bool, uid uuid,
    day date, clock time, moment timestamptz(3), stamp timestamptz(3), span interval,
    doc jsonb, docb jsonb, mood text, mail text,
    numbers int8[], words text[], sums numeric[], address inet, bits bit(5),
    tripled bigint
);
CREATE TABLE app.texts (
    id bigint PRIMARY KEY, moods app.mood[], place app.point3, span int4range, words tsvector, question tsquery,
    moment timestamptz(3), doc jsonb, raw bytea, body text
);
";

const ROWS: &str = r#"
INSERT INTO app.plain (small, wide, big, exact, ratio, ratio8, word, padded, body, raw, flag, uid, day,
    clock, moment, stamp, span, doc, docb, mood, mail, numbers, words, sums, address, bits)
SELECT n - 50, n * 1000, n::int8 << 33, n / 7.0, n / 3.0, n / 3.0, 'w' || n, 'p' || n,
    E'tab\there, nl\nand \\ quote '' "' || n, decode(md5(n::text), 'hex'), n % 2 = 0, md5(n::text)::uuid,
    date '1970-01-01' + n, time '00:00:00.0005' + n * interval '1 second',
    timestamptz '2024-01-01 00:00:00.000500+00' + n * interval '0.000499 s',
    timestamp '2024-06-01 00:00:00.999499' + n * interval '0.000001 s', n * interval '1 day 3 ms',
    '{"b": 1.50, "a": [1, 2], "b": 2}', '{"n": 1e3}', (ARRAY['sad', 'fine', 'happy'])[n % 3 + 1]::app.mood,
    n || '@x', ARRAY[n, NULL, -n], ARRAY['a', 'b"c', NULL], ARRAY[n / 3.0], '10.1.2.3/24', B'10101'
FROM generate_series(1, 100) AS n;
INSERT INTO app.plain (wide, exact, ratio8, moment, numbers) VALUES
    (NULL, 'NaN', 'Infinity', 'infinity', '{}'), (NULL, NULL, 'NaN', '-infinity', '{{1,2},{3,4}}');
INSERT INTO app.texts SELECT n, ARRAY['sad', 'happy']::app.mood[], ROW(n, n / 3.0, 'a "b" \ ,'::text)::app.point3, int4range(n, n + 5),
    'fat cat'::tsvector, 'fat & cat'::tsquery, timestamptz '2024-01-01 00:00:00.000500+00' + n * interval '0.000499 s',
    '{"a": 1.10}', decode(md5(n::text), 'hex'), E'\\N and \\. and \t'
FROM generate_series(1, 100) AS n;
INSERT INTO app.texts (id) VALUES (1000);
"#;

const PLAIN: &str = "SELECT id::text, small::text, wide::text, big::text, exact::text, \
    ratio::float8::text, ratio8::text, word, rtrim(padded::text), body::text, raw::text, flag::text, uid::text, \
    day::text, clock::text, moment::timestamptz(3)::text, span::text, doc::jsonb::text, docb::text, mood::text, \
    mail::text, numbers::text, words::text, sums::text, address::text, bits::text, tripled::text";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_over_as_it_is() {
    come_over(&[]).await;
}

/// As CockroachDB is given them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_over_by_insert_as_it_is() {
    come_over(&["--by-insert"]).await;
}

async fn come_over(more: &[&str]) {
    let pair = Pair::fresh(&format!("{SOURCE} {ROWS}"), TARGET).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    for staged in [false, true] {
        if staged {
            pair.target
                .run("DELETE FROM app.plain WHERE id % 3 = 0; DELETE FROM app.texts WHERE id % 3 = 0; \
                    UPDATE segue.backfill SET state = 'ready', attempts = 0")
                .await;
        }
        let printed = backfill(&segue, &[&["--chunk-rows", "30"], more].concat());
        assert!(!printed.contains("could not be copied"), "{printed}");
        let stamp = |side: &str| match side {
            "source" => "(stamp::timestamp(3))::text",
            _ => "(stamp AT TIME ZONE 'UTC')::text",
        };
        let sql = |side| format!("{PLAIN}, {} FROM app.plain ORDER BY id", stamp(side));
        same_rows(&pair, &sql("source"), &sql("target")).await;
        let sql = "SELECT id::text, moods::text, place::text, span::text, words::text, question::text, \
            moment::timestamptz(3)::text, doc::jsonb::text, raw::text, body FROM app.texts ORDER BY id";
        same_rows(&pair, sql, sql).await;
        let by_row = "SELECT count(*) FROM segue.backfill WHERE way = 'by_keys'";
        assert_eq!(pair.target.rows(by_row).await, ["0"], "all of it went by the chunk");
    }
    // No outbox row came of it, so that reconcile finds nothing to say.
    let waiting = "SELECT count(*) FROM segue.outbox WHERE forgotten_at IS NULL";
    assert_eq!(pair.source.rows(waiting).await, ["0"]);
}

/// Types of which many values are given as one array.
const FLAT: &str = r#"
CREATE SCHEMA app;
CREATE TYPE app."mo od" AS ENUM ('sad', 'it''s', 'a,"b"');
CREATE TABLE app.flat (
    id int8 PRIMARY KEY, yes bool, raw bytea, small int2, wide int4, ratio float4, ratio8 float8,
    day date, clock time, clocktz timetz, stamp timestamp, moment timestamptz, span interval,
    uid uuid, doc json, docb jsonb, address inet, number oid, body text, word varchar(9),
    padded char(4), exact numeric, price numeric(12,2), mood app."mo od"
);
"#;
const FLAT_ROWS: &str = r#"
INSERT INTO app.flat SELECT n, n % 2 = 0, decode(md5(n::text), 'hex'), -n, n, n / 3.0, n / 3.0,
    date '0001-01-01 BC' + n, time '24:00', timetz '00:00:00.5+03:30',
    timestamp '294276-12-31 23:59:59.999999', timestamptz '2024-01-01 00:00:00.000001+02',
    n * interval '-1 mon 2 days 3 us', md5(n::text)::uuid, '{"b": 1.50, "a": [1], "b": 2}',
    '{"a": 1.50, "n": "x\ny \"q\""}', '10.1.2.3/24', n, E'\\xfe \\N \t "q" '' ' || chr(233),
    repeat('w', n % 9), 'p', n * 1.000, n / 7.0, (ARRAY['sad', 'it''s', 'a,"b"'])[n % 3 + 1]::app."mo od"
FROM generate_series(1, 100) AS n;
INSERT INTO app.flat (id) VALUES (-1);
INSERT INTO app.flat (id, raw, ratio8, day, stamp, moment, docb, exact, body, address) VALUES
    (-2, '\xfefe', 'NaN', 'infinity', 'infinity', '-infinity', '"\u00e9\n"', 'NaN', '', '::1'),
    (-3, '', '-0', '-infinity', '-infinity', 'infinity', 'null', 0.000, 'NULL', '10.0.0.0/8'),
    (-4, '\x00', 5e-324, '5874897-12-31', '4713-01-01 BC', 'epoch', '[]', 1e40, '{}', NULL),
    (-5, NULL, 'Infinity', NULL, NULL, NULL, '1.000', 10000, '\', NULL);
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_values_in_one_array_are_those_that_were_there() {
    // Coarser or wider on the target, and an identity that it generates always.
    let target = FLAT
        .replace("id int8", "id int8 GENERATED ALWAYS AS IDENTITY")
        .replace("wide int4", "wide int8")
        .replace("doc json,", "doc jsonb,")
        .replace("word varchar(9)", "word text")
        .replace("price numeric(12,2)", "price numeric");
    let pair = Pair::fresh(&format!("{FLAT} {FLAT_ROWS}"), &target).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    backfill(&segue, &["--chunk-rows", "30", "--by-insert"]);
    let sql = "SELECT id::text, yes::text, raw::text, small::text, wide::text, ratio::text, \
        ratio8::text, day::text, clock::text, clocktz::text, stamp::text, moment::text, span::text, \
        uid::text, doc::jsonb::text, docb::text, address::text, number::text, body, word, \
        padded::text, exact::text, price::text, mood::text FROM app.flat ORDER BY id";
    same_rows(&pair, sql, sql).await;
    let ways = "SELECT DISTINCT way FROM segue.backfill WHERE rows > 0";
    assert_eq!(pair.target.rows(ways).await, ["straight"]);
    segue.succeed(&["verify"]);
}

/// Of each thousand rows one does not fit, for one reason or another: it is named, and the
/// others are there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_does_not_fit_is_named_and_holds_nobody_up() {
    // Only what no condition can tell goes row by row.
    do_not_fit(&[], &["by_keys|2", "straight|6"]).await;
}

/// What the target refuses is found among the rows that it is sent with; what the source cannot
/// read is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_does_not_fit_is_named_by_insert_as_well() {
    do_not_fit(&["--by-insert"], &["by_keys|1", "staged|1", "straight|6"]).await;
}

async fn do_not_fit(more: &[&str], expected: &[&str]) {
    let pair = Pair::fresh(
        "CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, wide int8, word text, exact numeric, doc json, must text);
         INSERT INTO app.t SELECT n, n, 'w', 1.5, '{}', 'm' FROM generate_series(1, 2000) AS n;
         UPDATE app.t SET wide = 1::int8 << 40 WHERE id = 100;
         UPDATE app.t SET word = 'much too long' WHERE id = 600;
         UPDATE app.t SET exact = 1.239 WHERE id = 1100;
         UPDATE app.t SET must = NULL WHERE id = 1600;
         UPDATE app.t SET doc = '{\"a\": \"\\u0000\"}' WHERE id = 1900;",
        "CREATE SCHEMA app; CREATE TABLE app.t (id bigint PRIMARY KEY, wide int4, word varchar(5), exact numeric(8,2), doc jsonb, must text NOT NULL)",
    )
    .await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    let accepted = ["--accept", "column.narrower", "--accept", "column.not_null"];
    let output = segue.run(&arguments(&[&["--chunk-rows", "250"], &accepted[..], more].concat()));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        output.status.code(),
        Some(3),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(printed.contains("5 rows could not be copied"), "{printed}");
    let missing = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM generate_series(1, 2000) AS n \
        WHERE NOT EXISTS (SELECT FROM app.t WHERE id = n)";
    assert_eq!(pair.target.rows(missing).await, ["100 600 1100 1600 1900"]);
    let told = "SELECT key::text, last_error IS NOT NULL FROM segue.outbox ORDER BY key[1]::int";
    assert_eq!(
        pair.source.rows(told).await,
        ["{100}|t", "{600}|t", "{1100}|t", "{1600}|t", "{1900}|t"]
    );
    let ways = "SELECT way, count(*) FROM segue.backfill WHERE rows > 0 GROUP BY way ORDER BY way";
    assert_eq!(pair.target.rows(ways).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_idle_source_without_a_configuration_file() {
    let pair = Pair::fresh(&format!("{SOURCE} {ROWS}"), TARGET).await;
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_segue"))
            .args(["backfill", "--source", pair.source.dsn(), "--target", pair.target.dsn()])
            .args(["--chunk-rows", "30", "--source-is-idle"])
            .args(more)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["--dry-run"]);
    assert!(pair.target.rows("SELECT FROM app.plain").await.is_empty());
    let state = folder.path().join("state");
    let printed = run(&["--checkpoint-file", state.to_str().unwrap(), "--table", "app.texts"]);
    assert!(printed.contains("complete: 101 rows of 1 table copied"), "{printed}");
    assert_eq!(pair.target.rows("SELECT to_regclass('segue.backfill')").await, ["NULL"]);
    assert_eq!(pair.source.rows("SELECT to_regclass('segue.control')").await, ["NULL"]);
    let printed = run(&["--table", "plain"]);
    assert!(printed.contains("complete: 102 rows of 1 table copied"), "{printed}");
    assert_eq!(pair.source.rows("SELECT to_regclass('segue.control')").await, ["NULL"]);
    let sql = format!("{PLAIN} FROM app.plain ORDER BY id");
    same_rows(&pair, &sql, &sql).await;
}
