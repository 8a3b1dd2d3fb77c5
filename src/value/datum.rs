//! A value as what it means, for comparing two of them.

use std::collections::BTreeMap;

use crate::domain::pg_type::PgType;
use crate::domain::value::Interval;
use crate::value::array::ArrayCell;
use crate::value::bind::uuid_bytes;
use crate::value::class::{Class, Scalar};
use crate::value::composite;
use crate::value::datetime;
use crate::value::decimal::Decimal;
use crate::value::error::DecodeError;
use crate::value::json::{self, Json};
use crate::value::network::NetAddress;
use crate::value::numeric::NumericCell;
use crate::value::options::TextOptions;
use crate::value::range::{RangeCell, ranges};
use crate::value::reader::{Part, Reader};
use crate::value::small;
use crate::value::text::{boolean, clock, integer, range_bound, versioned, write_text};

/// A value by its meaning. `==` is by meaning as well, but for floats, where it is Rust's
/// (`NaN` differs from itself, `0` equals `-0`): compare their bits.
#[derive(Debug, Clone, PartialEq)]
pub enum Datum {
    /// `bool`.
    Bool(bool),
    /// `int2`, `int4`, `int8`, `oid`, `xid`, `cid`.
    Int(i64),
    /// `numeric`.
    Numeric(NumericDatum),
    /// `float4`.
    Float4(f32),
    /// `float8`.
    Float8(f64),
    /// `text`, `varchar`, `name`, `citext`, `"char"`, `xml` and the like.
    Text(String),
    /// `char(n)`, with its padding.
    PaddedText(String),
    /// An enum's label.
    Label(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `timestamp`: microseconds since 2000-01-01; `i64::MAX` and `MIN` are infinite.
    Timestamp(i64),
    /// `timestamptz`: as `Timestamp`, in UTC.
    TimestampTz(i64),
    /// Days since 2000-01-01; `i32::MAX` and `MIN` are infinite.
    Date(i32),
    /// `time`: microseconds since midnight.
    Time(i64),
    /// `timetz`: microseconds since midnight there, and seconds west of Greenwich.
    TimeTz {
        /// Microseconds since midnight.
        micros: i64,
        /// Seconds west of Greenwich.
        seconds_west: i32,
    },
    /// `interval`.
    Interval(Interval),
    /// `uuid`.
    Uuid(u128),
    /// `json` and `jsonb`.
    Json(Json),
    /// `inet` and `cidr`.
    Net(NetAddress),
    /// `bit` and `varbit`: `0` and `1`.
    Bits(String),
    /// `money` in units of its last digit.
    Money(i64),
    /// `hstore`.
    Hstore(BTreeMap<String, Option<String>>),
    /// An array.
    Array(ArrayDatum),
    /// A row: its fields in order.
    Composite(Vec<Option<Datum>>),
    /// A range.
    Range(RangeDatum),
    /// Ranges in order.
    Multirange(Vec<RangeDatum>),
    /// PostgreSQL's text of a value of another type.
    Other {
        /// The type's name.
        type_name: String,
        /// The text.
        text: String,
    },
    /// The bytes of a value of a type that segue does not know.
    Opaque {
        /// The type's name.
        type_name: String,
        /// The bytes.
        data: Vec<u8>,
    },
}

/// A `numeric` by its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumericDatum {
    /// Not a number.
    NaN,
    /// Above all others.
    Infinity,
    /// Below all others.
    NegInfinity,
    /// An exact decimal, with the scale that the server showed.
    Finite(Decimal),
}

/// An array by its value.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayDatum {
    /// Length and lower bound of each dimension; none for an empty array.
    pub dimensions: Vec<(u32, i32)>,
    /// In row-major order; `None` is NULL.
    pub elements: Vec<Option<Datum>>,
}

/// A range by its value.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeDatum {
    /// Holds nothing; the other fields do not count then.
    pub empty: bool,
    /// The lower bound and whether it belongs to the range; `None` is unbounded.
    pub lower: Option<(Box<Datum>, bool)>,
    /// The upper bound, as above.
    pub upper: Option<(Box<Datum>, bool)>,
}

/// Reads a cell by its meaning.
///
/// # Errors
///
/// [`DecodeError::Malformed`]. A type that segue does not know is no error: it comes as
/// [`Datum::Opaque`].
pub fn datum(ty: &PgType, cell: &[u8]) -> Result<Datum, DecodeError> {
    datum_with(ty, cell, &TextOptions::default())
}

/// As [`datum`], with what is known of the server.
///
/// # Errors
///
/// As [`datum`].
pub fn datum_with(ty: &PgType, cell: &[u8], options: &TextOptions) -> Result<Datum, DecodeError> {
    let base = ty.base();
    let name = base.name.as_str();
    match Class::of(base) {
        Class::Scalar(scalar) => of_scalar(scalar, base, cell, options),
        Class::Enum => Ok(Datum::Label(Reader::new(name, cell).rest_utf8()?.to_owned())),
        Class::Array(element) => {
            let mut array = ArrayCell::new(name, cell)?;
            let dimensions = array.dimensions.as_slice().to_vec();
            let mut elements = Vec::with_capacity(array.dimensions.element_count());
            while let Some(part) = array.next()? {
                elements.push(part.map(|part| of_part(element, part, options)).transpose()?);
            }
            Ok(Datum::Array(ArrayDatum { dimensions, elements }))
        }
        Class::Range(inner) => Ok(Datum::Range(of_range(name, inner, cell, options)?)),
        Class::Multirange(inner) => {
            let inner = range_bound(inner);
            let ranges = ranges(name, cell)?.into_iter().map(|part| {
                of_range(name, inner, part.bytes, options).map_err(|e| e.shifted(part.offset))
            });
            Ok(Datum::Multirange(ranges.collect::<Result<_, _>>()?))
        }
        Class::Composite | Class::Record => of_composite(base, cell, options),
        Class::Unknown => Ok(opaque(base, cell)),
    }
}

fn opaque(ty: &PgType, cell: &[u8]) -> Datum {
    Datum::Opaque { type_name: ty.name.clone(), data: cell.to_vec() }
}

fn of_part(ty: &PgType, part: Part<'_>, options: &TextOptions) -> Result<Datum, DecodeError> {
    datum_with(ty, part.bytes, options).map_err(|error| error.shifted(part.offset))
}

fn of_range(
    name: &str,
    inner: &PgType,
    cell: &[u8],
    options: &TextOptions,
) -> Result<RangeDatum, DecodeError> {
    let range = RangeCell::new(name, cell)?;
    let bound = |part: Option<Part<'_>>, inclusive: bool| {
        part.map(|part| Ok((Box::new(of_part(inner, part, options)?), inclusive))).transpose()
    };
    Ok(RangeDatum {
        empty: range.empty,
        lower: bound(range.lower, range.lower_inclusive)?,
        upper: bound(range.upper, range.upper_inclusive)?,
    })
}

/// A row with a field of unknown type still shows that field's bytes.
fn of_composite(ty: &PgType, cell: &[u8], options: &TextOptions) -> Result<Datum, DecodeError> {
    let mut fields = Vec::new();
    composite::for_each_field(ty, cell, |field_type, part| {
        fields.push(match (part, field_type) {
            (None, _) => None,
            (Some(part), Some(field_type)) => Some(of_part(field_type, part, options)?),
            (Some(part), None) => Some(opaque(ty, part.bytes)),
        });
        Ok(())
    })?;
    Ok(Datum::Composite(fields))
}

fn of_scalar(
    scalar: Scalar,
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
) -> Result<Datum, DecodeError> {
    let name = ty.name.as_str();
    let mut reader = Reader::new(name, cell);
    let datum = match scalar {
        Scalar::Bool => Datum::Bool(boolean(&mut reader)?),
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid | Scalar::Xid | Scalar::Cid => {
            Datum::Int(integer(scalar, &mut reader)?)
        }
        Scalar::Float4 => Datum::Float4(reader.f32()?),
        Scalar::Float8 => Datum::Float8(reader.f64()?),
        Scalar::Timestamp => Datum::Timestamp(reader.i64()?),
        Scalar::TimestampTz => Datum::TimestampTz(reader.i64()?),
        Scalar::Date => Datum::Date(reader.i32()?),
        Scalar::Time => Datum::Time(clock(&mut reader)?),
        Scalar::TimeTz => {
            Datum::TimeTz { micros: clock(&mut reader)?, seconds_west: reader.i32()? }
        }
        Scalar::Interval => {
            let (micros, days, months) = (reader.i64()?, reader.i32()?, reader.i32()?);
            Datum::Interval(datetime::interval(micros, days, months))
        }
        Scalar::Uuid => Datum::Uuid(reader.u128()?),
        Scalar::Money => Datum::Money(reader.i64()?),
        _ => return of_variable(scalar, ty, cell, options),
    };
    reader.end()?;
    Ok(datum)
}

/// Types of variable length.
fn of_variable(
    scalar: Scalar,
    ty: &PgType,
    cell: &[u8],
    options: &TextOptions,
) -> Result<Datum, DecodeError> {
    let name = ty.name.as_str();
    let mut reader = Reader::new(name, cell);
    Ok(match scalar {
        Scalar::Numeric => Datum::Numeric(of_numeric(&NumericCell::new(cell)?)),
        Scalar::Bpchar => Datum::PaddedText(reader.rest_utf8()?.to_owned()),
        _ if scalar.is_text() => Datum::Text(reader.rest_utf8()?.to_owned()),
        Scalar::Char => match small::char_text(cell)? {
            Some(text) => Datum::Text(text.to_owned()),
            None => opaque(ty, cell),
        },
        Scalar::Bytea => Datum::Bytes(cell.to_vec()),
        Scalar::Json => of_json(name, reader.rest_utf8()?),
        Scalar::Jsonb => of_json(name, versioned(name, cell)?),
        Scalar::Inet | Scalar::Cidr => Datum::Net(NetAddress::new(name, cell)?),
        Scalar::Bit | Scalar::Varbit => {
            let mut bits = String::new();
            small::write_bits(name, cell, &mut bits)?;
            Datum::Bits(bits)
        }
        Scalar::Hstore => {
            let mut pairs = BTreeMap::new();
            small::for_each_pair(cell, |key, value| {
                pairs.insert(key.to_owned(), value.map(str::to_owned));
            })?;
            Datum::Hstore(pairs)
        }
        _ => {
            let mut text = String::new();
            match write_text(ty, cell, options, &mut text) {
                Ok(()) => Datum::Other { type_name: name.to_owned(), text },
                Err(DecodeError::NotDecoded { .. }) => opaque(ty, cell),
                Err(malformed) => return Err(malformed),
            }
        }
    })
}

fn of_numeric(cell: &NumericCell<'_>) -> NumericDatum {
    match cell.infinity() {
        Some(true) => NumericDatum::Infinity,
        Some(false) => NumericDatum::NegInfinity,
        // A number that was checked has a decimal text, so that only NaN has none.
        None => Decimal::parse(&cell.to_string()).map_or(NumericDatum::NaN, NumericDatum::Finite),
    }
}

/// A document that is not read (too deep, a lone surrogate) is compared as it is.
fn of_json(type_name: &str, text: &str) -> Datum {
    json::parse(text).map_or_else(
        || Datum::Other { type_name: type_name.to_owned(), text: text.to_owned() },
        Datum::Json,
    )
}

/// Reads PostgreSQL's text of a value by its meaning, for the types where that is cheap;
/// other types, and texts that are not of the type, come as [`Datum::Other`].
pub fn datum_from_text(ty: &PgType, text: &str) -> Datum {
    let base = ty.base();
    let other = || Datum::Other { type_name: base.name.clone(), text: text.to_owned() };
    let scalar = match Class::of(base) {
        Class::Enum => return Datum::Label(text.to_owned()),
        Class::Scalar(scalar) => scalar,
        _ => return other(),
    };
    let found = match scalar {
        Scalar::Bool => match text {
            "t" | "true" => Some(Datum::Bool(true)),
            "f" | "false" => Some(Datum::Bool(false)),
            _ => None,
        },
        Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid | Scalar::Xid | Scalar::Cid => {
            text.parse().ok().map(Datum::Int)
        }
        Scalar::Float4 => text.parse().ok().map(Datum::Float4),
        Scalar::Float8 => text.parse().ok().map(Datum::Float8),
        Scalar::Numeric => match text {
            "NaN" => Some(Datum::Numeric(NumericDatum::NaN)),
            "Infinity" => Some(Datum::Numeric(NumericDatum::Infinity)),
            "-Infinity" => Some(Datum::Numeric(NumericDatum::NegInfinity)),
            _ => Decimal::parse(text).map(|found| Datum::Numeric(NumericDatum::Finite(found))),
        },
        Scalar::Bpchar => Some(Datum::PaddedText(text.to_owned())),
        _ if scalar.is_text() || scalar == Scalar::Char => Some(Datum::Text(text.to_owned())),
        Scalar::Json | Scalar::Jsonb => Some(of_json(&base.name, text)),
        Scalar::Uuid => uuid_bytes(text).map(|bytes| Datum::Uuid(u128::from_be_bytes(bytes))),
        Scalar::Bit | Scalar::Varbit => Some(Datum::Bits(text.to_owned())),
        _ => None,
    };
    found.unwrap_or_else(other)
}
