//! A cell of one side as a parameter of the other side's type.
//!
//! Object ids of user-defined types differ between databases and stand inside the binary
//! form of arrays and rows, so that arrays are taken apart and rows go as text.

use bytes::Bytes;

use crate::domain::pg_type::{PgType, TypeKind};
use crate::domain::value::Value;
use crate::value::array::ArrayCell;
use crate::value::bind::bind;
use crate::value::bind_array::assemble;
use crate::value::class::{Class, Scalar, holds_object_id};
use crate::value::error::{DecodeError, TranscodeError};
use crate::value::float;
use crate::value::numeric::NumericCell;
use crate::value::options::{MoneyStyle, TextOptions};
use crate::value::parameter::Parameter;
use crate::value::reader::Reader;
use crate::value::text::{integer, range_bound, to_text_with, versioned};

/// Makes a parameter of type `to` from a cell of type `from`.
///
/// `timestamp` and `timestamptz` become one another as UTC. What has no rule of its own
/// goes as text, for the server to read.
///
/// # Errors
///
/// [`TranscodeError`] where the cell is malformed, of a type that segue does not know
/// (unless both types have the same name), or out of the other type's range.
pub fn transcode(from: &PgType, to: &PgType, cell: &[u8]) -> Result<Parameter, TranscodeError> {
    transcode_with(from, to, cell, &TextOptions::default())
}

/// As [`transcode`], with what is known of the server that the cell comes from.
///
/// # Errors
///
/// As [`transcode`].
pub fn transcode_with(
    from: &PgType,
    to: &PgType,
    cell: &[u8],
    options: &TextOptions,
) -> Result<Parameter, TranscodeError> {
    let (from, to) = (from.base(), to.base());
    match (Class::of(from), Class::of(to)) {
        (Class::Scalar(a), Class::Scalar(b)) => scalar(a, b, (from, to), cell, options),
        (Class::Enum, Class::Enum) => Ok(as_it_is(cell)),
        (Class::Enum, Class::Scalar(scalar)) if takes_plain_text(scalar) => Ok(as_it_is(cell)),
        (Class::Array(a), Class::Array(b)) => array(from, (a, b), cell, options),
        (Class::Range(a), Class::Range(b)) if same_scalar(a, b) => Ok(as_it_is(cell)),
        (Class::Multirange(a), Class::Multirange(b))
            if same_scalar(range_bound(a), range_bound(b)) =>
        {
            Ok(as_it_is(cell))
        }
        (Class::Unknown, Class::Unknown) if from.name == to.name && !holds_object_id(from) => {
            Ok(as_it_is(cell))
        }
        _ => as_text(from, cell, options),
    }
}

fn as_it_is(cell: &[u8]) -> Parameter {
    Parameter::binary(Bytes::copy_from_slice(cell))
}

fn as_text(from: &PgType, cell: &[u8], options: &TextOptions) -> Result<Parameter, TranscodeError> {
    Ok(Parameter::text(Bytes::from(to_text_with(from, cell, options)?)))
}

fn same_scalar(a: &PgType, b: &PgType) -> bool {
    let scalar = Class::of(a).scalar();
    scalar.is_some() && scalar == Class::of(b).scalar()
}

fn takes_plain_text(scalar: Scalar) -> bool {
    scalar.is_text() && scalar != Scalar::Xml
}

fn is_integer(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid)
}

fn is_float(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Float4 | Scalar::Float8)
}

fn is_number(scalar: Scalar) -> bool {
    is_integer(scalar) || is_float(scalar) || scalar == Scalar::Numeric
}

fn scalar(
    a: Scalar,
    b: Scalar,
    (from, to): (&PgType, &PgType),
    cell: &[u8],
    options: &TextOptions,
) -> Result<Parameter, TranscodeError> {
    let mut reader = Reader::new(&from.name, cell);
    match (a, b) {
        // Their receive functions refuse the empty values that their send functions send.
        (Scalar::TsQuery, Scalar::TsQuery)
        | (Scalar::Int2Vector, Scalar::Int2Vector)
        | (Scalar::OidVector, Scalar::OidVector) => as_text(from, cell, options),
        _ if a == b => Ok(as_it_is(cell)),
        (Scalar::Timestamp, Scalar::TimestampTz) | (Scalar::TimestampTz, Scalar::Timestamp) => {
            Ok(as_it_is(cell))
        }
        (Scalar::Json, Scalar::Jsonb) => {
            Ok(bind(to, &Value::Json(reader.rest_utf8()?.to_owned()))?)
        }
        (Scalar::Jsonb, Scalar::Json) => {
            Ok(bind(to, &Value::Json(versioned(&from.name, cell)?.to_owned()))?)
        }
        // PostgreSQL's cast from `char(n)` drops the padding.
        (Scalar::Bpchar, _) if takes_plain_text(b) => {
            Ok(as_it_is(reader.rest_utf8()?.trim_end_matches(' ').as_bytes()))
        }
        _ if takes_plain_text(a) && takes_plain_text(b) => Ok(as_it_is(cell)),
        _ if is_number(b) && (is_number(a) || a == Scalar::Money) => {
            Ok(bind(to, &number(a, b, from, &mut reader, options)?)?)
        }
        _ => as_text(from, cell, options),
    }
}

/// A number of type `a` in the form in which `b` takes it exactly.
fn number(
    a: Scalar,
    b: Scalar,
    from: &PgType,
    reader: &mut Reader<'_>,
    options: &TextOptions,
) -> Result<Value, DecodeError> {
    let value = match a {
        Scalar::Float4 => {
            let float = reader.f32()?;
            if is_float(b) {
                Value::Double(f64::from(float))
            } else {
                let mut text = String::new();
                float::write_single(float, &mut text);
                Value::Numeric(text)
            }
        }
        Scalar::Float8 => {
            let float = reader.f64()?;
            if is_float(b) {
                Value::Double(float)
            } else {
                let mut text = String::new();
                float::write_double(float, &mut text);
                Value::Numeric(text)
            }
        }
        Scalar::Numeric => {
            let cell = reader.take(reader.remaining())?;
            Value::Numeric(NumericCell::new(cell)?.to_string())
        }
        Scalar::Money => {
            let dollars = (from.base().kind == TypeKind::Dollars).then(MoneyStyle::dollars);
            let style = options.money.as_ref().or(dollars.as_ref());
            let style = style.ok_or_else(|| DecodeError::not_decoded(&from.name))?;
            Value::Numeric(style.plain(reader.i64()?))
        }
        _ => Value::Int64(integer(a, reader)?),
    };
    reader.end()?;
    Ok(value)
}

fn array(
    from: &PgType,
    (a, b): (&PgType, &PgType),
    cell: &[u8],
    options: &TextOptions,
) -> Result<Parameter, TranscodeError> {
    let mut array = ArrayCell::new(&from.name, cell)?;
    let mut elements = Vec::with_capacity(array.dimensions.element_count());
    while let Some(part) = array.next()? {
        elements.push(match part {
            None => Parameter::NULL,
            Some(part) => {
                transcode_with(a, b, part.bytes, options).map_err(|error| match error {
                    TranscodeError::Decode(error) => {
                        TranscodeError::Decode(error.shifted(part.offset))
                    }
                    bind @ TranscodeError::Bind(_) => bind,
                })?
            }
        });
    }
    Ok(assemble(b, array.dimensions.as_slice(), &elements)?)
}
