//! What holds for all values and all bytes.

use bytes::Bytes;
use proptest::prelude::*;

use crate::domain::value::{Array, Date, Interval, Timestamp, Value};
use crate::value::datetime::{self, DATE_END, DATE_MIN, TIMESTAMP_END, TIMESTAMP_MIN};
use crate::value::fixtures::{self, all, named};
use crate::value::{
    Decimal, TextOptions, bind, datum, datum_from_text, datum_with, parse_json, to_text_with,
    to_value, transcode_with,
};

/// Each case of the wider properties reads some hundred types.
const CASES: u32 = 64;

fn options() -> TextOptions {
    TextOptions { money: Some(crate::value::MoneyStyle::dollars()) }
}

/// Reads the bytes as every type, in every way. That it comes back is the test.
fn read_as_everything(cell: &[u8]) {
    let (types, options) = (all(), options());
    let targets = [named("text"), named("int4"), named("numeric"), named("_text"), named("_int8")];
    for ty in &types {
        let _ = to_value(ty, Some(cell), &options);
        let _ = datum_with(ty, cell, &options);
        let _ = to_text_with(ty, cell, &options);
        let _ = transcode_with(ty, ty, cell, &options);
        for target in &targets {
            let _ = transcode_with(ty, target, cell, &options);
        }
    }
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        1 => Just(Timestamp::Infinity),
        1 => Just(Timestamp::NegInfinity),
        8 => (TIMESTAMP_MIN..TIMESTAMP_END).prop_map(datetime::timestamp),
    ]
}

fn date() -> impl Strategy<Value = Date> {
    prop_oneof![
        1 => Just(Date::Infinity),
        1 => Just(Date::NegInfinity),
        8 => (DATE_MIN..DATE_END).prop_map(|days| datetime::date(days).unwrap()),
    ]
}

fn numeric() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => prop_oneof![Just("NaN"), Just("Infinity"), Just("-Infinity")].prop_map(str::to_owned),
        9 => ("-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?")
            .prop_filter("zero has no sign", |text| !text.starts_with('-')
                || text.contains(|c: char| ('1'..='9').contains(&c))),
    ]
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

/// Values whose own type they come back from, with that type's name.
fn scalar() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        any::<bool>().prop_map(|v| ("bool", Value::Bool(v))),
        any::<i16>().prop_map(|v| ("int2", Value::Int64(v.into()))),
        any::<i32>().prop_map(|v| ("int4", Value::Int64(v.into()))),
        any::<i64>().prop_map(|v| ("int8", Value::Int64(v))),
        any::<u32>().prop_map(|v| ("oid", Value::Int64(v.into()))),
        prop::num::f32::ANY
            .prop_filter("NaN", |v| !v.is_nan())
            .prop_map(|v| ("float4", Value::Double(v.into()))),
        prop::num::f64::ANY
            .prop_filter("NaN", |v| !v.is_nan())
            .prop_map(|v| ("float8", Value::Double(v))),
        numeric().prop_map(|v| ("numeric", Value::Numeric(v))),
        text().prop_map(|v| ("text", Value::Text(v))),
        text().prop_map(|v| ("varchar", Value::Text(v))),
        any::<Vec<u8>>().prop_map(|v| ("bytea", Value::Bytes(Bytes::from(v)))),
        timestamp().prop_map(|v| ("timestamp", Value::Timestamp(v))),
        timestamp().prop_map(|v| ("timestamptz", Value::TimestampTz(v))),
        date().prop_map(|v| ("date", Value::Date(v))),
        (0..=datetime::MICROS_PER_DAY).prop_map(|v| ("time", Value::Time(v))),
        (any::<i32>(), any::<i32>(), -i64::MAX..i64::MAX).prop_map(|(months, days, micros)| {
            ("interval", Value::Interval(Interval::Finite { months, days, micros }))
        }),
        any::<u128>().prop_map(|v| ("uuid", Value::Uuid(uuid::Uuid::from_u128(v).to_string()))),
        text().prop_map(|v| ("json", Value::Json(v))),
        text().prop_map(|v| ("jsonb", Value::Json(v))),
    ]
}

fn round_trip(ty: &crate::domain::pg_type::PgType, value: &Value) -> Value {
    let parameter = bind(ty, value).expect("it binds");
    assert_eq!(parameter.format, crate::value::Format::Binary);
    to_value(ty, parameter.data.as_deref(), &TextOptions::default()).expect("it decodes")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(cell in prop::collection::vec(any::<u8>(), 0..80)) {
        read_as_everything(&cell);
    }

    /// Small numbers pass for counts and lengths, so that the readers get further.
    #[test]
    fn no_plausible_bytes_make_it_panic(words in prop::collection::vec(
        prop_oneof![0u32..6, Just(u32::MAX), Just(0x8000_0000), Just(23), any::<u32>()], 0..24,
    ), cut in 0usize..4) {
        let mut cell: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
        cell.truncate(cell.len().saturating_sub(cut));
        read_as_everything(&cell);
    }

    #[test]
    fn a_value_comes_back_as_it_was((name, value) in scalar()) {
        let ty = named(name);
        prop_assert_eq!(round_trip(&ty, &value), value);
    }

    #[test]
    fn an_array_comes_back_as_it_was(
        (name, value) in scalar(),
        (rows, columns) in (1u32..4, 1u32..4),
        lower_bound in -5i32..5,
    ) {
        let mut elements = vec![value; (rows * columns) as usize];
        elements[0] = Value::Null;
        let array = Value::Array(Array {
            element_type: name.to_owned(),
            dimensions: vec![(rows, lower_bound), (columns, 1)],
            elements,
        });
        let ty = fixtures::array(&named(name));
        prop_assert_eq!(round_trip(&ty, &array), array);
    }

    #[test]
    fn broken_cells_do_not_make_it_panic(
        (name, value) in scalar(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let parameter = bind(&named(name), &value).unwrap();
        let mut cell = parameter.data.unwrap().to_vec();
        if !cell.is_empty() {
            let at = at.index(cell.len());
            cell[at] = byte;
        }
        read_as_everything(&cell);
    }

    #[test]
    fn binding_anything_to_anything_does_not_panic((_, value) in scalar()) {
        for ty in all() {
            let _ = bind(&ty, &value);
        }
    }

    #[test]
    fn text_and_binary_mean_the_same((name, value) in scalar()) {
        let ty = named(name);
        let parameter = bind(&ty, &value).unwrap();
        let cell = parameter.data.unwrap();
        let text = to_text_with(&ty, &cell, &options()).unwrap();
        let from_text = datum_from_text(&ty, &text);
        if !matches!(from_text, crate::value::Datum::Other { .. }) {
            prop_assert_eq!(datum(&ty, &cell).unwrap(), from_text);
        }
    }

    #[test]
    fn any_text_is_read_without_panic(text in any::<String>(), digits in "[-+]?[0-9]{0,5}[.]?[0-9]{0,5}([eE][-+]?[0-9]{0,20})?") {
        let _ = parse_json(&text);
        for text in [&text, &digits] {
            let _ = Decimal::parse(text);
            for ty in all() {
                let _ = datum_from_text(&ty, text);
                let _ = bind(&ty, &Value::Numeric(text.clone()));
                let _ = bind(&ty, &Value::Uuid(text.clone()));
            }
        }
    }
}
