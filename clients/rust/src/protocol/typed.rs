//! Values as the protocol's typed ones, both ways.

use crate::decode::Broken;
use crate::protocol as proto;
use crate::protocol::value::Kind;
use crate::time::{Date, Interval, Time, Timestamp};
use crate::value::{Array, Dimension, Json, Numeric, Value};

impl From<Value> for proto::Value {
    fn from(value: Value) -> Self {
        Self { kind: Some(kind_of(value)) }
    }
}

fn kind_of(value: Value) -> Kind {
    match value {
        Value::Null => Kind::Null(0),
        Value::Bool(value) => Kind::Bool(value),
        Value::Int(number) => Kind::Int64(number),
        Value::Float(number) => Kind::Double(number),
        Value::Numeric(digits) => Kind::Numeric(digits.0),
        Value::Text(text) => Kind::Text(text),
        Value::Bytes(bytes) => Kind::Bytes(bytes),
        Value::Timestamp(point) => Kind::Timestamp(point.into()),
        Value::TimestampTz(point) => Kind::Timestamptz(point.into()),
        Value::Date(date) => Kind::Date(date.into()),
        Value::Time(time) => Kind::Time(time.0),
        Value::Interval(interval) => Kind::Interval(interval.into()),
        Value::Uuid(uuid) => Kind::Uuid(uuid.to_string()),
        Value::Json(json) => Kind::Json(json.0),
        Value::Array(array) => Kind::Array(proto::Array {
            element_type: array.element_type,
            dimensions: array
                .dimensions
                .iter()
                .map(|it| proto::Dimension { length: it.length, lower_bound: it.lower_bound })
                .collect(),
            elements: array.elements.into_iter().map(Into::into).collect(),
        }),
        Value::Other { type_name, text } => Kind::Other(proto::Other { type_name, text }),
        Value::Opaque { type_name, data } => Kind::Opaque(proto::Opaque { type_name, data }),
    }
}

/// Reads a typed value.
pub(crate) fn value_of(value: proto::Value) -> Result<Value, Broken> {
    let kind = value.kind.ok_or("a value has no kind")?;
    Ok(match kind {
        Kind::Null(_) => Value::Null,
        Kind::Bool(value) => Value::Bool(value),
        Kind::Int64(number) => Value::Int(number),
        Kind::Double(number) => Value::Float(number),
        Kind::Numeric(digits) => Value::Numeric(Numeric(digits)),
        Kind::Text(text) => Value::Text(text),
        Kind::Bytes(bytes) => Value::Bytes(bytes),
        Kind::Timestamp(point) => Value::Timestamp(point.into()),
        Kind::Timestamptz(point) => Value::TimestampTz(point.into()),
        Kind::Date(date) => Value::Date(date.into()),
        Kind::Time(micros) => {
            Value::Time(Time::from_micros(micros).ok_or("a time is out of range")?)
        }
        Kind::Interval(interval) => Value::Interval(interval.into()),
        Kind::Uuid(text) => Value::Uuid(text.parse().map_err(|_| "a uuid cannot be read")?),
        Kind::Json(document) => Value::Json(Json(document)),
        Kind::Array(array) => Value::Array(Array {
            element_type: array.element_type,
            dimensions: array
                .dimensions
                .iter()
                .map(|it| Dimension { length: it.length, lower_bound: it.lower_bound })
                .collect(),
            elements: array.elements.into_iter().map(value_of).collect::<Result<_, _>>()?,
        }),
        Kind::Other(other) => Value::Other { type_name: other.type_name, text: other.text },
        Kind::Opaque(opaque) => Value::Opaque { type_name: opaque.type_name, data: opaque.data },
    })
}

const POSITIVE: i32 = proto::Infinity::Positive as i32;
const NEGATIVE: i32 = proto::Infinity::Negative as i32;

impl From<Timestamp> for proto::Timestamp {
    fn from(point: Timestamp) -> Self {
        match point {
            Timestamp::Finite { seconds, micros } => Self { seconds, micros, infinity: 0 },
            Timestamp::Infinity => Self { infinity: POSITIVE, ..Self::default() },
            Timestamp::NegInfinity => Self { infinity: NEGATIVE, ..Self::default() },
        }
    }
}

impl From<proto::Timestamp> for Timestamp {
    fn from(point: proto::Timestamp) -> Self {
        match point.infinity {
            POSITIVE => Self::Infinity,
            NEGATIVE => Self::NegInfinity,
            _ => Self::Finite { seconds: point.seconds, micros: point.micros },
        }
    }
}

impl From<Date> for proto::Date {
    fn from(date: Date) -> Self {
        match date {
            Date::Finite(days) => Self { days, infinity: 0 },
            Date::Infinity => Self { days: 0, infinity: POSITIVE },
            Date::NegInfinity => Self { days: 0, infinity: NEGATIVE },
        }
    }
}

impl From<proto::Date> for Date {
    fn from(date: proto::Date) -> Self {
        match date.infinity {
            POSITIVE => Self::Infinity,
            NEGATIVE => Self::NegInfinity,
            _ => Self::Finite(date.days),
        }
    }
}

impl From<Interval> for proto::Interval {
    fn from(interval: Interval) -> Self {
        match interval {
            Interval::Finite { months, days, micros } => Self { months, days, micros, infinity: 0 },
            Interval::Infinity => Self { infinity: POSITIVE, ..Self::default() },
            Interval::NegInfinity => Self { infinity: NEGATIVE, ..Self::default() },
        }
    }
}

impl From<proto::Interval> for Interval {
    fn from(interval: proto::Interval) -> Self {
        match interval.infinity {
            POSITIVE => Self::Infinity,
            NEGATIVE => Self::NegInfinity,
            _ => Self::Finite {
                months: interval.months,
                days: interval.days,
                micros: interval.micros,
            },
        }
    }
}
