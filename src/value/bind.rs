//! From a caller's value to a parameter of the type that the server prepared.
//!
//! A value goes in exactly or not at all. The one rounding is a double into `float4`, as
//! PostgreSQL's own cast does it; what would become infinite or zero is refused.

use bytes::{BufMut, Bytes, BytesMut};

use crate::domain::pg_type::PgType;
use crate::domain::value::{Date, Interval, Timestamp, Value};
use crate::value::bind_array;
use crate::value::bind_number::{bind_double, bind_int64, bind_numeric};
use crate::value::class::{Class, Scalar};
use crate::value::datetime;
use crate::value::error::BindError;
use crate::value::parameter::Parameter;
use crate::value::text::JSONB_VERSION;

/// Longest part of a value that an error repeats.
const SHOWN_MAX: usize = 60;

/// Makes a parameter of `ty` from a value.
///
/// # Errors
///
/// [`BindError`] where the value does not fit: it names the value and the type.
pub fn bind(ty: &PgType, value: &Value) -> Result<Parameter, BindError> {
    let class = Class::of(ty);
    let scalar = class.scalar();
    match value {
        Value::Null => Ok(Parameter::NULL),
        Value::Bool(value) if scalar == Some(Scalar::Bool) => {
            Ok(Parameter::binary(Bytes::copy_from_slice(&[u8::from(*value)])))
        }
        Value::Int64(number) => bind_int64(ty, scalar, *number, value),
        Value::Double(number) => bind_double(ty, scalar, *number, value),
        Value::Numeric(text) => bind_numeric(ty, scalar, text, value),
        Value::Text(text) => bind_text(ty, class, text, value),
        Value::Bytes(bytes) if scalar == Some(Scalar::Bytea) => {
            Ok(Parameter::binary(bytes.clone()))
        }
        Value::Timestamp(point) if scalar == Some(Scalar::Timestamp) => bind_timestamp(ty, *point),
        Value::TimestampTz(point) if scalar == Some(Scalar::TimestampTz) => {
            bind_timestamp(ty, *point)
        }
        Value::Date(date) if scalar == Some(Scalar::Date) => bind_date(*date),
        Value::Time(micros) if scalar == Some(Scalar::Time) => bind_time(*micros),
        Value::Interval(interval) if scalar == Some(Scalar::Interval) => bind_interval(*interval),
        Value::Uuid(text) if scalar == Some(Scalar::Uuid) => bind_uuid(text),
        Value::Json(text) => bind_json(ty, scalar, text, value),
        Value::Array(array) => match class {
            Class::Array(element) => bind_array::bind_array(element, array),
            _ => Err(mismatch(ty, value)),
        },
        Value::Other { type_name, text } if is_named(ty, type_name) => {
            Ok(Parameter::text(checked_text(ty, text)?))
        }
        Value::Opaque { type_name, data } if is_named(ty, type_name) => {
            Ok(Parameter::binary(data.clone()))
        }
        _ => Err(mismatch(ty, value)),
    }
}

fn is_named(ty: &PgType, type_name: &str) -> bool {
    ty.name == type_name || ty.base().name == type_name
}

fn bind_text(
    ty: &PgType,
    class: Class<'_>,
    text: &str,
    value: &Value,
) -> Result<Parameter, BindError> {
    match class {
        Class::Scalar(
            Scalar::Bool
            | Scalar::Int2
            | Scalar::Int4
            | Scalar::Int8
            | Scalar::Oid
            | Scalar::Float4
            | Scalar::Float8
            | Scalar::Numeric
            | Scalar::Bytea,
        ) => Err(mismatch(ty, value)),
        // These have their text as their binary form, so that they go into binary arrays.
        // `xml` does not: its receive function looks at the encoding declaration.
        Class::Scalar(scalar) if scalar.is_text() && scalar != Scalar::Xml => {
            Ok(Parameter::binary(checked_text(ty, text)?))
        }
        Class::Enum => Ok(Parameter::binary(checked_text(ty, text)?)),
        _ => Ok(Parameter::text(checked_text(ty, text)?)),
    }
}

fn bind_json(
    ty: &PgType,
    scalar: Option<Scalar>,
    text: &str,
    value: &Value,
) -> Result<Parameter, BindError> {
    match scalar {
        Some(Scalar::Json) => Ok(Parameter::binary(checked_text(ty, text)?)),
        Some(Scalar::Jsonb) => {
            let text = checked_text(ty, text)?;
            let mut out = BytesMut::with_capacity(text.len() + 1);
            out.put_u8(JSONB_VERSION);
            out.put_slice(&text);
            Ok(Parameter::binary(out.freeze()))
        }
        _ => Err(mismatch(ty, value)),
    }
}

/// PostgreSQL's texts have no zero bytes, and its input functions would cut there.
fn checked_text(ty: &PgType, text: &str) -> Result<Bytes, BindError> {
    match text.bytes().position(|byte| byte == 0) {
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Some(place) => Err(BindError::new(
            format!("the value for {} has a zero byte at {place}, which no text may have", ty.name),
            "remove it, or keep such values in a bytea column",
        )),
    }
}

fn bind_timestamp(ty: &PgType, point: Timestamp) -> Result<Parameter, BindError> {
    let micros = datetime::timestamp_micros(point).ok_or_else(|| {
        let shown = match point {
            Timestamp::Finite { seconds, micros } => {
                format!("{seconds} seconds and {micros} microseconds since 1970")
            }
            Timestamp::Infinity | Timestamp::NegInfinity => "infinity".to_owned(),
        };
        BindError::new(
            format!("{shown} is out of range for {} (4714-11-24 BC to 294276-12-31)", ty.name),
            "micros run from 0 to 999999; use infinity for a time without end",
        )
    })?;
    Ok(Parameter::binary(Bytes::copy_from_slice(&micros.to_be_bytes())))
}

fn bind_date(date: Date) -> Result<Parameter, BindError> {
    let days = datetime::date_days(date).ok_or_else(|| {
        let shown = match date {
            Date::Finite(days) => format!("{days} days since 1970"),
            Date::Infinity | Date::NegInfinity => "infinity".to_owned(),
        };
        BindError::new(
            format!("{shown} is out of range for date (4714-11-24 BC to 5874897-12-31)"),
            "use infinity for a date without end",
        )
    })?;
    Ok(Parameter::binary(Bytes::copy_from_slice(&days.to_be_bytes())))
}

fn bind_time(micros: i64) -> Result<Parameter, BindError> {
    if !(0..=datetime::MICROS_PER_DAY).contains(&micros) {
        return Err(BindError::new(
            format!("{micros} is out of range for time (0 to {})", datetime::MICROS_PER_DAY),
            "give microseconds since midnight",
        ));
    }
    Ok(Parameter::binary(Bytes::copy_from_slice(&micros.to_be_bytes())))
}

fn bind_interval(interval: Interval) -> Result<Parameter, BindError> {
    let (months, days, micros) = match interval {
        // As text a server older than 17 refuses them; as bytes it would take them for finite.
        Interval::Infinity => return Ok(Parameter::text(Bytes::from_static(b"infinity"))),
        Interval::NegInfinity => return Ok(Parameter::text(Bytes::from_static(b"-infinity"))),
        Interval::Finite { months, days, micros } => (months, days, micros),
    };
    if !matches!(datetime::interval(micros, days, months), Interval::Finite { .. }) {
        return Err(BindError::new(
            format!(
                "{months} months {days} days {micros} microseconds stands for an infinite interval"
            ),
            "give it as infinite",
        ));
    }
    let mut out = BytesMut::with_capacity(16);
    out.put_i64(micros);
    out.put_i32(days);
    out.put_i32(months);
    Ok(Parameter::binary(out.freeze()))
}

fn bind_uuid(text: &str) -> Result<Parameter, BindError> {
    let id = uuid_bytes(text).ok_or_else(|| {
        BindError::new(
            format!("{:?} is not a uuid", shortened(text)),
            "give 32 hexadecimal digits, with hyphens after every fourth or none",
        )
    })?;
    Ok(Parameter::binary(Bytes::copy_from_slice(&id)))
}

/// Reads what PostgreSQL reads: braces around, a hyphen after any group of four digits.
pub(crate) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}')?,
        None => text,
    };
    let mut bytes = [0; 16];
    let mut rest = inner.as_bytes();
    for (index, byte) in bytes.iter_mut().enumerate() {
        let (pair, after) = rest.split_at_checked(2)?;
        let [high, low] = pair else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(*high)? << 4 | digit(*low)?;
        rest = after;
        if index % 2 == 1 && index < 15 {
            rest = rest.strip_prefix(b"-").unwrap_or(rest);
        }
    }
    rest.is_empty().then_some(bytes)
}

/// The fault of a value of one kind for a type of another.
pub(crate) fn mismatch(ty: &PgType, value: &Value) -> BindError {
    let given = match value {
        Value::Null => "NULL".to_owned(),
        Value::Bool(value) => format!("bool {value}"),
        Value::Int64(value) => format!("int64 {value}"),
        Value::Double(value) => format!("double {value}"),
        Value::Numeric(text) => format!("numeric {}", shortened(text)),
        Value::Text(text) => format!("text {:?}", shortened(text)),
        Value::Bytes(bytes) => format!("{} bytes", bytes.len()),
        Value::Timestamp(_) => "a timestamp without zone".to_owned(),
        Value::TimestampTz(_) => "a timestamp with zone".to_owned(),
        Value::Date(_) => "a date".to_owned(),
        Value::Time(_) => "a time".to_owned(),
        Value::Interval(_) => "an interval".to_owned(),
        Value::Uuid(text) => format!("uuid {}", shortened(text)),
        Value::Json(text) => format!("json {}", shortened(text)),
        Value::Array(array) => format!("an array of {}", array.element_type),
        Value::Other { type_name, .. } | Value::Opaque { type_name, .. } => {
            format!("a value of type {type_name}")
        }
    };
    BindError::new(format!("{given} cannot be bound to {}", ty.name), wanted(ty))
}

/// What a type takes.
fn wanted(ty: &PgType) -> String {
    let kind = match Class::of(ty) {
        Class::Scalar(scalar) => match scalar {
            Scalar::Bool => "a bool",
            Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid => "an int64",
            Scalar::Float4 | Scalar::Float8 => "a double",
            Scalar::Numeric => "a numeric (exact digits) or an int64",
            Scalar::Bytea => "bytes",
            Scalar::Timestamp => "a timestamp, or a text that the server reads",
            Scalar::TimestampTz => "a timestamptz, or a text that the server reads",
            Scalar::Date => "a date, or a text that the server reads",
            Scalar::Time => "a time, or a text that the server reads",
            Scalar::Interval => "an interval, or a text that the server reads",
            Scalar::Uuid => "a uuid or a text",
            Scalar::Json | Scalar::Jsonb => "a json or a text",
            _ => "a text",
        },
        Class::Array(_) => "an array, or a text that the server reads",
        _ => "a text that the server reads",
    };
    format!("give {kind}, or cast the parameter in the statement to the type that it has")
}

/// The begin of a text, for errors.
pub(crate) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
