//! From PostgreSQL's binary cells to a [`ValueSink`].

use crate::domain::pg_type::PgType;
use crate::value::array::ArrayCell;
use crate::value::class::{Class, Scalar};
use crate::value::datetime;
use crate::value::error::DecodeError;
use crate::value::numeric::NumericCell;
use crate::value::options::TextOptions;
use crate::value::reader::Reader;
use crate::value::sink::ValueSink;
use crate::value::small;
use crate::value::text::{boolean, clock, integer, versioned, write_text};

/// Reads a cell into a sink; `money` comes as opaque.
///
/// # Errors
///
/// [`DecodeError::Malformed`] where the bytes are not of the type. A type that segue does
/// not know is no error: it comes as opaque.
pub fn decode(
    ty: &PgType,
    cell: &[u8],
    sink: &mut (impl ValueSink + ?Sized),
) -> Result<(), DecodeError> {
    decode_with(ty, cell, &TextOptions::default(), sink)
}

/// As [`decode`], with what is known of the server.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_with(
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
    sink: &mut (impl ValueSink + ?Sized),
) -> Result<(), DecodeError> {
    let base = ty.base();
    match Class::of(base) {
        Class::Scalar(scalar) => decode_scalar(scalar, base, cell, options, sink),
        Class::Array(element) => {
            let mut array = ArrayCell::new(&base.name, cell)?;
            sink.begin_array(&element.name, &array.dimensions);
            while let Some(part) = array.next()? {
                match part {
                    None => sink.null(),
                    Some(part) => decode_with(element, part.bytes, options, sink)
                        .map_err(|error| error.shifted(part.offset))?,
                }
            }
            sink.end_array();
            Ok(())
        }
        _ => decode_other(base, cell, options, sink),
    }
}

fn decode_scalar(
    scalar: Scalar,
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
    sink: &mut (impl ValueSink + ?Sized),
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(&ty.name, cell);
    match scalar {
        Scalar::Bool => sink.bool(boolean(&mut reader)?),
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid => {
            sink.int64(integer(scalar, &mut reader)?);
        }
        Scalar::Float4 => sink.double(f64::from(reader.f32()?)),
        Scalar::Float8 => sink.double(reader.f64()?),
        Scalar::Timestamp => sink.timestamp(datetime::timestamp(reader.i64()?)),
        Scalar::TimestampTz => sink.timestamptz(datetime::timestamp(reader.i64()?)),
        Scalar::Date => {
            let date = datetime::date(reader.i32()?);
            sink.date(date.ok_or_else(|| reader.malformed("the date is out of range"))?);
        }
        Scalar::Time => sink.time(clock(&mut reader)?),
        Scalar::Interval => {
            let (micros, days, months) = (reader.i64()?, reader.i32()?, reader.i32()?);
            sink.interval(datetime::interval(micros, days, months));
        }
        Scalar::Text | Scalar::Varchar | Scalar::Bpchar | Scalar::Name | Scalar::Unknown => {
            sink.text(reader.rest_utf8()?);
        }
        Scalar::Char => {
            return match small::char_text(cell)? {
                Some(text) => {
                    sink.text(text);
                    Ok(())
                }
                None => {
                    sink.opaque(&ty.name, cell);
                    Ok(())
                }
            };
        }
        Scalar::Bytea => {
            sink.bytes(cell);
            return Ok(());
        }
        Scalar::Numeric => {
            sink.numeric(&NumericCell::new(cell)?);
            return Ok(());
        }
        Scalar::Uuid => {
            let id = uuid::Uuid::from_u128(reader.u128()?);
            sink.uuid(id.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
        }
        Scalar::Json => sink.json(reader.rest_utf8()?),
        Scalar::Jsonb => {
            sink.json(versioned(&ty.name, cell)?);
            return Ok(());
        }
        _ => return decode_other(ty, cell, options, sink),
    }
    reader.end()
}

/// The types that are given as text, or as they are where segue knows no text for them.
fn decode_other(
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
    sink: &mut (impl ValueSink + ?Sized),
) -> Result<(), DecodeError> {
    let mut text = String::new();
    match write_text(ty, cell, options, &mut text) {
        Ok(()) => sink.other(&ty.name, &text),
        Err(DecodeError::NotDecoded { .. }) => sink.opaque(&ty.name, cell),
        Err(malformed) => return Err(malformed),
    }
    Ok(())
}
