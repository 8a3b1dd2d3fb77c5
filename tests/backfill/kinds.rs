//! Every kind of primary key.

use crate::support::{Pair, Segue};
use crate::world::{backfill, outbox_is_empty, same_rows};

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
    segue.init_in("dual_write").await;
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

/// Columns with every name that segue gives to something in a statement of its own.
const NAMES: [&str; 26] = [
    "segue_u0",
    "segue_u1",
    "segue_u",
    "segue_u_0",
    "segue_place",
    "segue_new",
    "segue_old",
    "segue_slot",
    "segue_at",
    "segue_write",
    "t",
    "k",
    "k1",
    "n",
    "h",
    "s",
    "part",
    "d",
    "w",
    "b",
    "p",
    "o",
    "r",
    "c",
    "key",
    "blocked",
];

fn of_names(each: impl Fn(&str) -> String) -> String {
    NAMES.map(each).join(", ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_may_have_the_names_that_segue_uses_itself() {
    let table = format!(
        "CREATE SCHEMA app; CREATE TABLE app.t (\"k1\" int, \"segue_at\" int, {}, \
             PRIMARY KEY (\"segue_at\", \"k1\"), UNIQUE (\"segue_u0\", \"t\"), UNIQUE (\"segue_u1\")); \
         CREATE UNIQUE INDEX ON app.t (lower(\"segue_u_0\"), \"n\") WHERE \"d\" <> 'none';",
        of_names(|name| format!("\"{name}\" text"))
            .replace("\"k1\" text, ", "")
            .replace("\"segue_at\" text, ", "")
    );
    let values = of_names(|name| match name {
        "k1" | "segue_at" => "n".to_owned(),
        name => format!("'{name} ' || n"),
    });
    let rows = format!(
        "INSERT INTO app.t ({}) SELECT {values} FROM generate_series(1, 60) AS n;",
        of_names(|name| format!("\"{name}\""))
    );
    let pair = Pair::fresh(&format!("{table} {rows}"), &table).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    backfill(&segue, &["--chunk-rows", "17"]);
    // Staged, with rows in the way that hold unique values of others.
    pair.target
        .run(
            "DELETE FROM app.t WHERE k1 IN (2, 4); \
             UPDATE app.t SET segue_u1 = 'segue_u1 2' WHERE k1 = 3; \
             UPDATE app.t SET segue_u_0 = 'SEGUE_U_0 4', n = 'n 4' WHERE k1 = 5; \
             UPDATE segue.backfill SET state = 'ready', attempts = 0",
        )
        .await;
    backfill(&segue, &["--chunk-rows", "17"]);
    let all = format!("SELECT {} FROM app.t ORDER BY k1", of_names(|name| format!("\"{name}\"")));
    same_rows(&pair, &all, &all).await;
    // And by reconcile: unique values change hands, keys change.
    pair.source
        .run(
            "BEGIN; UPDATE app.t SET segue_u1 = 'x' WHERE k1 = 7; \
             UPDATE app.t SET segue_u1 = 'segue_u1 7' WHERE k1 = 8; \
             UPDATE app.t SET segue_u1 = 'segue_u1 8' WHERE k1 = 7; COMMIT; \
             UPDATE app.t SET k1 = 1000, segue_at = 5 WHERE k1 = 9; \
             DELETE FROM app.t WHERE k1 = 10; UPDATE app.t SET t = 'u' WHERE k1 = 11",
        )
        .await;
    outbox_is_empty(&pair.source).await;
    same_rows(&pair, &all, &all).await;
    segue.succeed(&["verify"]);
    pair.target.run_as_copy("UPDATE app.t SET h = 'other', part = 'other' WHERE k1 = 12").await;
    assert_eq!(segue.run(&["verify"]).status.code(), Some(3));
    segue.succeed(&["verify", "--repair"]);
    same_rows(&pair, &all, &all).await;
}

/// A type without a binary form, as extensions have them (`isbn13`, `seg`).
const PLAIN: &str = "
CREATE SCHEMA app;
CREATE TYPE app.plain;
CREATE FUNCTION app.plain_in(cstring) RETURNS app.plain
    LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION app.plain_out(app.plain) RETURNS cstring
    LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE app.plain (INPUT = app.plain_in, OUTPUT = app.plain_out, LIKE = text);
CREATE DOMAIN app.plainer AS app.plain;
CREATE TYPE app.holder AS (a numeric, p app.plain);
CREATE TABLE app.t (id int PRIMARY KEY, p app.plain, ps app.plain[], d app.plainer, h app.holder,
    n numeric, own_note text);
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_without_a_binary_form_are_copied_reconciled_and_verified() {
    let rows = "INSERT INTO app.t SELECT n, ('p''\\' || n)::app.plain, \
            ARRAY[NULL, 'a,b', n]::text[]::app.plain[], ('d' || n)::app.plain, \
            ROW(n, 'h' || n)::text::app.holder, n, 'x' \
        FROM generate_series(1, 50) AS n;"
        .replace("ROW(n, 'h' || n)::text", "format('(%s.50,h%s)', n, n)")
        .replace("ARRAY[NULL, 'a,b', n]::text[]", "format('{NULL,\"a,b\",%s}', n)");
    let target = PLAIN.replace(
        "CREATE TYPE app.holder",
        "CREATE TYPE app.first AS (a int); CREATE TYPE app.holder",
    );
    let pair = Pair::fresh(&format!("{PLAIN} {rows}"), &target).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    backfill(&segue, &[]);
    let all = "SELECT * FROM app.t ORDER BY id";
    same_rows(&pair, all, all).await;
    pair.source
        .run(
            "UPDATE app.t SET p = 'q' WHERE id = 1; UPDATE app.t SET ps = '{z}' WHERE id = 2; \
             UPDATE app.t SET h = '(1.50,)' WHERE id = 3; UPDATE app.t SET h = '(4.500,h4)' WHERE id = 4; \
             UPDATE app.t SET p = NULL, h = NULL, d = NULL WHERE id = 5; \
             UPDATE app.t SET h = '(,)' WHERE id = 6; DELETE FROM app.t WHERE id = 7; \
             INSERT INTO app.t VALUES (100, 'new', '{n}', 'd', '(0,x)', 1.0, '')",
        )
        .await;
    outbox_is_empty(&pair.source).await;
    same_rows(&pair, all, all).await;
    segue.succeed(&["verify"]);
    // A column that comes later is noticed, though the columns are listed.
    for database in [&pair.target, &pair.source] {
        database.run("ALTER TABLE app.t ADD COLUMN later int").await;
    }
    pair.source.run("UPDATE app.t SET later = 7 WHERE id = 1").await;
    outbox_is_empty(&pair.source).await;
    same_rows(&pair, all, all).await;
}
