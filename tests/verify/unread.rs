//! What cannot be read is neither absent nor equal.

use segue::dialect::Dialect;
use segue::domain::side::Side;
use segue::domain::verify::Discrepancy;
use segue::postgres::schema::script;
use segue::postgres::verify::Params;

use crate::support::{Database, Major, Pair, Segue, shared};
use crate::world;

/// A type without a binary form, as extensions have them (`isbn13`, `seg`).
const PLAIN: &str = "
CREATE TYPE plain;
CREATE FUNCTION plain_in(cstring) RETURNS plain LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION plain_out(plain) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE plain (INPUT = plain_in, OUTPUT = plain_out, LIKE = text);
CREATE TYPE holder AS (a int, p plain);
CREATE TABLE t (id int PRIMARY KEY, p plain, ps plain[], h holder, n numeric);
";

fn rows(one: &str) -> String {
    format!(
        "INSERT INTO t SELECT n, 'p' || n, ARRAY['x', NULL]::plain[], ROW(n, 'h' || n), 1 \
             FROM (SELECT generate_series(1, 20) AS n) AS g; {one}"
    )
    .replace("'p' || n", "('p' || n)::plain")
    .replace("ROW(n, 'h' || n)", "ROW(n, ('h' || n)::plain)::holder")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_without_a_binary_form_is_compared_by_its_text() {
    let change = "UPDATE t SET p = 'other' WHERE id = 3; DELETE FROM t WHERE id = 5; \
        UPDATE t SET ps = '{y}' WHERE id = 7; UPDATE t SET h = ROW(0, NULL) WHERE id = 9; \
        INSERT INTO t VALUES (30, 'new'); UPDATE t SET n = 1.0 WHERE id = 11";
    let tables = [("public.t", "public.t", "{id}")];
    // Object ids of the types differ between the sides.
    let target = format!("CREATE TYPE first AS (a int); {PLAIN} {}", rows(change));
    let pair = world::pair(&format!("{PLAIN} {}", rows("")), &target, &tables).await;
    for as_text in [false, true] {
        let params = Params { as_text, ..world::params() };
        let found = world::found(&world::verifier(&pair, params)).await;
        let expected = [
            "public.t 11 different n",
            "public.t 3 different p",
            "public.t 30 extra",
            "public.t 5 missing",
            "public.t 7 different ps",
            "public.t 9 different h",
        ];
        assert_eq!(found, expected, "as text: {as_text}");
    }
    let repairing = Params { repair: true, ..world::params() };
    world::verify(&world::verifier(&pair, repairing)).await;
    let sql = "SELECT id, p, ps, h, n FROM t ORDER BY id";
    assert_eq!(pair.source.rows(sql).await, pair.target.rows(sql).await);
}

/// Rows in two databases whose texts may be any bytes, `\xff` and `\xfe` in row 5.
async fn undecodable(schemas: bool) -> Pair {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); \
        INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 20) AS n;";
    let odd = |byte: &str| {
        format!("UPDATE t SET v = convert_from('\\x{byte}'::bytea, 'SQL_ASCII') WHERE id = 5")
    };
    let with = |side, byte| {
        let script = if schemas { script(side, Dialect::POSTGRESQL) } else { String::new() };
        format!("{script}; {table} {}", odd(byte))
    };
    let source = Database::create_ascii(shared(Major::V15), &with(Side::Source, "ff")).await;
    let target = Database::create_ascii(shared(Major::V18), &with(Side::Target, "fe")).await;
    Pair { source, target }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_reported_and_not_taken_for_equal() {
    let pair = undecodable(true).await;
    world::register(&pair, &[("public.t", "public.t", "{id}")]).await;
    pair.target.run("UPDATE t SET v = 'other' WHERE id = 7; DELETE FROM t WHERE id = 9").await;
    let verifier = world::verifier(&pair, Params { repair: true, ..world::params() });
    let all = world::verify(&verifier).await;
    let chunk = &all["public.t"][0];
    let told: Vec<String> = chunk.findings.iter().map(world::told).collect();
    assert_eq!(told, ["5 unread", "7 different v", "9 missing"], "{:?}", chunk.findings);
    let Discrepancy::Unread { reason } = &chunk.findings[0].what else { panic!("{chunk:?}") };
    assert!(reason.contains("on the primary") && reason.contains("22021"), "{reason}");
    assert!(!chunk.is_equal());
    // The others were repaired, and this one is still not known.
    let found = world::found(&world::verifier(&pair, world::params())).await;
    assert_eq!(found, ["public.t 5 unread"]);
    pair.target.run("DELETE FROM t WHERE id = 5").await;
    let found = world::found(&world::verifier(&pair, world::params())).await;
    assert_eq!(found, ["public.t 5 unread"]);
    pair.source.run("DELETE FROM t WHERE id = 5").await;
    assert_eq!(world::found(&world::verifier(&pair, world::params())).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_a_row_that_cannot_be_read_proves_nothing_and_says_so() {
    let pair = undecodable(false).await;
    let segue = Segue::serving(&pair, "shadow_read", "").await;
    let output = segue.run(&["verify"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("unread public.t (5): it cannot be read on the primary"), "{told}");
    assert!(told.contains("1 row not verified"), "{told}");
    let phase: serde_json::Value =
        serde_json::from_str(&segue.succeed(&["phase", "--json"])).unwrap();
    let gates = phase["gates"].as_array().unwrap();
    let gate = gates.iter().find(|gate| gate["name"] == "verify").unwrap();
    assert_eq!(gate["mark"], "fail", "{gate}");
    let found = gate["found"].as_str().unwrap();
    assert!(found.contains("public.t") && found.contains("key 5: on the primary"), "{found}");
}
