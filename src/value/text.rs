//! PostgreSQL's own text of a binary value: ISO dates, UTC, interval style `postgres`,
//! shortest floats, hex `bytea`.

use std::fmt::Write;

use crate::domain::pg_type::{PgType, TypeKind};
use crate::value::class::{Class, Scalar};
use crate::value::datetime;
use crate::value::error::DecodeError;
use crate::value::float;
use crate::value::network::{NetAddress, write_mac};
use crate::value::numeric::NumericCell;
use crate::value::options::{MoneyStyle, TextOptions};
use crate::value::reader::Reader;
use crate::value::{array, composite, range, search, small};

const MACADDR_BYTES: usize = 6;
const MACADDR8_BYTES: usize = 8;

/// The version byte before the text of `jsonb` and `jsonpath`.
pub(crate) const JSONB_VERSION: u8 = 1;

/// PostgreSQL's text of a cell; `money` is not decoded.
///
/// # Errors
///
/// [`DecodeError::NotDecoded`] for a type that segue does not know,
/// [`DecodeError::Malformed`] for bytes that are not of the type.
pub fn to_text(ty: &PgType, cell: &[u8]) -> Result<String, DecodeError> {
    to_text_with(ty, cell, &TextOptions::default())
}

/// As [`to_text`], with what is known of the server.
///
/// # Errors
///
/// As [`to_text`].
pub fn to_text_with(
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
) -> Result<String, DecodeError> {
    let mut out = String::new();
    write_text(ty, cell, options, &mut out)?;
    Ok(out)
}

/// Appends the text of a cell. After an error `out` may hold a part of it.
pub(crate) fn write_text(
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
    out: &mut String,
) -> Result<(), DecodeError> {
    let base = ty.base();
    if base.kind == TypeKind::Dollars && options.money.is_none() {
        let known = TextOptions { money: Some(MoneyStyle::dollars()) };
        return write_text(base, cell, &known, out);
    }
    let name = base.name.as_str();
    match Class::of(base) {
        Class::Scalar(scalar) => write_scalar(scalar, name, cell, options, out),
        Class::Enum => write_plain(name, cell, out),
        Class::Array(element) => array::write_array(name, element, cell, options, out),
        Class::Range(inner) => range::write_range(name, inner, cell, options, out),
        Class::Multirange(inner) => {
            range::write_multirange(name, range_bound(inner), cell, options, out)
        }
        Class::Composite | Class::Record => composite::write_composite(base, cell, options, out),
        Class::Unknown => Err(DecodeError::not_decoded(name)),
    }
}

/// What a multirange's ranges range over, whether it names the range or its bounds.
pub(crate) fn range_bound(inner: &PgType) -> &PgType {
    match Class::of(inner) {
        Class::Range(bound) => bound,
        _ => inner,
    }
}

fn write_plain(name: &str, cell: &[u8], out: &mut String) -> Result<(), DecodeError> {
    out.push_str(Reader::new(name, cell).rest_utf8()?);
    Ok(())
}

fn write_scalar(
    scalar: Scalar,
    name: &str,
    cell: &[u8],
    options: &TextOptions,
    out: &mut String,
) -> Result<(), DecodeError> {
    match scalar {
        _ if scalar.is_text() => write_plain(name, cell, out),
        Scalar::Json => write_plain(name, cell, out),
        Scalar::Jsonb | Scalar::Jsonpath => {
            out.push_str(versioned(name, cell)?);
            Ok(())
        }
        Scalar::Char => {
            out.push_str(small::char_text(cell)?.ok_or_else(|| DecodeError::not_decoded(name))?);
            Ok(())
        }
        Scalar::Bytea => {
            out.push_str("\\x");
            for byte in cell {
                let _ = write!(out, "{byte:02x}");
            }
            Ok(())
        }
        Scalar::Numeric => {
            let _ = write!(out, "{}", NumericCell::new(cell)?);
            Ok(())
        }
        Scalar::Uuid => small::write_uuid(cell, out),
        Scalar::Inet | Scalar::Cidr => {
            NetAddress::new(name, cell)?.write(scalar == Scalar::Cidr, out);
            Ok(())
        }
        Scalar::MacAddr => write_mac(name, MACADDR_BYTES, cell, out),
        Scalar::MacAddr8 => write_mac(name, MACADDR8_BYTES, cell, out),
        Scalar::Bit | Scalar::Varbit => small::write_bits(name, cell, out),
        Scalar::Hstore => small::write_hstore(cell, out),
        Scalar::TsVector => search::write_vector(cell, out),
        Scalar::TsQuery => search::write_query(cell, out),
        Scalar::Int2Vector | Scalar::OidVector => small::write_vector(name, cell, out),
        Scalar::PgLsn => small::write_lsn(cell, out),
        Scalar::Tid => small::write_tid(cell, out),
        _ => write_fixed(scalar, name, cell, options, out),
    }
}

/// Types of a fixed width.
fn write_fixed(
    scalar: Scalar,
    name: &str,
    cell: &[u8],
    options: &TextOptions,
    out: &mut String,
) -> Result<(), DecodeError> {
    let mut reader = Reader::new(name, cell);
    match scalar {
        Scalar::Bool => out.push(if boolean(&mut reader)? { 't' } else { 'f' }),
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid | Scalar::Xid | Scalar::Cid => {
            let _ = write!(out, "{}", integer(scalar, &mut reader)?);
        }
        Scalar::Xid8 => {
            let _ = write!(out, "{}", reader.u64()?);
        }
        Scalar::Float4 => float::write_single(reader.f32()?, out),
        Scalar::Float8 => float::write_double(reader.f64()?, out),
        Scalar::Timestamp => datetime::write_timestamp(reader.i64()?, false, out),
        Scalar::TimestampTz => datetime::write_timestamp(reader.i64()?, true, out),
        Scalar::Date => datetime::write_date(reader.i32()?, out),
        Scalar::Time => datetime::write_time(clock(&mut reader)?, out),
        Scalar::TimeTz => {
            datetime::write_time(clock(&mut reader)?, out);
            datetime::write_zone(reader.i32()?, out);
        }
        Scalar::Interval => {
            let (micros, days, months) = (reader.i64()?, reader.i32()?, reader.i32()?);
            datetime::write_interval(datetime::interval(micros, days, months), out);
        }
        Scalar::Money => {
            let style = options.money.as_ref().ok_or_else(|| DecodeError::not_decoded(name))?;
            out.push_str(&style.text(reader.i64()?));
        }
        Scalar::Void => {}
        _ => return Err(DecodeError::not_decoded(name)),
    }
    reader.end()
}

/// The text after a version byte.
pub(crate) fn versioned<'a>(name: &'a str, cell: &'a [u8]) -> Result<&'a str, DecodeError> {
    let mut reader = Reader::new(name, cell);
    if reader.u8()? != JSONB_VERSION {
        return Err(Reader::new(name, cell).malformed("the version is unknown"));
    }
    reader.rest_utf8()
}

pub(crate) fn boolean(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(reader.malformed("a bool is neither 0 nor 1")),
    }
}

/// The integers, by their widths. `oid`, `xid` and `cid` have no sign.
pub(crate) fn integer(scalar: Scalar, reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    match scalar {
        Scalar::Int2 => reader.i16().map(i64::from),
        Scalar::Int4 => reader.i32().map(i64::from),
        Scalar::Int8 => reader.i64(),
        _ => reader.u32().map(i64::from),
    }
}

/// Microseconds of a day, 24:00 included.
pub(crate) fn clock(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    let micros = reader.i64()?;
    if (0..=datetime::MICROS_PER_DAY).contains(&micros) {
        Ok(micros)
    } else {
        Err(reader.malformed("the time is not within a day"))
    }
}
