//! Pairs of types, value by value: what is equal is not reported, what is not is, and what the
//! sums can settle is not read.

use segue::postgres::verify::Params;

use crate::world;

/// How a pair of values comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// Equal, and the sums say so: no row is read.
    Equal,
    /// Not equal.
    Different,
}
use Is::{Different, Equal};

/// The source's type, the target's, and values of both.
type Vector = (&'static str, &'static str, &'static [(&'static str, &'static str, Is)]);

const VECTORS: &[Vector] = &[
    (
        "timestamptz(6)",
        "timestamptz(3)",
        &[
            ("2024-01-02 03:04:05.123456+00", "2024-01-02 03:04:05.123+00", Equal),
            ("2024-01-02 03:04:05.1236+00", "2024-01-02 03:04:05.124+00", Equal),
            ("2024-01-02 03:04:05.1236+00", "2024-01-02 03:04:05.123+00", Different),
            ("2024-01-02 03:04:05.1235+00", "2024-01-02 03:04:05.124+00", Equal),
            ("2024-01-02 03:04:05.123456+00", "2024-01-02 03:04:05.124+00", Different),
            ("2024-01-02 03:04:05.1236+00", "2024-01-02 03:04:05.125+00", Different),
            ("1999-01-02 03:04:05.1236+00", "1999-01-02 03:04:05.124+00", Equal),
            ("1999-01-02 03:04:05.1235+00", "1999-01-02 03:04:05.123+00", Equal),
            ("1999-01-02 03:04:05.1235+00", "1999-01-02 03:04:05.124+00", Different),
            ("infinity", "infinity", Equal),
            ("infinity", "294276-12-31 23:59:59.999+00", Different),
            ("infinity", "-infinity", Different),
            ("infinity", "2024-01-02 03:04:05+00", Different),
            ("2024-01-02 03:04:05.123456+05", "2024-01-01 22:04:05.123+00", Equal),
        ],
    ),
    (
        "timestamp",
        "timestamp",
        &[
            ("2024-01-02 03:04:05.123456", "2024-01-02 03:04:05.123456", Equal),
            ("2024-01-02 03:04:05.123456", "2024-01-02 03:04:05.123457", Different),
            ("infinity", "294276-12-31 23:59:59.999999", Different),
            ("-infinity", "4713-01-01 00:00:00 BC", Different),
        ],
    ),
    (
        "timestamp",
        "timestamptz(3)",
        &[
            ("2024-01-02 03:04:05.1234", "2024-01-02 03:04:05.123+00", Equal),
            ("2024-01-02 03:04:05.1234", "2024-01-02 04:04:05.123+01", Equal),
            ("2024-01-02 03:04:05.1234", "2024-01-02 03:04:05.123+01", Different),
        ],
    ),
    (
        "date",
        "date",
        &[("2024-02-29", "2024-02-29", Equal), ("2024-02-29", "2024-03-01", Different)],
    ),
    (
        "time",
        "time(0)",
        &[("10:00:00.4", "10:00:00", Equal), ("10:00:00.4", "10:00:01", Different)],
    ),
    (
        "timetz",
        "timetz(3)",
        &[
            ("10:00:00.123456+02", "10:00:00.123+02", Equal),
            ("10:00:00.123456+02", "08:00:00.123+00", Different),
        ],
    ),
    (
        "interval",
        "interval",
        &[
            ("1 mon", "30 days", Different),
            ("24:00:00", "1 day", Different),
            ("1 day", "24:00:00", Different),
        ],
    ),
    (
        "timetz",
        "timetz",
        &[("10:00:00+02", "10:00:00+02", Equal), ("10:00:00+02", "08:00:00+00", Different)],
    ),
    (
        "interval",
        "interval(3)",
        &[
            ("1 day 02:03:04.123456", "1 day 02:03:04.123", Equal),
            ("36:00:00", "1 day 12:00:00", Different),
            ("1 mon", "30 days", Different),
            ("-1 day", "-1 day", Equal),
        ],
    ),
    (
        "int4",
        "int8",
        &[("2147483647", "2147483647", Equal), ("0", "4294967297", Different), ("-1", "-1", Equal)],
    ),
    (
        "int8",
        "int8",
        // PostgreSQL's own hash of int8 folds both halves together.
        &[("0", "4294967297", Different), ("-9223372036854775808", "-9223372036854775808", Equal)],
    ),
    (
        "numeric(12,2)",
        "numeric",
        &[
            ("250.00", "250", Equal),
            ("100.10", "100.1", Equal),
            // PostgreSQL's own hash of numeric leaves the sign out.
            ("5.00", "-5", Different),
            ("0", "-0.00", Equal),
            ("5.55", "5.551", Different),
        ],
    ),
    (
        "numeric",
        "numeric",
        &[
            ("NaN", "NaN", Equal),
            ("NaN", "0", Different),
            ("1e-10", "1.0e-10", Different),
            ("1", "1.000", Different),
        ],
    ),
    ("int4", "numeric", &[("7", "7.00", Equal), ("7", "7.01", Different)]),
    ("money", "numeric(12,2)", &[("69.93", "69.93", Equal), ("-5.55", "5.55", Different)]),
    (
        "float4",
        "float8",
        &[
            ("0.1", "0.10000000149011612", Equal),
            ("0.1", "0.1", Equal),
            ("1", "1e-50", Different),
            ("0.1", "0.2", Different),
            ("NaN", "NaN", Equal),
        ],
    ),
    (
        "float8",
        "float8",
        &[
            ("0.3", "0.30000000000000004", Different),
            ("0", "-0", Different),
            ("1e300", "1e300", Equal),
            ("NaN", "NaN", Equal),
        ],
    ),
    (
        "float8",
        "numeric",
        &[
            ("0.5", "0.50", Equal),
            ("0.1", "0.1", Equal),
            ("0.1", "0.10000000000000000001", Different),
            ("0.5", "0.6", Different),
            ("NaN", "NaN", Equal),
        ],
    ),
    (
        "char(8)",
        "varchar(8)",
        &[("AB12", "AB12", Equal), ("AB12", "AB12  ", Equal), ("AB12", "AB13", Different)],
    ),
    ("char(8)", "char(8)", &[("AB12", "AB12", Equal), ("AB12", "ab12", Different)]),
    (
        "text",
        "varchar(40)",
        &[
            ("", "", Equal),
            ("NULL", "", Different),
            ("", "NULL", Different),
            ("NULL", "NULL", Equal),
            ("a ", "a", Different),
            ("é", "é", Equal),
        ],
    ),
    ("citext", "text", &[("Ada@Example.com", "Ada@Example.com", Equal), ("Ada", "ada", Different)]),
    (
        "json",
        "jsonb",
        &[
            ("{ \"b\" : 1, \"a\" : 2, \"b\" : 3 }", "{\"a\": 2, \"b\": 3}", Equal),
            ("{\"n\": 1.00}", "{\"n\": 1.00}", Equal),
            ("{\"n\": 1.0}", "{\"n\": 1.00}", Different),
            ("{\"n\": 12345678901234567890}", "{\"n\": 12345678901234567891}", Different),
            ("{\"n\": 0.12345678901234567890}", "{\"n\": 0.12345678901234567891}", Different),
            ("[1, 2,  3]", "[1, 2, 3]", Equal),
            ("[[1, 2]]", "[[], 1, 2]", Different),
            ("null", "null", Equal),
            ("NULL", "null", Different),
            // What `jsonb` cannot hold fails the sum of its chunk, and only that.
            ("{\"a\": \"\\u0000\"}", "{\"a\": \"0\"}", Different),
        ],
    ),
    (
        "jsonb",
        "json",
        &[
            ("{\"bb\": 1, \"a\": {\"z\": 1}}", "{\"a\": {\"z\": 1}, \"bb\": 1}", Equal),
            ("{\"bb\": 1}", "{\"bb\": 2}", Different),
        ],
    ),
    (
        "json",
        "json",
        &[
            ("{\"a\":1}", "{\"a\":1}", Equal),
            ("{\"a\":1}", "{ \"a\": 1 }", Different),
            ("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", Different),
            ("{\"a\":1}", "{\"a\":2,\"a\":1}", Different),
            ("{\"a\":1.0}", "{\"a\":1.00}", Different),
            ("\"\\u0041\"", "\"A\"", Different),
        ],
    ),
    (
        "jsonb",
        "jsonb",
        &[
            ("{\"b\": 1, \"a\": 2}", "{\"a\":2,\"b\":1}", Equal),
            ("{\"a\": 1.5}", "{\"a\": 1.50}", Different),
        ],
    ),
    ("json[]", "json[]", &[("{1.0}", "{1.00}", Different)]),
    ("numeric[]", "numeric[]", &[("{1,2.0}", "{1,2.0}", Equal), ("{1}", "{1.0}", Different)]),
    ("numrange", "numrange", &[("[1,2)", "[1,2)", Equal), ("[1,2)", "[1.0,2)", Different)]),
    ("exact", "exact", &[("1.5", "1.5", Equal), ("1.5", "1.50", Different)]),
    ("spelt", "spelt", &[("(1,{})", "(1,{})", Equal), ("(1,{})", "(1.0,{})", Different)]),
    (
        "spelt[]",
        "spelt[]",
        &[("{\"(1,{})\"}", "{\"(1,{})\"}", Equal), ("{\"(1,{})\"}", "{\"(1,{ })\"}", Different)],
    ),
    ("citext", "citext", &[("Ada", "ada", Different)]),
    ("money", "money", &[("5.00", "5.00", Equal), ("5.00", "-5.00", Different)]),
    ("bit(4)", "bit(4)", &[("0101", "0101", Equal), ("0101", "0100", Different)]),
    ("xml", "xml", &[("<a/>", "<a/>", Equal), ("<a/>", "<a></a>", Different)]),
    ("int4", "text", &[("7", "7", Equal), ("7", "07", Equal), ("7", "8", Different)]),
    ("date", "timestamp", &[("2024-02-29", "2024-02-29 10:00:00", Equal)]),
    ("inet", "text", &[("10.0.0.1", "10.0.0.1", Equal), ("10.0.0.1", "10.0.0.2", Different)]),
    ("mood", "mood", &[("sad", "sad", Equal), ("sad", "ok", Different)]),
    ("mood", "text", &[("sad", "sad", Equal), ("sad", "Sad", Different)]),
    ("small", "int8", &[("7", "7", Equal), ("7", "8", Different)]),
    (
        "uuid",
        "text",
        &[
            ("5d2f2d3c-9b6f-4c1e-8c1d-0f3a1b2c3d4e", "5d2f2d3c-9b6f-4c1e-8c1d-0f3a1b2c3d4e", Equal),
            ("5d2f2d3c-9b6f-4c1e-8c1d-0f3a1b2c3d4e", "5D2F2D3C9B6F4C1E8C1D0F3A1B2C3D4E", Equal),
        ],
    ),
    (
        "bytea",
        "bytea",
        &[
            ("\\x00ff", "\\x00ff", Equal),
            ("\\x00ff", "\\x00fe", Different),
            ("\\x", "NULL", Different),
        ],
    ),
    (
        "bool",
        "bool",
        &[("true", "true", Equal), ("true", "false", Different), ("NULL", "false", Different)],
    ),
    ("bit(4)", "varbit", &[("0101", "0101", Equal), ("0101", "01010", Different)]),
    ("inet", "inet", &[("10.0.0.1", "10.0.0.1", Equal), ("10.0.0.0/8", "10.0.0.0/9", Different)]),
    (
        "int4[]",
        "int8[]",
        &[
            ("{1,2,NULL}", "{1,2,NULL}", Equal),
            ("{{1,2},{3,4}}", "{1,2,3,4}", Different),
            ("{}", "NULL", Different),
            ("[2:3]={1,2}", "{1,2}", Different),
        ],
    ),
    (
        "numeric(10,2)[]",
        "numeric[]",
        &[
            ("{1.10,2.00}", "{1.10,2.00}", Equal),
            ("{1.10,2.00,0.10,10.00}", "{1.1,2,0.1,10}", Equal),
            ("[0:1]={1.10,2.00}", "[0:1]={1.1,2}", Equal),
            ("{1.10,2.00}", "[0:1]={1.1,2}", Different),
            ("{1.10}", "{1.11}", Different),
        ],
    ),
    ("mood[]", "mood[]", &[("{sad,ok}", "{sad,ok}", Equal), ("{sad,ok}", "{ok,sad}", Different)]),
    (
        "text[]",
        "varchar[]",
        &[("{\"a b\",c}", "{\"a b\",c}", Equal), ("{\"\"}", "{NULL}", Different)],
    ),
    (
        "timestamptz[]",
        "timestamptz(3)[]",
        &[
            ("{2024-01-02 03:04:05.1234+00}", "{2024-01-02 03:04:05.123+00}", Equal),
            ("{2024-01-02 03:04:05.1234+00}", "{2024-01-02 03:04:05.124+00}", Different),
        ],
    ),
    ("int4range", "int8range", &[("[1,5)", "[1,5)", Equal), ("[1,5)", "[1,6)", Different)]),
    ("int4range", "int4range", &[("[1,5)", "[1,4]", Equal), ("[1,5)", "[1,6)", Different)]),
    (
        "pair",
        "pair",
        &[
            ("(1,x)", "(1,x)", Equal),
            ("(1,x)", "(2,x)", Different),
            ("(1,)", "(1,\"\")", Different),
        ],
    ),
    ("macaddr", "macaddr", &[("08:00:2b:01:02:03", "08:00:2b:01:02:03", Equal)]),
    ("\"char\"", "\"char\"", &[("a", "a", Equal), ("a", "b", Different)]),
];

/// Other labels come first, so that object ids and sort orders differ from the source's.
fn types(order: &str) -> String {
    format!(
        "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ({order}); \
         CREATE DOMAIN small AS int4 CHECK (VALUE < 100); CREATE TYPE pair AS (a int, b text); \
         CREATE DOMAIN exact AS numeric; CREATE TYPE spelt AS (a numeric, b json);"
    )
}

fn table(index: usize, ty: &str, values: &[&str]) -> String {
    let rows: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(row, value)| match *value {
            "NULL" => format!("({row}, NULL)"),
            value => format!("({row}, '{}')", value.replace('\'', "''")),
        })
        .collect();
    format!(
        "CREATE TABLE v{index} (id int PRIMARY KEY, v {ty}); INSERT INTO v{index} VALUES {};",
        rows.join(", ")
    )
}

async fn check(as_text: bool) {
    let mut source = types("'sad', 'ok', 'happy'");
    let mut target = format!("CREATE TYPE first AS (a int); {}", types("'happy', 'ok', 'sad'"));
    let mut names = Vec::new();
    for (index, (one, other, values)) in VECTORS.iter().enumerate() {
        let left: Vec<&str> = values.iter().map(|value| value.0).collect();
        let right: Vec<&str> = values.iter().map(|value| value.1).collect();
        source.push_str(&table(index, one, &left));
        target.push_str(&table(index, other, &right));
        names.push(format!("public.v{index}"));
    }
    let tables: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str(), "{id}")).collect();
    let pair = world::pair(&source, &target, &tables).await;
    // One row a chunk: what the sums say of each is seen by whether it was read.
    let params = Params { chunk_rows: 1, as_text, ..world::params() };
    let all = world::verify(&world::verifier(&pair, params)).await;
    for (index, (one, other, values)) in VECTORS.iter().enumerate() {
        let chunks = &all[&format!("public.v{index}")];
        for (row, (a, b, is)) in values.iter().enumerate() {
            let until = Some(vec![row.to_string()]);
            let chunk = chunks.iter().find(|chunk| chunk.range.until == until).unwrap();
            let seen = if chunk.findings.is_empty() { Equal } else { Different };
            assert_eq!(seen, *is, "{one} {a} and {other} {b} (as text: {as_text})");
            // Sums and rows are compared in one form: equal rows need not be read.
            let read = chunk.rows_read > 0;
            assert_eq!(read, *is == Different, "{one} {a} and {other} {b} (as text: {as_text})");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_pair_of_types_are_told_apart_or_not() {
    check(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_by_the_hash_that_every_server_has() {
    check(true).await;
}
