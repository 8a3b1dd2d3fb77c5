//! Every kind of primary key.

use crate::support::{Pair, Segue};
use crate::world::{backfill, same_rows};

/// Name, type on the source, type on the target, an expression over `n` that is unique.
const KINDS: [(&str, &str, &str, &str); 19] = [
    ("k_int2", "int2", "int8", "(n - 200)::int2"),
    ("k_int4", "int4", "int8", "n * 7 - 900"),
    ("k_int8", "int8", "int8", "n * 1000000007::int8"),
    ("k_numeric", "numeric", "numeric", "n / 7.0 - 11"),
    ("k_text", "text", "text", "chr(65 + n % 50) || md5(n::text)"),
    ("k_text_icu", "text COLLATE \"en-x-icu\"", "text", "chr(65 + n % 50) || 'ä' || n"),
    ("k_varchar", "varchar(40)", "text", "'it''s \\ ' || n"),
    ("k_char", "char(12)", "char(12)", "'p' || n"),
    ("k_uuid", "uuid", "uuid", "md5(n::text)::uuid"),
    ("k_date", "date", "date", "date '1999-12-31' + n"),
    (
        "k_timestamptz",
        "timestamptz",
        "timestamptz",
        "timestamptz '1999-12-31 23:59:59.123456+02' + n * interval '1.000001 second'",
    ),
    ("k_timestamp", "timestamp", "timestamp", "timestamp '1999-12-31' - n * interval '1 day'"),
    ("k_interval", "interval", "interval", "n * interval '1 minute 2 seconds'"),
    ("k_bytea", "bytea", "bytea", "decode(md5(n::text), 'hex')"),
    ("k_inet", "inet", "inet", "inet '10.0.0.0' + n"),
    ("k_float8", "float8", "float8", "n / 3.0::float8 - 17"),
    ("k_domain", "app.small", "int4", "n"),
    ("Q \"uoted\"", "text", "text", "'\"' || n"),
    ("k_bool", "bool", "bool", "n = 1"),
];

fn tables(of: impl Fn(&(&str, &str, &str, &str)) -> String) -> String {
    KINDS
        .iter()
        .map(|kind| {
            let name = kind.0.replace('"', "\"\"");
            format!("CREATE TABLE app.\"{name}\" (\"{name}\" {} PRIMARY KEY, v text);", of(kind))
        })
        .collect()
}

const MORE_SOURCE: &str = "
CREATE TYPE app.mood AS ENUM ('sad', 'fine', 'happy');
CREATE TABLE app.k_enum (k app.mood PRIMARY KEY, v text);
INSERT INTO app.k_enum VALUES ('happy', 'h'), ('sad', NULL), ('fine', 'f');
CREATE TABLE app.k_many (a text COLLATE \"en-x-icu\", \"B b\" int, c uuid, d timestamptz, v text,
    PRIMARY KEY (\"B b\", a, d, c));
INSERT INTO app.k_many SELECT chr(65 + n % 60), n % 5, md5(n::text)::uuid, now() - n * interval '1 hour', n
    FROM generate_series(1, 400) AS n;
CREATE TABLE app.k_parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE app.k_parts_1 PARTITION OF app.k_parts FOR VALUES FROM ('2020-01-01') TO ('2020-03-01');
CREATE TABLE app.k_parts_2 PARTITION OF app.k_parts DEFAULT;
INSERT INTO app.k_parts SELECT n, date '2020-01-01' + n, n FROM generate_series(1, 400) AS n;
";

const MORE_TARGET: &str = "
CREATE TYPE app.mood AS ENUM ('happy', 'sad', 'fine');
CREATE TABLE app.k_enum (k app.mood PRIMARY KEY, v text);
CREATE TABLE app.k_many (a text, \"B b\" bigint, c uuid, d timestamptz, v text,
    PRIMARY KEY (\"B b\", a, d, c));
CREATE TABLE app.k_parts (id bigint, day date, v text, PRIMARY KEY (id, day));
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_key_is_cut_and_copied() {
    let rows: String = KINDS
        .iter()
        .map(|(name, _, _, value)| {
            let (name, last) = (name.replace('"', "\"\""), if *name == "k_bool" { 2 } else { 333 });
            format!(
                "INSERT INTO app.\"{name}\" SELECT {value}, nullif(n, 5)::text \
                 FROM generate_series(1, {last}) AS n;"
            )
        })
        .collect();
    let source = tables(|kind| kind.1.to_owned());
    let target = tables(|kind| kind.2.to_owned());
    let pair = Pair::fresh(
        &format!("CREATE SCHEMA app; CREATE DOMAIN app.small AS int CHECK (VALUE < 1000); {source} {rows} {MORE_SOURCE}"),
        &format!("CREATE SCHEMA app; {target} {MORE_TARGET}"),
    )
    .await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.succeed(&["init", "--phase", "dual_write"]);
    // Once straight into the empty tables, then as if nothing had been: through staging.
    for staged in [false, true] {
        if staged {
            let half = KINDS.iter().map(|kind| {
                let name = kind.0.replace('"', "\"\"");
                format!("DELETE FROM app.\"{name}\" WHERE v LIKE '%3%';")
            });
            let half: String = half.collect();
            pair.target
                .run(&format!(
                    "{half} DELETE FROM app.k_many WHERE v LIKE '%1%'; \
                    UPDATE segue.backfill SET state = 'ready', attempts = 0"
                ))
                .await;
        }
        backfill(&segue, &["--chunk-rows", "37"]);
        for (name, ..) in KINDS {
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            let sql = format!(
                "SELECT {quoted}::text, v FROM app.{quoted} ORDER BY {quoted}::text COLLATE \"C\""
            );
            same_rows(&pair, &sql, &sql).await;
        }
        for sql in [
            "SELECT k::text, v FROM app.k_enum ORDER BY k::text",
            "SELECT a, \"B b\"::text, c::text, d::text, v FROM app.k_many ORDER BY c",
            "SELECT id::text, day::text, v FROM app.k_parts ORDER BY id",
        ] {
            same_rows(&pair, sql, sql).await;
        }
    }
    let ways = "SELECT DISTINCT way FROM segue.backfill WHERE rows > 0 ORDER BY way";
    let ways = pair.target.rows(ways).await;
    assert!(ways.contains(&"staged".to_owned()), "{ways:?}");
    let chunks = "SELECT count(*) FROM segue.backfill AS b JOIN segue.backfill_table USING (table_id) \
        WHERE source_name = 'k_text_icu'";
    assert_eq!(pair.target.rows(chunks).await, ["10"]);
}
