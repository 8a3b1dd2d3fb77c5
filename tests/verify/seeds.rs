//! Differences hidden at random among a million rows of other types on both sides: all of them
//! are found, every time, and nothing else.
//!
//! `SEGUE_SEED` repeats a run; `SEGUE_VERIFY_ROWS` sets the number of rows.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use segue::postgres::verify::Params;

use crate::support::{Database, Pair};
use crate::world;

const ROWS: u32 = 1_000_000;

const TYPES: &str = "CREATE TYPE status AS ENUM ('new', 'paid', 'sent');";
/// Columns with the source's type, the target's, and a value made of the row's number `n`.
const COLUMNS: &[(&str, &str, &str, &str)] = &[
    ("id", "int", "bigint", "n"),
    ("an_int", "int", "bigint", "n % 1000"),
    ("a_big", "bigint", "bigint", "n::int8 * 4294967297"),
    ("a_numeric", "numeric(12,2)", "numeric", "(n % 5000)::numeric(12,2) / 4"),
    ("a_text", "text", "varchar(40)", "'text ' || n"),
    ("a_note", "text", "text", "CASE n % 3 WHEN 0 THEN '' WHEN 1 THEN 'note' END"),
    (
        "fine",
        "timestamptz(6)",
        "timestamptz(6)",
        "'2024-01-01 00:00:00.123456+00'::timestamptz + n * interval '1 minute'",
    ),
    (
        "coarse",
        "timestamptz(6)",
        "timestamptz(3)",
        "'2024-01-01 00:00:00.123456+00'::timestamptz + n * interval '1 second'",
    ),
    (
        "doc",
        "json",
        "jsonb",
        "('{ \"n\" : ' || n || '.12345678901234567890, \"a\": [1, null] }')::json",
    ),
    ("an_uuid", "uuid", "uuid", "('00000000-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid"),
    ("a_bool", "bool", "bool", "n % 2 = 0"),
    ("a_float", "float8", "float8", "n / 3.0::float8"),
    ("a_real", "real", "float8", "(n / 3.0::float8)::real"),
    ("a_char", "char(8)", "varchar(8)", "'c' || n % 1000"),
    ("an_enum", "status", "status", "(ARRAY['new', 'paid', 'sent']::status[])[n % 3 + 1]"),
    ("an_array", "int[]", "bigint[]", "ARRAY[n, NULL, n % 7]"),
    ("bytes", "bytea", "bytea", "int4send(n)"),
    ("lead", "interval(6)", "interval(3)", "n * interval '1 minute'"),
];

/// What one row's change is: the column, and its new value on the target.
const CHANGES: &[(&str, &str)] = &[
    ("an_int", "an_int + 1"),
    // Folded together, both halves are the same as before.
    ("a_big", "a_big # 4294967297"),
    ("a_numeric", "-a_numeric - 0.01"),
    ("a_text", "a_text || ' '"),
    ("fine", "fine + interval '1 microsecond'"),
    ("coarse", "coarse + interval '1 millisecond'"),
    ("doc", "replace(doc::text, '234567890}', '234567891}')::jsonb"),
    (
        "an_uuid",
        "(left(an_uuid::text, 35) || CASE right(an_uuid::text, 1) WHEN 'a' THEN 'b' ELSE 'a' END)::uuid",
    ),
    ("a_bool", "NOT a_bool"),
    ("a_float", "-a_float"),
    ("a_real", "a_real + 0.25"),
    ("a_char", "upper(a_char)"),
    ("an_enum", "CASE an_enum WHEN 'new' THEN 'paid' ELSE 'new' END::status"),
    ("an_array", "ARRAY[an_array[3], NULL, an_array[1] + 1]"),
    ("bytes", "bytes || '\\x00'::bytea"),
    ("lead", "lead + interval '1 day' - interval '24 hours'"),
];

fn table(rows: u32, target: bool) -> String {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, source, other, _)| format!("{name} {}", if target { other } else { source }))
        .collect();
    let values: Vec<String> = COLUMNS
        .iter()
        .map(|(_, source, other, value)| {
            format!("({value})::{}::{}", source, if target { other } else { source })
        })
        .collect();
    format!(
        "{TYPES} CREATE TABLE big ({}); \
         INSERT INTO big SELECT {} FROM generate_series(1, {rows}) AS n; \
         ALTER TABLE big ADD PRIMARY KEY (id); ANALYZE big",
        columns.join(", "),
        values.join(", ")
    )
}

/// Rows by chance, none twice.
struct Draw {
    dice: StdRng,
    rows: u32,
    taken: Vec<u32>,
}

impl Draw {
    fn row(&mut self) -> u32 {
        loop {
            let row = self.dice.random_range(1..=self.rows);
            if !self.taken.contains(&row) {
                self.taken.push(row);
                return row;
            }
        }
    }

    /// One that is NULL, or `''`, in `a_note`.
    fn row_of(&mut self, rest: u32) -> u32 {
        loop {
            let row = self.row();
            if row % 3 == rest {
                return row;
            }
        }
    }
}

/// Changes the target; answers what must be found.
async fn spoil(target: &Database, draw: &mut Draw) -> Vec<String> {
    let mut sql = String::new();
    let mut expected = Vec::new();
    for (column, value) in CHANGES {
        let row = draw.row();
        sql.push_str(&format!("UPDATE big SET {column} = {value} WHERE id = {row};"));
        expected.push(format!("public.big {row} different {column}"));
    }
    let (missing, extra) = (draw.row(), draw.rows + draw.dice.random_range(1..1000));
    sql.push_str(&format!(
        "DELETE FROM big WHERE id = {missing}; \
         INSERT INTO big (id, a_text) VALUES ({extra}, 'extra');"
    ));
    expected.push(format!("public.big {missing} missing"));
    expected.push(format!("public.big {extra} extra"));
    // Of one chunk and of two.
    for near in [true, false] {
        let one = draw.row();
        let other = if near { if one < 3 { one + 2 } else { one - 1 } } else { draw.row() };
        draw.taken.push(other);
        sql.push_str(&format!(
            "UPDATE big AS t SET a_text = o.a_text FROM big AS o \
             WHERE (t.id, o.id) IN (({one}, {other}), ({other}, {one}));"
        ));
        expected.push(format!("public.big {one} different a_text"));
        expected.push(format!("public.big {other} different a_text"));
    }
    let (empty, null) = (draw.row_of(0), draw.row_of(2));
    sql.push_str(&format!(
        "UPDATE big SET a_note = NULL WHERE id = {empty}; \
         UPDATE big SET a_note = '' WHERE id = {null};"
    ));
    expected.push(format!("public.big {empty} different a_note"));
    expected.push(format!("public.big {null} different a_note"));
    target.run(&sql).await;
    expected.sort();
    expected
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_hidden_among_a_million_rows_is_found() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SEGUE_SEED").unwrap_or_else(rand::random);
    let rows = number("SEGUE_VERIFY_ROWS").map_or(ROWS, |rows| u32::try_from(rows).unwrap());
    eprintln!("SEGUE_SEED={seed} SEGUE_VERIFY_ROWS={rows}");
    let begun = Instant::now();
    let none: Pair = world::pair("", "", &[("public.big", "public.big", "{id}")]).await;
    let (one, other) = (table(rows, false), table(rows, true));
    tokio::join!(none.source.run(&one), none.target.run(&other));
    let pair = none;
    eprintln!("filled in {:.1} s", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let equal = world::verify(&world::verifier(&pair, Params::default())).await;
    let chunks = &equal["public.big"];
    let elapsed = begun.elapsed().as_secs_f64();
    eprintln!("verified in {elapsed:.1} s, {:.0} rows/s", f64::from(rows) / elapsed);
    assert!(chunks.iter().all(|done| done.findings.is_empty()), "seed {seed}");
    assert_eq!(chunks.iter().map(|done| done.rows).sum::<u64>(), u64::from(rows));
    // Whatever differs in type only is settled by the sums.
    assert_eq!(chunks.iter().map(|done| done.rows_read).sum::<u64>(), 0, "seed {seed}");

    let mut draw = Draw { dice: StdRng::seed_from_u64(seed), rows, taken: Vec::new() };
    for round in 0..2 {
        let expected = spoil(&pair.target, &mut draw).await;
        let begun = Instant::now();
        let repair = round == 0;
        let verifier = world::verifier(&pair, Params { repair, ..Params::default() });
        let all = world::verify(&verifier).await;
        let findings: Vec<_> = all["public.big"].iter().flat_map(|done| &done.findings).collect();
        let mut found: Vec<String> =
            findings.iter().map(|it| format!("public.big {}", world::told(it))).collect();
        found.sort();
        eprintln!("found {} in {:.1} s", found.len(), begun.elapsed().as_secs_f64());
        // The second round finds nothing of the first, which was repaired.
        assert_eq!(found, expected, "seed {seed}, round {round}");
        assert_eq!(findings.iter().all(|it| !it.is_open()), repair, "seed {seed}, round {round}");
    }
}
