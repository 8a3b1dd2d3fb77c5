//! Single cases: faults in their words, and what goes into what.

use bytes::Bytes;

use crate::domain::value::{Array, Interval, Timestamp, Value};
use crate::value::fixtures::{array, made, mood, named};
use crate::value::*;

fn bound(ty: &str, value: &Value) -> Parameter {
    bind(&named(ty), value).expect("it binds")
}

fn refused(ty: &str, value: &Value) -> String {
    bind(&named(ty), value).expect_err("it does not fit").message
}

#[test]
fn numbers_out_of_range_are_named_with_their_type_and_range() {
    assert_eq!(
        refused("int4", &Value::Int64(1 << 40)),
        "1099511627776 is out of range for int4 (-2147483648 to 2147483647)"
    );
    assert_eq!(refused("oid", &Value::Int64(-1)), "-1 is out of range for oid (0 to 4294967295)");
    assert_eq!(
        refused("int2", &Value::Numeric("4e4".into())),
        "40000 is out of range for int2 (-32768 to 32767)"
    );
    assert!(
        refused("int4", &Value::Numeric("1.5".into())).starts_with("1.5 is not a whole number")
    );
    assert!(refused("int8", &Value::Numeric("NaN".into())).contains("cannot be bound"));
    assert_eq!(
        refused("float8", &Value::Int64((1 << 53) + 1)),
        "9007199254740993 has no exact float8"
    );
    assert_eq!(refused("float4", &Value::Double(1e300)).split(' ').next_back(), Some("float4"));
    assert!(refused("float8", &Value::Numeric("1e400".into())).contains("out of range"));
    assert!(refused("float8", &Value::Numeric("1e-400".into())).contains("out of range"));
}

#[test]
fn a_kind_that_does_not_fit_is_said_plainly() {
    let error = bind(&named("bool"), &Value::Text("yes".into())).unwrap_err();
    assert_eq!(error.message, "text \"yes\" cannot be bound to bool");
    assert!(error.suggestion.starts_with("give a bool"));
    for (ty, value) in [
        ("int4", Value::Text("1".into())),
        ("bytea", Value::Text("x".into())),
        ("text", Value::Int64(1)),
        ("int4", Value::Double(1.0)),
        ("timestamptz", Value::Timestamp(Timestamp::Infinity)),
        ("numeric", Value::Double(0.1)),
        ("text", Value::Bool(true)),
    ] {
        assert!(refused(ty, &value).contains("cannot be bound to"), "{ty}");
    }
}

#[test]
fn texts_go_where_the_server_reads_texts() {
    assert_eq!(bound("text", &Value::Text("a".into())), Parameter::binary(&b"a"[..]));
    for ty in ["uuid", "timestamptz", "inet", "jsonb", "money", "interval", "_int4"] {
        assert_eq!(bound(ty, &Value::Text("a".into())), Parameter::text(&b"a"[..]));
    }
    assert!(refused("text", &Value::Text("a\0b".into())).contains("zero byte at 1"));
    assert!(refused("jsonb", &Value::Json("\0".into())).contains("zero byte"));
}

#[test]
fn named_types_must_be_the_same() {
    let other = Value::Other { type_name: "inet".into(), text: "::1".into() };
    assert_eq!(bound("inet", &other), Parameter::text(&b"::1"[..]));
    assert!(refused("cidr", &other).contains("a value of type inet"));
    let opaque = Value::Opaque { type_name: "vector".into(), data: Bytes::from_static(&[1]) };
    let vector = made(50_000, "vector", crate::domain::pg_type::TypeKind::Simple);
    assert_eq!(bind(&vector, &opaque), Ok(Parameter::binary(&[1u8][..])));
    assert!(refused("text", &opaque).contains("a value of type vector"));
}

#[test]
fn arrays_say_what_is_wrong_with_them() {
    let ints = |dimensions: Vec<(u32, i32)>, elements: Vec<Value>| {
        Value::Array(Array { element_type: "int4".into(), dimensions, elements })
    };
    assert!(refused("_int4", &ints(vec![(2, 1)], vec![Value::Null])).contains("has 1 elements"));
    assert!(refused("_int4", &ints(vec![(1, i32::MAX)], vec![Value::Null])).contains("bounds"));
    let out_of_range = refused("_int2", &ints(vec![], vec![Value::Int64(1 << 20)]));
    assert!(out_of_range.starts_with("element 0 of the array: 1048576 is out of range"));
    assert!(refused("int4", &ints(vec![], vec![])).contains("an array of int4"));
    let nested = ints(vec![], vec![ints(vec![], vec![])]);
    assert!(refused("_int4", &nested).contains("is an array"));
}

#[test]
fn an_array_with_texts_goes_as_text() {
    let value = Value::Array(Array {
        element_type: "interval".into(),
        dimensions: vec![(3, 1)],
        elements: vec![
            Value::Interval(Interval::Infinity),
            Value::Interval(Interval::Finite { months: 0, days: 1, micros: 0 }),
            Value::Null,
        ],
    });
    assert_eq!(bound("_interval", &value), Parameter::text(&b"{infinity,\"1 day\",NULL}"[..]));
}

#[test]
fn cells_go_over_to_the_other_sides_type() {
    let cell = 7i32.to_be_bytes();
    let over = |from: &str, to: &str, cell: &[u8]| transcode(&named(from), &named(to), cell);
    assert_eq!(over("int4", "int8", &cell), Ok(Parameter::binary(7i64.to_be_bytes().to_vec())));
    assert_eq!(over("int4", "text", &cell), Ok(Parameter::text(&b"7"[..])));
    assert_eq!(over("json", "jsonb", b"{}"), Ok(Parameter::binary(&b"\x01{}"[..])));
    assert_eq!(over("jsonb", "json", b"\x01{}"), Ok(Parameter::binary(&b"{}"[..])));
    assert_eq!(over("bpchar", "text", b"ab  "), Ok(Parameter::binary(&b"ab"[..])));
    assert_eq!(over("varchar", "text", b"ab  "), Ok(Parameter::binary(&b"ab  "[..])));
    assert!(over("int8", "int4", &(1i64 << 40).to_be_bytes()).is_err());
    let money = 123i64.to_be_bytes();
    assert!(over("money", "numeric", &money).is_err());
    let options = TextOptions { money: Some(MoneyStyle::dollars()) };
    let numeric = transcode_with(&named("money"), &named("numeric"), &money, &options).unwrap();
    assert_eq!(to_text(&named("numeric"), &numeric.data.unwrap()).unwrap(), "1.23");
}

#[test]
fn arrays_get_the_object_ids_of_the_other_side() {
    let (here, there) = (array(&mood(50_000)), array(&mood(60_000)));
    let value = Value::Array(Array {
        element_type: "mood".into(),
        dimensions: vec![(2, 1)],
        elements: vec![Value::Text("sad".into()), Value::Null],
    });
    let cell = bind(&here, &value).unwrap().data.unwrap();
    let over = transcode(&here, &there, &cell).unwrap().data.unwrap();
    assert_eq!(over[8..12], 60_000u32.to_be_bytes());
    assert_eq!(over[12..], cell[12..]);
}

#[test]
fn object_ids_of_one_database_do_not_go_to_another() {
    let simple = crate::domain::pg_type::TypeKind::Simple;
    let regclass = made(2205, "regclass", simple.clone());
    assert!(transcode(&regclass, &regclass, &[0, 0, 4, 0]).is_err());
    let (here, there) = (made(50_000, "vector", simple.clone()), made(60_000, "vector", simple));
    assert_eq!(transcode(&here, &there, &[1]), Ok(Parameter::binary(&[1u8][..])));
}

#[test]
fn malformed_cells_say_where() {
    let error = to_text(&named("int4"), &[0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "malformed int4 at byte 0: the cell is too short");
    let mut cell = bound(
        "_text",
        &Value::Array(Array {
            element_type: "text".into(),
            dimensions: vec![(1, 1)],
            elements: vec![Value::Text("ab".into())],
        }),
    )
    .data
    .unwrap()
    .to_vec();
    *cell.last_mut().unwrap() = 0xFF;
    let error = to_text(&named("_text"), &cell).unwrap_err();
    assert_eq!(error.to_string(), "malformed text at byte 25: the text is not UTF-8");
}

#[test]
fn money_is_only_written_where_its_style_is_known() {
    let cell = (-123_456_789i64).to_be_bytes();
    assert!(to_text(&named("money"), &cell).is_err());
    let style = MoneyStyle::from_sample("$1,234,567.89 -$1,234,567.89");
    assert!(style.is_some());
    let options = TextOptions { money: style };
    assert_eq!(to_text_with(&named("money"), &cell, &options).unwrap(), "-$1,234,567.89");
    assert_eq!(MoneyStyle::from_sample("1.234.567,89 € -1.234.567,89 €"), None);
    assert_eq!(MoneyStyle::dollars().text(i64::MIN), "-$92,233,720,368,547,758.08");
    assert_eq!(MoneyStyle::dollars().text(5), "$0.05");
}
