//! Values of types that few tables have: extensions' without a binary form, enumerations, domains,
//! composites and what else is seldom seen. Both sides must store the same text in the end.

/// All of them may be NULL, and are in the beginning.
pub const TABLES: &str = "
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION isn; CREATE EXTENSION seg;
CREATE TYPE mood AS ENUM ('sad', 'glad', 'So-So');
CREATE TYPE spot AS (x int, label text);
CREATE DOMAIN even AS int CHECK (value % 2 = 0);
CREATE TABLE exotic (
    id int PRIMARY KEY, mood mood, spot spot, spots spot[], even even, bits varbit, raw bytea,
    span interval, words tsvector, point point, uuid uuid, mac macaddr, ranges int8multirange,
    padded char(6), name name, lsn pg_lsn, path jsonpath, isbn isbn13, seg seg, ci citext, pairs hstore
);
INSERT INTO exotic (id) SELECT i FROM generate_series(1, 20) AS i;";

pub const ROWS: i64 = 20;

/// Columns with the values that they take in turn.
pub const VALUES: [(&str, &[&str]); 20] = [
    ("mood", &["sad", "glad", "So-So"]),
    ("spot", &["(1,a)", "(,\"a \"\"b\"\"\")", "(,)"]),
    ("spots", &["{\"(1,a)\",NULL}", "{}", "{\"(,\\\"x y\\\")\"}"]),
    ("even", &["0", "-2", "2147483646"]),
    ("bits", &["", "1", "0101"]),
    ("raw", &["\\x", "\\x00ff", "\\x5c5c"]),
    ("span", &["1 mon", "30 days", "720:00:00", "-00:00:00.000001"]),
    ("words", &["'a':1 'b':2A", "''''", ""]),
    ("point", &["(0,-0)", "(1e300,NaN)", "(0.1,0.2)"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("mac", &["08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
    ("ranges", &["{}", "{[1,2),(5,)}", "{(,)}"]),
    ("padded", &["", "a", "a  b"]),
    ("name", &["", "a", "\"odd\""]),
    ("lsn", &["0/0", "FFFFFFFF/FFFFFFFF"]),
    ("path", &["$.a[*]", "strict $.\"b\" ? (@ > 1)"]),
    ("isbn", &["978-0-11-000533-4", "978-0-393-04002-9"]),
    ("seg", &["1.0 .. 2.00", "1.00", "5.50(+-)0.1"]),
    ("ci", &["Word", "word", "WORD"]),
    ("pairs", &["", "a=>1, b=>NULL", "\"b\"=>\"\", \"a\"=>\"2\""]),
];

/// The type of a column, where it has not the column's name.
pub fn type_of(column: &str) -> &str {
    match column {
        "spots" => "spot[]",
        "bits" => "varbit",
        "raw" => "bytea",
        "span" => "interval",
        "words" => "tsvector",
        "mac" => "macaddr",
        "ranges" => "int8multirange",
        "padded" => "char(6)",
        "lsn" => "pg_lsn",
        "path" => "jsonpath",
        "isbn" => "isbn13",
        "ci" => "citext",
        "pairs" => "hstore",
        same => same,
    }
}
