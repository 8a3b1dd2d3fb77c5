//! Fuzz targets: cells, parameters, and the way between two sides' types.
//!
//! Each runs for [`FUZZ_TIME`](crate::value::fixtures::FUZZ_TIME) as a test, for as long as
//! `make fuzz` says, and under a coverage-guided engine by `cargo bolero test`.

use std::fmt::Write;

use bolero::{TypeGenerator, check};
use bytes::Bytes;

use crate::domain::value::{Array, Date, Interval, Timestamp, Value};
use crate::value::fixtures::{FUZZ_TIME, Made, Piece, all, cell, chosen, named};
use crate::value::{
    Format, TextOptions, bind, datum, datum_from_text, to_text, to_value, transcode,
};

/// A caller's value. Names of types come from the list that is fuzzed with, or from nowhere.
#[derive(Debug, Clone, TypeGenerator)]
enum Given {
    Null,
    Bool(bool),
    Small(i8),
    Int64(i64),
    Double(f64),
    /// Digits of a numeric: sign, digits before and after the point.
    Numeric(bool, Vec<u8>, Vec<u8>),
    Word(u8),
    Text(String),
    Bytes(Vec<u8>),
    Timestamp(bool, i64, u32),
    Infinite(bool, bool),
    Date(i32),
    Time(i64),
    Interval(i32, i32, i64),
    Uuid(u128),
    Json(String),
    Array(Vec<(u8, i8)>, Vec<Flat>),
    Named(u16, String),
    Opaque(u16, Vec<Piece>),
}

/// An element of an array.
#[derive(Debug, Clone, TypeGenerator)]
enum Flat {
    Null,
    Int64(i16),
    Text(String),
    Double(f64),
}

/// Texts that some type or other takes for more than a text.
const WORDS: [&str; 12] = [
    "NaN",
    "-Infinity",
    "1e400",
    "-0.00",
    "infinity",
    "{1,2}",
    "[1,5)",
    "t",
    "\0",
    "2024-02-29",
    "\\x00",
    "00000000-0000-0000-0000-00000000000",
];

impl Given {
    fn value(self, name: impl Fn(u16) -> String) -> Value {
        let digits = |bytes: &[u8]| -> String {
            bytes.iter().map(|byte| char::from(b'0' + byte % 10)).collect()
        };
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Small(value) => Value::Int64(value.into()),
            Self::Int64(value) => Value::Int64(value),
            Self::Double(value) => Value::Double(value),
            Self::Numeric(negative, whole, rest) => {
                let mut text = String::from(if negative { "-" } else { "" });
                text.push_str(&digits(&whole));
                if !rest.is_empty() {
                    let _ = write!(text, ".{}", digits(&rest));
                }
                Value::Numeric(text)
            }
            Self::Word(at) => {
                let word = WORDS[usize::from(at) % WORDS.len()].to_owned();
                if at < 128 { Value::Numeric(word) } else { Value::Text(word) }
            }
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(Bytes::from(bytes)),
            Self::Timestamp(zoned, seconds, micros) => {
                let point = Timestamp::Finite { seconds, micros };
                if zoned { Value::TimestampTz(point) } else { Value::Timestamp(point) }
            }
            Self::Infinite(date, negative) => match (date, negative) {
                (true, true) => Value::Date(Date::NegInfinity),
                (true, false) => Value::Date(Date::Infinity),
                (false, true) => Value::Interval(Interval::NegInfinity),
                (false, false) => Value::Timestamp(Timestamp::Infinity),
            },
            Self::Date(days) => Value::Date(Date::Finite(days)),
            Self::Time(micros) => Value::Time(micros),
            Self::Interval(months, days, micros) => {
                Value::Interval(Interval::Finite { months, days, micros })
            }
            Self::Uuid(id) => Value::Uuid(uuid::Uuid::from_u128(id).to_string()),
            Self::Json(text) => Value::Json(text),
            Self::Array(dimensions, elements) => Value::Array(Array {
                element_type: "int4".to_owned(),
                dimensions: dimensions
                    .iter()
                    .map(|(n, low)| ((*n).into(), (*low).into()))
                    .collect(),
                elements: elements.into_iter().map(Flat::value).collect(),
            }),
            Self::Named(at, text) => Value::Other { type_name: name(at), text },
            Self::Opaque(at, pieces) => {
                Value::Opaque { type_name: name(at), data: Bytes::from(cell(&pieces)) }
            }
        }
    }
}

impl Flat {
    fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Int64(value) => Value::Int64(value.into()),
            Self::Text(text) => Value::Text(text),
            Self::Double(value) => Value::Double(value),
        }
    }
}

/// NaN is not equal to itself, but it shows as itself.
fn shown(value: &Value) -> String {
    format!("{value:?}")
}

/// Whether segue made its bytes itself, and not the caller.
fn is_opaque(value: &Value) -> bool {
    matches!(value, Value::Opaque { .. })
}

/// A cell is read or refused; what is read can be given as a parameter again, and is then the
/// same value.
#[test]
fn a_cell_comes_back_as_a_parameter() {
    let types = all();
    let options = TextOptions::default();
    check!().with_type::<(u16, Made)>().with_test_time(FUZZ_TIME).for_each(|(at, made)| {
        let ty = chosen(&types, *at);
        let cell = made.cell(ty);
        let text = to_text(ty, &cell);
        let meaning = datum(ty, &cell);
        let Ok(value) = to_value(ty, Some(&cell), &options) else {
            assert!(meaning.is_err(), "{} has a meaning and no value: {cell:?}", ty.name);
            return;
        };
        if let Ok(text) = text {
            let _ = datum_from_text(ty, &text);
        }
        let Ok(parameter) = bind(ty, &value) else { return };
        if parameter.format == Format::Binary {
            let again = to_value(ty, parameter.data.as_deref(), &options).unwrap();
            assert_eq!(shown(&again), shown(&value), "{} from {cell:?}", ty.name);
        }
    });
}

/// A value is bound or refused with the reason and the way out; what is bound as bytes are bytes
/// of that type.
#[test]
fn the_binder_binds_or_says_why_not() {
    let types = all();
    let name = |at: u16| chosen(&types, at).name.clone();
    check!().with_type::<(u16, Given)>().with_test_time(FUZZ_TIME).for_each(|(at, given)| {
        let (ty, value) = (chosen(&types, *at), given.clone().value(name));
        match bind(ty, &value) {
            Ok(parameter) => {
                let Some(data) = parameter.data else {
                    assert_eq!(value, Value::Null);
                    return;
                };
                if parameter.format == Format::Binary && !is_opaque(&value) {
                    let read = to_value(ty, Some(&data), &TextOptions::default());
                    assert!(read.is_ok(), "{value:?} as {}: {data:?}: {read:?}", ty.name);
                }
            }
            Err(error) => {
                let said = error.to_string();
                assert!(!said.is_empty() && said.len() < 2_000, "{} bytes: {said}", said.len());
            }
        }
    });
}

/// A cell of one side as a parameter of the other side's type: bytes of that type, or a reason.
#[test]
fn a_cell_of_one_side_fits_the_other_or_is_refused() {
    let types = all();
    // Few of them go into any type; these are what the others go into.
    let targets = [
        "int2",
        "int4",
        "int8",
        "oid",
        "numeric",
        "float4",
        "float8",
        "text",
        "bpchar",
        "json",
        "jsonb",
        "timestamptz",
        "_int8",
        "_text",
        "_numeric",
    ];
    let targets = targets.map(named);
    check!().with_type::<(u16, Made)>().with_test_time(FUZZ_TIME).for_each(|(at, made)| {
        let from = chosen(&types, *at);
        let cell = made.cell(from);
        let was = to_value(from, Some(&cell), &TextOptions::default());
        for to in targets.iter().chain([from]) {
            let Ok(parameter) = transcode(from, to, &cell) else { continue };
            let binary = |_: &Bytes| parameter.format == Format::Binary;
            let Some(data) = parameter.data.clone().filter(binary) else { continue };
            // What the source's own type refuses is not made good by the target's.
            let is = to_value(to, Some(&data), &TextOptions::default());
            assert!(was.is_err() || is.is_ok(), "{} to {}: {was:?}, {is:?}", from.name, to.name);
        }
    });
}
