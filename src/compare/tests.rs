//! Vectors of cells, and whole answers.

use std::sync::Arc;

use super::cell::{CellVerdict, ColumnPair, judge};
use super::rewrite::Rewrite;
use super::rules::{ColumnRules, Rules};
use super::{compare, rewrite, with_evidence};
use crate::domain::answer::{Answer, Observed, RowBatchBuilder};
use crate::domain::pg_type::{Column, PgType, TypeKind};
use crate::domain::verdict::{Comparison, Verdict};
use crate::statement::analyse;

fn column(name: &str, type_name: &str, modifier: i32, stored: bool) -> Column {
    let ty = PgType {
        oid: 0,
        name: type_name.to_owned(),
        schema: "pg_catalog".to_owned(),
        kind: TypeKind::Simple,
    };
    Column {
        name: name.to_owned(),
        ty: Arc::new(ty),
        type_modifier: modifier,
        table_oid: stored.then_some(1),
        column_id: stored.then_some(1),
    }
}

fn pair(primary: (&str, i32), shadow: (&str, i32), stored: bool) -> ColumnPair {
    ColumnPair {
        primary: column("c", primary.0, primary.1, stored),
        shadow: column("c", shadow.0, shadow.1, stored),
        stored,
        rules: ColumnRules::default(),
    }
}

fn check(pair: &ColumnPair, one: &[u8], other: &[u8], expected: &str) {
    for (pair, one, other) in [(pair.clone(), one, other), (swapped(pair), other, one)] {
        let found = match judge(&pair, Some(one), Some(other)) {
            CellVerdict::Equal => "equal",
            CellVerdict::Normalized(rule) => rule,
            CellVerdict::Different => "different",
        };
        assert_eq!(found, expected, "{one:?} against {other:?} as {pair:?}");
    }
}

fn swapped(pair: &ColumnPair) -> ColumnPair {
    ColumnPair { primary: pair.shadow.clone(), shadow: pair.primary.clone(), ..pair.clone() }
}

#[test]
fn timestamps_round_or_are_cut() {
    let coarse = pair(("timestamptz", -1), ("timestamptz", 3), true);
    for (fine, rounded, expected) in [
        (1_234_400, 1_234_000, "timestamp_precision"),
        (1_234_600, 1_235_000, "timestamp_precision"),
        (1_234_600, 1_234_000, "timestamp_precision"),
        (1_234_400, 1_235_000, "different"),
        (1_234_500, 1_234_000, "timestamp_precision"),
        (1_234_500, 1_235_000, "timestamp_precision"),
        (1_234_500, 1_236_000, "different"),
        (-876_500, -877_000, "timestamp_precision"),
        (-876_500, -876_000, "timestamp_precision"),
        (-876_400, -876_000, "timestamp_precision"),
        (-876_400, -877_000, "timestamp_precision"),
        (-876_600, -876_000, "different"),
        (i64::MAX, 9_223_371_331_199_999_999, "timestamp_infinity"),
        (i64::MAX, 9_223_371_331_199_999_000, "timestamp_infinity"),
        (i64::MIN, i64::MAX, "different"),
        (i64::MAX, 1_000, "different"),
    ] {
        // Only the coarser column may hold the rounded value; both orders of the sides count.
        let (fine, rounded) = (i64::to_be_bytes(fine), i64::to_be_bytes(rounded));
        if expected != "timestamp_infinity" || rounded[7] != 24 {
            check(&coarse, &fine, &rounded, expected);
        }
    }
    let fine = pair(("timestamptz", -1), ("timestamptz", -1), true);
    check(&fine, &i64::to_be_bytes(1_234_500), &i64::to_be_bytes(1_234_000), "different");
    let computed = pair(("timestamptz", -1), ("timestamptz", -1), false);
    let second = i64::to_be_bytes(1_000_000);
    check(
        &computed,
        &i64::to_be_bytes(1_234_567),
        &i64::to_be_bytes(1_235_000),
        "timestamp_precision",
    );
    check(&computed, &i64::to_be_bytes(1_234_567), &second, "different");
}

#[test]
fn json_by_meaning() {
    let json = pair(("json", -1), ("json", -1), true);
    for (one, other, expected) in [
        (r#"{"a":1,"b":2}"#, r#"{"a": 1, "b": 2}"#, "json_format"),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, "json_key_order"),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, "json_key_order"),
        (r#"{"a":1.00}"#, r#"{"a":1}"#, "json_number"),
        ("100000", "1e5", "json_number"),
        ("12345678901234567890", "12345678901234567891", "different"),
        (r#"{"a":true}"#, r#"{"a":"true"}"#, "different"),
        ("[1,2]", "[2,1]", "different"),
        ("null", "0", "different"),
        (r#""2024-01-02T03:04:05Z""#, r#""2024-01-02T03:04:05+00:00""#, "different"),
    ] {
        check(&json, one.as_bytes(), other.as_bytes(), expected);
    }
}

#[test]
fn texts_are_data_unless_computed() {
    let (one, other) = (&b"2024-01-02 03:04:05.123456+00"[..], &b"2024-01-02 03:04:05.123+00"[..]);
    let computed = pair(("text", -1), ("text", -1), false);
    check(&computed, one, other, "timestamp_text");
    check(&pair(("text", -1), ("text", -1), true), one, other, "different");
    check(&computed, one, b"2024-01-02 03:04:05+00", "different");
    check(&computed, one, b"2024-01-02 03:04:05.123", "different");
    check(&computed, b"0.10", b"0.1", "different");
    check(&pair(("bpchar", 12), ("varchar", 12), true), b"X       ", b"X", "char_padding");
    check(&pair(("citext", -1), ("text", -1), true), b"Ada", b"Ada", "equal");
    check(&pair(("citext", -1), ("text", -1), true), b"Ada", b"ada", "different");
}

#[test]
fn numbers_by_value() {
    let ints = pair(("int4", -1), ("int8", -1), true);
    check(&ints, &7_i32.to_be_bytes(), &7_i64.to_be_bytes(), "int_width");
    check(&ints, &7_i32.to_be_bytes(), &8_i64.to_be_bytes(), "different");
    let floats = pair(("float4", -1), ("float8", -1), true);
    check(&floats, &0.1_f32.to_be_bytes(), &0.1_f64.to_be_bytes(), "float_width");
    check(&floats, &0.1_f32.to_be_bytes(), &f64::from(0.1_f32).to_be_bytes(), "float_width");
    check(&floats, &0.1_f32.to_be_bytes(), &0.100_001_f64.to_be_bytes(), "different");
    let mut doubles = pair(("float8", -1), ("float8", -1), true);
    check(&doubles, &0.3_f64.to_be_bytes(), &(0.1_f64 + 0.2).to_be_bytes(), "different");
    doubles.rules.float_tolerance = Some(1e-9);
    check(&doubles, &0.3_f64.to_be_bytes(), &(0.1_f64 + 0.2).to_be_bytes(), "float_tolerance");
}

#[test]
fn an_empty_text_is_not_null() {
    let text = pair(("text", -1), ("text", -1), true);
    assert_eq!(judge(&text, Some(b""), None), CellVerdict::Different);
    assert_eq!(judge(&text, None, None), CellVerdict::Equal);
}

/// An answer of texts and numbers: `1` is an int4, `x` a text, `-` NULL.
fn observed(columns: &[(&str, &str)], rows: &[&[&str]]) -> Observed {
    let mut builder = RowBatchBuilder::default();
    for row in rows {
        for (cell, (_, ty)) in row.iter().zip(columns) {
            let number = cell.parse::<i32>().unwrap_or_default().to_be_bytes();
            builder.push_cell(match *cell {
                "-" => None,
                _ if *ty == "int4" => Some(&number),
                text => Some(text.as_bytes()),
            });
        }
        builder.end_row();
    }
    Observed::Answer(Answer {
        columns: columns.iter().map(|(name, ty)| column(name, ty, -1, true)).collect(),
        affected_rows: rows.len() as u64,
        batches: vec![builder.take()],
    })
}

fn judged(sql: &str, columns: &[(&str, &str)], one: &[&[&str]], other: &[&[&str]]) -> Comparison {
    let analysis = analyse(sql).unwrap();
    let (one, other) = (observed(columns, one), observed(columns, other));
    compare(&analysis, &one, &other, &Rules::default())
}

#[test]
fn order_counts_where_it_was_asked_for() {
    let columns = [("a", "int4"), ("b", "text")];
    let check = |sql: &str, one: &[&[&str]], other: &[&[&str]], expected: (Verdict, &str)| {
        let found = judged(sql, &columns, one, other);
        assert_eq!((found.verdict, found.category), expected, "{sql}: {found:?}");
    };
    let (x, y, z): (&[&str], &[&str], &[&str]) = (&["1", "x"], &["1", "y"], &["2", "z"]);
    let all = [x, y, z];
    check("SELECT a, b FROM t", &all, &[z, x, y], (Verdict::Normalized, "row_order"));
    check("SELECT a, b FROM t ORDER BY a", &all, &[y, x, z], (Verdict::Normalized, "tie_order"));
    check(
        "SELECT a, b FROM t ORDER BY a",
        &all,
        &[z, x, y],
        (Verdict::Incompatible, "sort_key_unseen"),
    );
    check("SELECT a, b FROM t", &all, &[x, y], (Verdict::Data, "data"));
    check("SELECT a, b FROM t", &[x, x, z], &[x, z, z], (Verdict::Data, "data"));
    check(
        "SELECT a, b FROM t LIMIT 2",
        &[x, y],
        &[y, z],
        (Verdict::Skipped, "limit_without_order"),
    );
    check("SELECT a, b FROM t LIMIT 3", &[x, y], &[y, z], (Verdict::Data, "data"));
    check(
        "SELECT a, b FROM t ORDER BY a LIMIT 1",
        &[x],
        &[y],
        (Verdict::Skipped, "limit_without_order"),
    );
    check("SELECT a, b FROM t ORDER BY a LIMIT 2", &[x, z], &[y, z], (Verdict::Data, "data"));
    let null: &[&str] = &["-", "n"];
    check(
        "SELECT a, b FROM t ORDER BY a",
        &[x, z, null],
        &[null, x, z],
        (Verdict::Incompatible, "null_order"),
    );
    check("SELECT a, now() FROM t", &[x], &[y], (Verdict::Noise, "volatile"));
}

#[test]
fn rewrites_are_what_they_say() {
    let check = |sql: &str, expected: &[&str]| {
        let found = rewrite::machine(&analyse(sql).unwrap());
        let found: Vec<_> = found.into_iter().map(|rewrite| rewrite.sql).collect();
        assert_eq!(found, expected, "{sql}");
    };
    check("SELECT id FROM t WHERE a > 1", &[]);
    check(
        "SELECT id FROM t WHERE qty / 2 = 3",
        &["SELECT id FROM t WHERE qty::numeric / 2::numeric = 3"],
    );
    check(
        "SELECT id FROM t WHERE name < 'b'",
        &["SELECT id FROM t WHERE name COLLATE \"C\" < 'b'"],
    );
    check("DELETE FROM t WHERE qty / 2 = 3", &[]);
    check("SELECT id FROM t WHERE id = 5", &[]);
    let is_citext =
        |column| format!("pg_catalog.pg_typeof({column})::pg_catalog.text LIKE '%citext'");
    let when = |column, with_case| {
        format!("CASE WHEN {} THEN {with_case} ELSE true END", is_citext(column))
    };
    let of_text = when("email", "email::pg_catalog.text = 'Ada'");
    check(
        "SELECT id FROM t WHERE email = 'Ada'",
        &[&format!("SELECT id FROM t WHERE email = 'Ada' AND {of_text}")],
    );
    let of_list = when("u.email", "u.email::pg_catalog.text IN ($1, $2)");
    check(
        "SELECT id FROM u WHERE u.email IN ($1, $2)",
        &[&format!("SELECT id FROM u WHERE u.email IN ($1, $2) AND {of_list}")],
    );
    let of_pattern = when("name", "name::pg_catalog.text LIKE 'A%'");
    check(
        "SELECT count(*) FROM t WHERE name LIKE 'A%'",
        &[&format!("SELECT count(*) FROM t WHERE name LIKE 'A%' AND {of_pattern}")],
    );
}

#[test]
fn a_suggested_rewrite_shows_no_constant() {
    let sql = "SELECT id FROM t WHERE email = 'ada@example.com' ORDER BY nick LIMIT 2";
    let rewrite = rewrite::machine(&analyse(sql).unwrap()).swap_remove(0);
    assert!(rewrite.sql.contains("ada@"), "it is run as it is: {}", rewrite.sql);
    let columns = [("id", "int4")];
    let first = judged(sql, &columns, &[&["1"], &["2"]], &[&["1"], &["3"]]);
    let second = Comparison { verdict: Verdict::Match, category: "", ..first.clone() };
    let proven = with_evidence(first, &rewrite, second);
    assert_eq!(proven.verdict, Verdict::Incompatible);
    let shown = "SELECT id FROM t WHERE email = $1 ORDER BY nick NULLS LAST LIMIT $2";
    assert!(proven.rewrite.ends_with(shown), "{}", proven.rewrite);
}

#[test]
fn evidence_decides() {
    let first = || Comparison {
        verdict: Verdict::Incompatible,
        category: "int_division",
        suspected: true,
        ..judged("SELECT a FROM t", &[("a", "int4")], &[&["1"]], &[&["2"]])
    };
    let rewrite = Rewrite {
        category: "int_division",
        sql: "SELECT 1".into(),
        normalized: "SELECT $1".into(),
        keeps_meaning: false,
    };
    let rewritten = |verdict, category| Comparison { verdict, category, ..first() };
    let proven = with_evidence(first(), &rewrite, rewritten(Verdict::Match, ""));
    assert_eq!((proven.verdict, proven.suspected), (Verdict::Incompatible, false));
    let refuted = with_evidence(first(), &rewrite, rewritten(Verdict::Data, "data"));
    assert_eq!((refuted.verdict, refuted.suspected), (Verdict::Data, false));
    let open = with_evidence(first(), &rewrite, rewritten(Verdict::Match, "error_text"));
    assert_eq!((open.verdict, open.suspected), (Verdict::Incompatible, true));
}

#[test]
fn distinct_on_is_comparable_as_far_as_its_order_goes() {
    let columns = [("a", "int4"), ("b", "int4"), ("c", "text")];
    let check = |sql: &str, one: &[&[&str]], other: &[&[&str]], expected: (Verdict, &str)| {
        let found = judged(sql, &columns, one, other);
        assert_eq!((found.verdict, found.category), expected, "{sql}: {found:?}");
    };
    let skipped = |category| (Verdict::Skipped, category);
    let data = (Verdict::Data, "data");
    let (x, y, z): (&[&str], &[&str], &[&str]) =
        (&["1", "5", "x"], &["1", "6", "y"], &["2", "5", "z"]);
    let plain = "SELECT DISTINCT ON (a) a, b, c FROM t";
    check(plain, &[x], &[y], skipped("distinct_on"));
    check(plain, &[x, z], &[z, y], skipped("distinct_on"));
    check(plain, &[x], &[z], data);
    check(plain, &[x, z], &[x], data);
    check("SELECT DISTINCT ON (a) a, b, c FROM t ORDER BY a", &[x], &[y], skipped("distinct_on"));
    check("SELECT DISTINCT ON (t.a) * FROM t", &[x], &[y], skipped("distinct_on"));
    let tied: &[&str] = &["1", "5", "t"];
    let ordered = "SELECT DISTINCT ON (a) a, b, c FROM t ORDER BY a NULLS LAST, b NULLS LAST";
    check(ordered, &[x], &[tied], skipped("distinct_on_ties"));
    check(ordered, &[x], &[y], data);
    check(ordered, &[x, z], &[x, y], data);
    // Where a sort key has no place for NULLs the sides may sort otherwise.
    let open = "SELECT DISTINCT ON (a) a, b, c FROM t ORDER BY a, b";
    check(open, &[x], &[y], (Verdict::Incompatible, "null_order"));
    // One row with other data, for it agrees in what is no key.
    let by_c = "SELECT DISTINCT ON (c) a, b, c FROM t ORDER BY c, c";
    check(by_c, &[x], &[&["2", "5", "x"]], data);
    // In a subquery nobody sees the groups.
    let inner = "SELECT s.a, s.b, s.c FROM (SELECT DISTINCT ON (a) a, b, c FROM t) AS s";
    check(inner, &[x], &[y], (Verdict::Incompatible, "distinct_on"));
}
