//! Keys of all kinds, and ranges that only one side has rows in.

use segue::domain::verify::Repair;
use segue::postgres::verify::Params;

use crate::world;

const SOURCE: &str = "
CREATE TYPE size AS ENUM ('s', 'm', 'l');
CREATE TABLE composite (a text, b int, v text, PRIMARY KEY (a, b));
CREATE TABLE ids (id uuid PRIMARY KEY, v text);
CREATE TABLE words (word text COLLATE \"en-x-icu\" PRIMARY KEY, v text);
CREATE TABLE sized (size size, n int, v text, PRIMARY KEY (n, size));
CREATE TABLE amounts (id numeric PRIMARY KEY, v text);
CREATE TABLE lonely (id int PRIMARY KEY, v text);
";
const TARGET: &str = "
CREATE TYPE size AS ENUM ('l', 'm', 's');
CREATE TABLE composite (a varchar, b bigint, v text, PRIMARY KEY (a, b));
CREATE TABLE ids (id uuid PRIMARY KEY, v text);
CREATE TABLE words (word text COLLATE \"C\" PRIMARY KEY, v text);
CREATE TABLE sized (size size, n bigint, v text, PRIMARY KEY (n, size));
CREATE TABLE amounts (id numeric PRIMARY KEY, v text);
CREATE TABLE lonely (id bigint PRIMARY KEY, v text);
";
const ROWS: &str = "
INSERT INTO composite SELECT chr(97 + n % 26) || ' ''\\' || n % 7, n, 'v' || n
    FROM generate_series(1, 1000) AS n;
INSERT INTO ids SELECT md5(n::text)::uuid, 'v' || n FROM generate_series(1, 1000) AS n;
INSERT INTO words SELECT (ARRAY['a', 'B', 'é', 'Z', '-', ' '])[n % 6 + 1] || n, 'v' || n
    FROM generate_series(1, 1000) AS n;
INSERT INTO sized SELECT (ARRAY['s', 'm', 'l']::size[])[n % 3 + 1], n / 3, 'v' || n
    FROM generate_series(1, 900) AS n;
INSERT INTO amounts SELECT n / 4.0, 'v' || n FROM generate_series(1, 1000) AS n;
";
const TABLES: &[(&str, &str, &str)] = &[
    ("public.composite", "public.composite", "{a,b}"),
    ("public.ids", "public.ids", "{id}"),
    ("public.words", "public.words", "{word}"),
    ("public.sized", "public.sized", "{n,size}"),
    ("public.amounts", "public.amounts", "{id}"),
    ("public.lonely", "public.lonely", "{id}"),
];

#[tokio::test(flavor = "multi_thread")]
async fn one_row_is_found_by_any_key() {
    let both = |tables| format!("{tables} {ROWS}");
    let pair = world::pair(&both(SOURCE), &both(TARGET), TABLES).await;
    let params = || Params { chunk_rows: 150, ..world::params() };
    assert_eq!(world::found(&world::verifier(&pair, params())).await, Vec::<String>::new());
    // The same number in another spelling is the same key, and another image of it.
    pair.target
        .run(
            "UPDATE composite SET v = 'other' WHERE b = 500; \
             DELETE FROM ids WHERE id = md5('77')::uuid; \
             UPDATE words SET v = NULL WHERE word = 'é8'; \
             INSERT INTO sized VALUES ('l', 1000000, 'extra'); \
             UPDATE amounts SET id = id::numeric(20, 9), v = 'other' WHERE id = 2.5",
        )
        .await;
    let uuid = pair.source.rows("SELECT md5('77')::uuid").await.remove(0);
    let letter = pair.source.rows("SELECT a FROM composite WHERE b = 500").await.remove(0);
    let mut expected = vec![
        format!("public.composite {letter},500 different v"),
        format!("public.ids {uuid} missing"),
        "public.words é8 different v".to_owned(),
        "public.sized 1000000,l extra".to_owned(),
        "public.amounts 2.5000000000000000 different id,v".to_owned(),
    ];
    expected.sort();
    assert_eq!(world::found(&world::verifier(&pair, params())).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_only_one_side_has_are_all_found() {
    let pair = world::pair(SOURCE, TARGET, TABLES).await;
    // Beyond what the primary's type can hold, too.
    pair.target
        .run("INSERT INTO lonely SELECT n::int8 * 3000000, 'x' FROM generate_series(1, 1500) AS n")
        .await;
    let params = || Params { chunk_rows: 150, ..world::params() };
    let found = world::found(&world::verifier(&pair, params())).await;
    assert_eq!(found.len(), 1500);
    assert!(found.iter().all(|told| told.ends_with(" extra")), "{found:?}");
    pair.source.run("INSERT INTO lonely SELECT n, 'x' FROM generate_series(1, 1000) AS n").await;
    let found = world::found(&world::verifier(&pair, params())).await;
    assert_eq!(found.len(), 2500);
    pair.target.run("TRUNCATE lonely").await;
    let found = world::found(&world::verifier(&pair, params())).await;
    assert_eq!(found.len(), 1000);
    assert!(found.iter().all(|told| told.ends_with(" missing")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_spelt_otherwise_is_a_difference() {
    let table = "CREATE TABLE amounts (id numeric PRIMARY KEY, v text);";
    let rows = |id: &str| format!("{table} INSERT INTO amounts VALUES ({id}, 'a'), (7, 'b')");
    let tables = [("public.amounts", "public.amounts", "{id}")];
    let pair = world::pair(&rows("1.00"), &rows("1.0"), &tables).await;
    let found = world::found(&world::verifier(&pair, world::params())).await;
    assert_eq!(found, ["public.amounts 1.00 different id"]);
    let repairing = Params { repair: true, ..world::params() };
    world::verify(&world::verifier(&pair, repairing)).await;
    assert_eq!(pair.target.rows("SELECT id FROM amounts ORDER BY id").await, ["1.00", "7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_one_side_generates_is_compared() {
    let plain = "CREATE TABLE sums (id int PRIMARY KEY, a int, total int);";
    let generated = "CREATE TABLE sums (id int PRIMARY KEY, a int, \
        total int GENERATED ALWAYS AS (a * 2) STORED);";
    let source = format!("{plain} INSERT INTO sums VALUES (1, 1, 2), (2, 2, 5)");
    let target = format!("{generated} INSERT INTO sums (id, a) VALUES (1, 1), (2, 2)");
    let tables = [("public.sums", "public.sums", "{id}")];
    let pair = world::pair(&source, &target, &tables).await;
    let repairing = Params { repair: true, ..world::params() };
    let all = world::verify(&world::verifier(&pair, repairing)).await;
    let findings: Vec<_> = all["public.sums"].iter().flat_map(|done| &done.findings).collect();
    let told: Vec<String> = findings.iter().map(|finding| world::told(finding)).collect();
    assert_eq!(told, ["2 different total"]);
    // No write makes them equal, and nobody says so.
    let Repair::Failed(why) = &findings[0].repair else { panic!("{findings:?}") };
    assert!(why.contains("\"total\" is generated on the shadow"), "{why}");
}
