//! The value codec against real servers: PostgreSQL's binary form, its text and its
//! parameters are what segue takes them for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use bytes::BytesMut;
use rand::{Rng, SeedableRng, rngs::StdRng};
use segue::domain::pg_type::{PgType, TypeKind};
use segue::domain::value::{Array, Interval, Value};
use segue::value::{
    self, Datum, DecodeError, MONEY_SAMPLE_SQL, MoneyStyle, Parameter, TextOptions,
};
use support::{Database, Major, Pair, shared};
use tokio_postgres::Client;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};

/// What the texts depend on, as segue's sessions have it.
const SESSION: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'; \
    SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex'";

const TYPES: &str = "
    CREATE EXTENSION citext;
    CREATE EXTENSION hstore;
    CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
    CREATE DOMAIN positive AS int4 CHECK (VALUE > 0);
    CREATE DOMAIN short AS varchar(5);
    CREATE TYPE pair AS (number positive, note text, at timestamptz, mood mood);
    CREATE TYPE nested AS (inner_pair pair, list pair[]);
    CREATE TYPE span AS RANGE (subtype = numeric);
";

/// The same types, with other object ids.
const TYPES_ELSEWHERE: &str = "
    CREATE TYPE other AS (a int);
    CREATE TYPE span AS RANGE (subtype = numeric);
    CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
    CREATE DOMAIN positive AS int4 CHECK (VALUE > 0);
    CREATE DOMAIN short AS varchar(5);
    CREATE TYPE pair AS (number positive, note text, at timestamptz, mood mood);
    CREATE TYPE nested AS (inner_pair pair, list pair[]);
    CREATE EXTENSION hstore;
    CREATE EXTENSION citext;
";

/// Values by their type; what is in one list is cast to it.
const CASES: &[(&str, &[&str])] = &[
    ("bool", &["t", "f"]),
    ("int2", &["0", "-32768", "32767"]),
    ("int4", &["0", "-2147483648", "2147483647"]),
    ("int8", &["0", "-9223372036854775808", "9223372036854775807"]),
    ("oid", &["0", "4294967295"]),
    (
        "float4",
        &[
            "0",
            "-0",
            "0.1",
            "1e-45",
            "3.4028235e38",
            "16777216",
            "1e6",
            "999999",
            "NaN",
            "Infinity",
            "-Infinity",
            "1.17549435e-38",
            "1e-5",
            "0.0001",
            "8388608",
        ],
    ),
    (
        "float8",
        &[
            "0",
            "-0",
            "0.1",
            "5e-324",
            "1.7976931348623157e308",
            "1e23",
            "9007199254740993",
            "2.2250738585072014e-308",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e14",
            "1e15",
            "1e22",
            "123456.789",
            "0.0001",
            "0.00001",
            "576460752303423488",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "0.00",
            "-0.10",
            "1",
            "10000",
            "9999.9999",
            "1e-16383",
            "1e131071",
            "NaN",
            "Infinity",
            "-Infinity",
            "12345678901234567890.123456789012345678901234567890",
            "1e20",
            "100000000",
            "0.00001",
            "-99999999.000",
            "0.00000000",
            "1000000000000.00",
        ],
    ),
    ("text", &["", "a", "é😀", "a'b\"c\\d", " x ", "null"]),
    ("varchar", &["", "abc"]),
    ("bpchar", &["abc  ", ""]),
    ("char(8)", &["abc"]),
    ("name", &["pg_class", ""]),
    ("\"char\"", &["a", "", " "]),
    ("bytea", &["", "\\x00ff10", "abc"]),
    (
        "timestamp",
        &[
            "2024-02-29 12:34:56.789",
            "infinity",
            "-infinity",
            "4714-11-24 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "0001-01-01 00:00:00",
            "0001-12-31 23:59:59.5 BC",
            "1999-12-31 23:59:59.999999",
            "10000-01-01",
        ],
    ),
    (
        "timestamptz",
        &[
            "2024-02-29 12:34:56.789+02",
            "infinity",
            "-infinity",
            "294276-12-31 23:59:59.999999+00",
            "0044-03-15 12:00:00+00 BC",
        ],
    ),
    ("timestamp(3)", &["2024-02-29 12:34:56.7895"]),
    (
        "date",
        &["2000-01-01", "infinity", "-infinity", "4714-11-24 BC", "5874897-12-31", "1900-02-28"],
    ),
    ("time", &["00:00", "24:00", "23:59:59.999999", "12:00:00.5"]),
    ("timetz", &["12:34:56.789+02", "00:00-15:59:59", "24:00+15:59", "01:02:03-03:30"]),
    (
        "interval",
        &[
            "0",
            "1 year 2 mons 3 days 04:05:06.789",
            "-1 mons +1 day -00:00:00.000001",
            "1 day",
            "24:00",
            "-1 year -1 day",
            "2147483647 days",
            "-178956970 years -8 mons",
            "1 mon -1 day",
            "-2562047788:00:54.775807",
            "1 year -00:00:01",
            "-1 day 100:00",
        ],
    ),
    ("uuid", &["00112233-4455-6677-8899-aabbccddeeff"]),
    ("json", &["{\"a\" :  1.00, \"a\": 2}", "null", "\"\\u0000\"", "\"\\ud83d\""]),
    ("jsonb", &["{\"b\": 1.00, \"a\": [1e5, null]}", "\"é\"", "[]"]),
    ("jsonpath", &["$.a[*] ? (@ > 1)"]),
    (
        "inet",
        &[
            "192.168.0.1",
            "192.168.0.1/24",
            "0.0.0.0/0",
            "::1",
            "::",
            "fe80::1/64",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
            "2001:db8:0:0:1:0:0:1",
            "1:0:0:2:0:0:0:3",
            "1::",
            "1:2:3:4:5:6:7:0",
            "0:0:1::",
            "::1:2",
        ],
    ),
    ("cidr", &["192.168.0.0/24", "10.1.2.3", "::/0", "2001:db8::/32", "::1/128"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("bit(3)", &["101"]),
    ("bit(16)", &["1010101011110000"]),
    ("varbit", &["", "1", "101010101"]),
    ("money", &["1234.5", "-1234567.89", "0.01", "-0.05", "92233720368547758.07"]),
    ("int4range", &["empty", "[1,5)", "(,3]", "[7,)", "(,)"]),
    ("tstzrange", &["[2024-01-01,2024-02-01 12:00)", "[-infinity,infinity]"]),
    ("numrange", &["(1.50,2.5]"]),
    ("daterange", &["[2024-01-01,2024-01-31]"]),
    ("span", &["[1,2)"]),
    ("int4multirange", &["{}", "{[1,3),[5,8)}", "{(,1),[9,)}"]),
    ("tstzmultirange", &["{[2024-01-01,2024-02-01)}"]),
    ("hstore", &["", "a=>1, \"b c\"=>NULL, \"q\\\"\"=>\"x\\\\y\""]),
    ("citext", &["Ab"]),
    ("tsvector", &["", "'a':1A,2 'b''c' 'd\\\\e':3C,16383"]),
    (
        "tsquery",
        &[
            "",
            "a & b",
            "a | b & !c",
            "(a | b) & c",
            "!(a & b)",
            "a <-> (b <2> c)",
            "'x y':*AB & z",
            "a <-> b <-> c",
            "(a & b) <-> c",
            "!!a",
        ],
    ),
    ("xml", &["<a>é</a>", "<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>"]),
    ("xid", &["4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("cid", &["7"]),
    ("pg_lsn", &["16/B374D848", "0/0"]),
    ("tid", &["(4294967295,7)"]),
    ("refcursor", &["c"]),
    ("int2vector", &["1 2 -3", ""]),
    ("oidvector", &["1 4294967295"]),
    ("mood", &["sad", "so so"]),
    ("positive", &["7"]),
    ("short", &["abc"]),
    (
        "pair",
        &[
            "(1,\"a,b\",2024-01-01 00:00:00+00,\"so so\")",
            "(,,,)",
            "(1,\"\",,sad)",
            "(2,\"q\"\"\\\\\",infinity,)",
        ],
    ),
    ("nested", &["(\"(1,x,,sad)\",\"{\"\"(2,y,,)\"\",NULL}\")"]),
    ("bool[]", &["{t,f,NULL}"]),
    (
        "int4[]",
        &[
            "{}",
            "{1,2}",
            "{{1,2},{3,NULL}}",
            "[0:1]={1,2}",
            "[2:2][-1:0]={{1,2}}",
            "{{{1},{2}},{{3},{4}}}",
        ],
    ),
    ("text[]", &["{\"\",NULL,\"NULL\",\"a,b\",\"{\",\"q\\\"\",\"b\\\\\",\" x\",é}"]),
    ("numeric(10,2)[]", &["{1.50,NaN}"]),
    ("timestamptz[]", &["{2024-01-01 00:00:00+00,infinity}"]),
    ("interval[]", &["{\"1 day\"}"]),
    ("jsonb[]", &["{\"{\\\"a\\\": 1}\"}"]),
    ("mood[]", &["{sad,\"so so\",NULL}"]),
    ("positive[]", &["{1,2}"]),
    ("pair[]", &["{\"(1,x,,sad)\",NULL}"]),
    ("inet[]", &["{::1,10.0.0.0/8}"]),
    ("int4range[]", &["{\"[1,5)\",empty}"]),
    ("citext[]", &["{Ab}"]),
    ("hstore[]", &["{\"a=>1\"}"]),
    ("float8[]", &["{1e23,NaN,-0}"]),
    ("uuid[]", &["{00112233-4455-6677-8899-aabbccddeeff}"]),
    ("bytea[]", &["{\"\\\\x00ff\"}"]),
    ("money[]", &["{$1.00}"]),
    ("date[]", &["{infinity,2024-01-01}"]),
];

/// Expressions whose type has no name to cast to.
const EXPRESSIONS: &[&str] = &[
    "ROW(1, 'a b'::text, NULL::int, ARRAY[1,2], 1.50, '2024-01-01'::date)",
    "ROW()",
    "pg_sleep(0)",
];

/// Types whose text needs what segue does not have.
const OPAQUE: &[&str] =
    &["'pg_class'::regclass", "point(1,2)", "'\\377'::\"char\"", "ARRAY[ROW(1,2)]"];

struct Raw(Parameter);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ToSql for Raw {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(match &self.0.data {
            None => IsNull::Yes,
            Some(data) => {
                out.extend_from_slice(data);
                IsNull::No
            }
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        match self.0.format {
            value::Format::Binary => Format::Binary,
            value::Format::Text => Format::Text,
        }
    }
}

struct Cell(Vec<u8>);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn pg_type(ty: &Type) -> Arc<PgType> {
    let kind = match ty.kind() {
        Kind::Enum(labels) => TypeKind::Enum(labels.clone()),
        Kind::Pseudo => TypeKind::Pseudo,
        Kind::Array(element) => TypeKind::Array(pg_type(element)),
        Kind::Range(inner) => TypeKind::Range(pg_type(inner)),
        Kind::Multirange(inner) => TypeKind::Multirange(pg_type(inner)),
        Kind::Domain(base) => TypeKind::Domain(pg_type(base)),
        Kind::Composite(fields) => TypeKind::Composite(
            fields.iter().map(|field| (field.name().to_owned(), pg_type(field.type_()))).collect(),
        ),
        _ => TypeKind::Simple,
    };
    Arc::new(PgType {
        oid: ty.oid(),
        name: ty.name().to_owned(),
        schema: ty.schema().to_owned(),
        kind,
    })
}

async fn session(database: &Database) -> (Client, TextOptions) {
    let client = database.client().await;
    client.batch_execute(SESSION).await.unwrap();
    let sample: String =
        client.query_one(&format!("SELECT {MONEY_SAMPLE_SQL}"), &[]).await.unwrap().get(0);
    let money = MoneyStyle::from_sample(&sample);
    assert!(money.is_some(), "{sample}");
    (client, TextOptions { money })
}

/// An expression's type, its binary form and the server's own text for it.
async fn answer(client: &Client, expression: &str) -> (Arc<PgType>, Vec<u8>, String) {
    let statement = client
        .prepare(&format!("SELECT {expression}"))
        .await
        .unwrap_or_else(|error| panic!("{expression}: {error:?}"));
    let ty = pg_type(statement.columns()[0].type_());
    let cell: Cell = client.query_one(&statement, &[]).await.unwrap().get(0);
    // The simple protocol has the output function's text; a cast would not (char, bool).
    let messages = client.simple_query(&format!("SELECT {expression}")).await.unwrap();
    let text = messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    (ty, cell.0, text.expect("not null"))
}

fn all_cases() -> impl Iterator<Item = (&'static str, String)> {
    CASES.iter().flat_map(|(ty, texts)| {
        texts
            .iter()
            .map(move |text| (*ty, format!("{}::{ty}", segue::domain::table::quote_literal(text))))
    })
}

#[tokio::test]
async fn every_text_is_the_servers_own() {
    for major in [Major::V15, Major::V18] {
        let database = Database::create(shared(major), TYPES).await;
        let (client, options) = session(&database).await;
        let expressions = all_cases()
            .map(|(_, expression)| expression)
            .chain(EXPRESSIONS.iter().map(|expression| (*expression).to_owned()));
        let mut faults = Vec::new();
        for expression in expressions {
            let (ty, cell, text) = answer(&client, &expression).await;
            let found = value::to_text_with(&ty, &cell, &options);
            if found.as_ref() != Ok(&text) {
                faults.push(format!("{expression}: {found:?} is not {text:?}"));
            }
        }
        assert!(faults.is_empty(), "{major:?}:\n{}", faults.join("\n"));
    }
}

#[tokio::test]
async fn what_has_no_certain_text_stays_as_its_bytes() {
    let database = Database::create(shared(Major::V15), "").await;
    let (client, options) = session(&database).await;
    for expression in OPAQUE {
        let (ty, cell, _) = answer(&client, expression).await;
        let found = value::to_text_with(&ty, &cell, &options);
        assert!(matches!(found, Err(DecodeError::NotDecoded { .. })), "{expression}: {found:?}");
        let value = value::to_value(&ty, Some(&cell), &options).unwrap();
        let parameter = value::bind(&ty, &value).unwrap();
        assert_eq!(parameter, Parameter::binary(cell), "{expression}");
    }
}

/// Literals of many kinds; each type takes those that it understands.
const LITERALS: &[&str] = &[
    "0",
    "1",
    "-1.5",
    "65536",
    "t",
    "x",
    "pg_class",
    "2024-02-29 12:34:56.789+02",
    "infinity",
    "1 mon -2 days 00:00:03.5",
    "{}",
    "{1,NULL}",
    "{\"2024-02-29 12:34:56\"}",
    "empty",
    "[1,5)",
    "[2024-01-01,2024-02-01)",
    "{[1,5),[7,9)}",
    "{[2024-01-01,2024-02-01)}",
    "(1,2)",
    "[(1,2),(3,4)]",
    "<(1,2),3>",
    "{1,2,3}",
    "1 2",
    "10.0.0.1/32",
    "08:00:2b:01:02:03",
    "08:00:2b:01:02:03:04:05",
    "101",
    "0a0b0c0d-0001-0203-0405-060708090a0b",
    "{\"b\": 1.00, \"a\": [null]}",
    "<a>b</a>",
    "$.a[*] ? (@ > 1)",
    "10:20:10,14",
    "0/16B3748",
    "\\x00ff",
    "a:1A b",
    "sad",
    "(1,x,,sad)",
    "(1,2),(3,4)",
    "(1,\"(1,2)\")",
    "(pg_class)",
];

/// Types made of what segue does not read.
const ODD_TYPES: &str = "
    CREATE DOMAIN place AS point;
    CREATE DOMAIN numbers AS int4[];
    CREATE TYPE placed AS (number int4, place point);
    CREATE TYPE watched AS (of regclass);
";

/// No type, built in or made from built-in ones, has a text that the server does not give it:
/// what segue cannot be sure of stays as its bytes.
#[tokio::test]
async fn no_type_of_the_server_reads_as_another_value() {
    let database = Database::create(shared(Major::V18), &format!("{TYPES}{ODD_TYPES}")).await;
    let (client, options) = session(&database).await;
    client
        .batch_execute(
            "CREATE FUNCTION fits(literal text, type text) RETURNS bool LANGUAGE plpgsql AS
             $$BEGIN EXECUTE format('SELECT %L::%s', literal, type); RETURN true;
               EXCEPTION WHEN OTHERS THEN RETURN false; END$$",
        )
        .await
        .unwrap();
    let wanted: Vec<String> = LITERALS.iter().map(|literal| (*literal).to_owned()).collect();
    let found = client
        .query(
            "SELECT format('%L::%s', l, format_type(t.oid, NULL)), t.typname::text
             FROM pg_type AS t LEFT JOIN pg_type AS e ON e.oid = t.typelem,
               unnest($1::text[]) AS l
             WHERE t.typtype <> 'p' AND t.typsend <> 0 AND e.typsend IS DISTINCT FROM 0
               AND (t.typtype <> 'c' OR t.typnamespace = 'public'::regnamespace)
               AND fits(l, format_type(t.oid, NULL))",
            &[&wanted],
        )
        .await
        .unwrap();
    let (mut read, mut opaque) = (BTreeSet::new(), BTreeSet::new());
    let mut faults = Vec::new();
    for row in found {
        let (expression, name): (String, String) = (row.get(0), row.get(1));
        let (ty, cell, text) = answer(&client, &expression).await;
        match value::to_text_with(&ty, &cell, &options) {
            Ok(found) if found == text => drop(read.insert(name)),
            Err(DecodeError::NotDecoded { .. }) => drop(opaque.insert(name)),
            odd => faults.push(format!("{expression}: {odd:?} is not {text:?}")),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(read.len() > 120, "{} types: {read:?}", read.len());
    let unread = ["point", "box", "regclass", "_regclass", "span_multirange", "place", "placed"];
    for name in unread.into_iter().chain(["watched"]) {
        assert!(opaque.contains(name), "{name} is not among {opaque:?}");
    }
}

#[tokio::test]
async fn every_value_goes_back_as_it_came() {
    for major in [Major::V15, Major::V18] {
        let database = Database::create(shared(major), TYPES).await;
        let (client, options) = session(&database).await;
        let mut faults = Vec::new();
        for (name, expression) in all_cases() {
            let (ty, cell, text) = answer(&client, &expression).await;
            let value = value::to_value(&ty, Some(&cell), &options).unwrap();
            let statement = client.prepare(&format!("SELECT $1::{name}")).await.unwrap();
            let wanted = pg_type(&statement.params()[0]);
            let parameter = match value::bind(&wanted, &value) {
                Ok(parameter) => parameter,
                Err(error) => {
                    faults.push(format!("{expression}: {value:?}: {error}"));
                    continue;
                }
            };
            match client.query_one(&statement, &[&Raw(parameter)]).await {
                Err(error) => faults.push(format!("{expression}: {value:?}: {error:?}")),
                Ok(row) if row.get::<_, Cell>(0).0 != cell => {
                    faults
                        .push(format!("{expression}: {value:?} came back as another than {text}"));
                }
                Ok(_) => {}
            }
        }
        assert!(faults.is_empty(), "{major:?}:\n{}", faults.join("\n"));
    }
}

#[tokio::test]
async fn every_value_goes_over_to_the_other_side() {
    let pair = Pair::fresh(TYPES, TYPES_ELSEWHERE).await;
    let (source, options) = session(&pair.source).await;
    let (target, _) = session(&pair.target).await;
    let mut faults = Vec::new();
    for (name, expression) in all_cases() {
        let (ty, cell, text) = answer(&source, &expression).await;
        let mut targets = vec![name];
        targets.extend(match name {
            "int2" | "int4" | "oid" => vec!["int8", "numeric", "text"],
            "float4" => vec!["float8"],
            "json" if !text.contains("\\u") => vec!["jsonb", "text"],
            "jsonb" => vec!["json", "text"],
            "mood" | "citext" | "varchar" | "short" | "inet" | "uuid" => vec!["text"],
            "int4[]" => vec!["int8[]", "numeric[]", "text[]"],
            "mood[]" | "inet[]" => vec!["text[]"],
            _ => vec![],
        });
        for other in targets {
            let statement = target.prepare(&format!("SELECT $1::{other}")).await.unwrap();
            let to = pg_type(&statement.params()[0]);
            let parameter = match value::transcode_with(&ty, &to, &cell, &options) {
                Ok(parameter) => parameter,
                Err(error) => {
                    faults.push(format!("{expression} to {other}: {error}"));
                    continue;
                }
            };
            let row = match target.query_one(&statement, &[&Raw(parameter)]).await {
                Ok(row) => row,
                Err(error) => {
                    faults.push(format!("{expression} to {other}: {error:?}"));
                    continue;
                }
            };
            let there = pg_type(statement.columns()[0].type_());
            let found = value::to_text_with(&there, &row.get::<_, Cell>(0).0, &options).unwrap();
            let same = if other == "float8" {
                found.parse::<f64>().unwrap() as f32 == text.parse::<f32>().unwrap()
                    || text == "NaN"
            } else if name == "json" && other == "jsonb" {
                value::parse_json(&found) == value::parse_json(&text)
            } else {
                found == text
            };
            if !same {
                faults.push(format!("{expression} to {other}: {found:?} is not {text:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test]
async fn infinite_intervals_are_the_newer_servers_word() {
    let infinite = Value::Interval(Interval::Infinity);
    for (major, known) in [(Major::V15, false), (Major::V18, true)] {
        let database = Database::create(shared(major), "").await;
        let (client, options) = session(&database).await;
        let statement = client.prepare("SELECT $1::interval").await.unwrap();
        let ty = pg_type(&statement.params()[0]);
        let parameter = value::bind(&ty, &infinite).unwrap();
        let answer = client.query_one(&statement, &[&Raw(parameter)]).await;
        assert_eq!(answer.is_ok(), known, "{major:?}");
        if let Ok(row) = answer {
            let cell = row.get::<_, Cell>(0).0;
            assert_eq!(value::to_value(&ty, Some(&cell), &options).unwrap(), infinite);
            assert_eq!(value::to_text(&ty, &cell).unwrap(), "infinity");
        }
    }
}

/// Binds many random values as one array and compares each one's text with the server's.
async fn check_many(client: &Client, ty: &str, values: Vec<Value>) {
    let sql =
        format!("SELECT x, x::text FROM unnest($1::{ty}[]) WITH ORDINALITY AS u(x, n) ORDER BY n");
    let statement = client.prepare(&sql).await.unwrap();
    let count = values.len();
    let array = Value::Array(Array {
        element_type: ty.to_owned(),
        dimensions: vec![(u32::try_from(count).unwrap(), 1)],
        elements: values.clone(),
    });
    let parameter = value::bind(&pg_type(&statement.params()[0]), &array).unwrap();
    let rows = client.query(&statement, &[&Raw(parameter)]).await.unwrap();
    assert_eq!(rows.len(), count);
    let element = pg_type(statement.columns()[0].type_());
    for (row, value) in rows.iter().zip(values) {
        let (cell, text): (Cell, String) = (row.get(0), row.get(1));
        assert_eq!(value::to_text(&element, &cell.0).unwrap(), text, "{value:?}");
        let found = value::to_value(&element, Some(&cell.0), &TextOptions::default()).unwrap();
        assert_eq!(found, value);
        assert!(!matches!(value::datum(&element, &cell.0).unwrap(), Datum::Opaque { .. }));
    }
}

#[tokio::test]
async fn many_random_values_read_as_the_server_writes_them() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let database = Database::create(shared(Major::V15), "").await;
    let (client, _) = session(&database).await;

    let mut doubles: Vec<f64> = (0..20_000).map(|_| f64::from_bits(random.random())).collect();
    doubles.extend((-1074..1024).map(|power| 2f64.powi(power)));
    doubles.extend((-320..309).filter_map(|power| format!("1e{power}").parse::<f64>().ok()));
    // Where digits may stand exactly between two floats.
    doubles.extend((0..20_000).map(|_| {
        let bits = random.random_range(1..57);
        let digits: u64 = random.random_range(1..1 << bits);
        format!("{digits}e{}", random.random_range(0..25)).parse::<f64>().unwrap()
    }));
    doubles.retain(|double| !double.is_nan());
    check_many(&client, "float8", doubles.into_iter().map(Value::Double).collect()).await;

    let mut singles: Vec<f32> = (0..20_000).map(|_| f32::from_bits(random.random())).collect();
    singles.extend((-149..128).map(|power| 2f32.powi(power)));
    singles.extend((0..20_000).map(|_| {
        let bits = random.random_range(1..28);
        let digits: u64 = random.random_range(1..1 << bits);
        format!("{digits}e{}", random.random_range(0..12)).parse::<f32>().unwrap()
    }));
    singles.retain(|single| !single.is_nan());
    check_many(&client, "float4", singles.into_iter().map(|s| Value::Double(s.into())).collect())
        .await;

    let intervals = (0..5_000).map(|_| {
        Value::Interval(Interval::Finite {
            months: random.random::<i32>() >> random.random_range(0..32),
            days: random.random::<i32>() >> random.random_range(0..32),
            micros: random.random::<i64>() >> random.random_range(0..64),
        })
    });
    check_many(&client, "interval", intervals.collect()).await;

    let dates = (0..5_000).map(|_| {
        let days = random.random_range(-2_440_588..2_000_000_000) >> random.random_range(0..20);
        Value::Date(segue::domain::value::Date::Finite(days))
    });
    check_many(&client, "date", dates.collect()).await;

    let points: Vec<_> = (0..5_000)
        .map(|_| segue::domain::value::Timestamp::Finite {
            seconds: random.random_range(-210_866_803_200..9_224_318_016_000i64)
                >> random.random_range(0..20),
            micros: random.random_range(0..1_000_000),
        })
        .collect();
    check_many(&client, "timestamp", points.iter().copied().map(Value::Timestamp).collect()).await;
    check_many(&client, "timestamptz", points.into_iter().map(Value::TimestampTz).collect()).await;

    let numerics = (0..5_000).map(|_| {
        let digits: u128 = random.random::<u128>() >> random.random_range(0..128);
        let digits = digits.to_string();
        let sign = if digits != "0" && random.random() { "-" } else { "" };
        let zeros = "0".repeat(random.random_range(0..12));
        Value::Numeric(match random.random_range(0..3) {
            0 => format!("{sign}{digits}"),
            1 if digits != "0" => format!("{sign}{digits}.{zeros}{digits}"),
            _ if digits != "0" => format!("{sign}0.{zeros}{digits}{zeros}"),
            _ => "0".to_owned(),
        })
    });
    check_many(&client, "numeric", numerics.collect()).await;
}
