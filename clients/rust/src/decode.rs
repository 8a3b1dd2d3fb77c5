//! Packed rows: PostgreSQL's binary cells, read in the client.

use bytes::{Buf, Bytes};

use crate::time::{Date, Interval, SECONDS_PER_DAY, Time, Timestamp};
use crate::value::{Array, Dimension, Json, Numeric, Uuid, Value};

/// From 1970 to 2000, where PostgreSQL's count begins.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_SECONDS: i64 = 10_957 * SECONDS_PER_DAY;
/// PostgreSQL's.
const DIMENSIONS_MAX: i32 = 6;
/// The only version of a jsonb's binary form.
const JSONB_VERSION: u8 = 1;

const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xC000;
const NUMERIC_INFINITY: u16 = 0xD000;
const NUMERIC_NEG_INFINITY: u16 = 0xF000;

/// Why a cell cannot be read.
pub(crate) type Broken = &'static str;
const LENGTH: Broken = "its length is not that of its type";

/// How the cells of a column are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Scalar(Scalar),
    ArrayOf(Scalar),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Bytea,
    Int2,
    Int4,
    Int8,
    Oid,
    Text,
    Json,
    Jsonb,
    Float4,
    Float8,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Numeric,
    Uuid,
}

/// Types whose object ids all databases have in common: the scalar's and that of its array, and the name of the
/// elements.
const TYPES: [(u32, u32, Scalar, &str); 21] = [
    (16, 1000, Scalar::Bool, "bool"),
    (17, 1001, Scalar::Bytea, "bytea"),
    (19, 1003, Scalar::Text, "name"),
    (20, 1016, Scalar::Int8, "int8"),
    (21, 1005, Scalar::Int2, "int2"),
    (23, 1007, Scalar::Int4, "int4"),
    (25, 1009, Scalar::Text, "text"),
    (26, 1028, Scalar::Oid, "oid"),
    (114, 199, Scalar::Json, "json"),
    (700, 1021, Scalar::Float4, "float4"),
    (701, 1022, Scalar::Float8, "float8"),
    (1042, 1014, Scalar::Text, "bpchar"),
    (1043, 1015, Scalar::Text, "varchar"),
    (1082, 1182, Scalar::Date, "date"),
    (1083, 1183, Scalar::Time, "time"),
    (1114, 1115, Scalar::Timestamp, "timestamp"),
    (1184, 1185, Scalar::TimestampTz, "timestamptz"),
    (1186, 1187, Scalar::Interval, "interval"),
    (1700, 1231, Scalar::Numeric, "numeric"),
    (2950, 2951, Scalar::Uuid, "uuid"),
    (3802, 3807, Scalar::Jsonb, "jsonb"),
];

/// How cells of a type are read; none where the sidecar must decode them, since a type that was made at run time,
/// or whose text has rules of its own, is not told by its cells.
pub(crate) fn cell_of(oid: u32) -> Option<Cell> {
    TYPES.iter().find_map(|(scalar_oid, array_oid, scalar, _)| match oid {
        _ if oid == *scalar_oid => Some(Cell::Scalar(*scalar)),
        _ if oid == *array_oid => Some(Cell::ArrayOf(*scalar)),
        _ => None,
    })
}

/// Reads the next cell of packed rows.
pub(crate) fn next_cell(rows: &mut Bytes, cell: Cell) -> Result<Value, Broken> {
    let Some(mut data) = part(rows)? else { return Ok(Value::Null) };
    match cell {
        Cell::Scalar(scalar) => scalar_value(scalar, data),
        Cell::ArrayOf(element) => array(&mut data, element),
    }
}

/// A length and so many bytes; none is NULL.
fn part(data: &mut Bytes) -> Result<Option<Bytes>, Broken> {
    let length = data.try_get_i32().map_err(|_| LENGTH)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| LENGTH)?;
    if length > data.len() {
        return Err(LENGTH);
    }
    Ok(Some(data.split_to(length)))
}

fn scalar_value(scalar: Scalar, data: Bytes) -> Result<Value, Broken> {
    Ok(match scalar {
        Scalar::Bool => Value::Bool(fixed::<1>(&data)? != [0]),
        Scalar::Bytea => Value::Bytes(Bytes::copy_from_slice(&data)),
        Scalar::Int2 => Value::Int(i16::from_be_bytes(fixed(&data)?).into()),
        Scalar::Int4 => Value::Int(i32::from_be_bytes(fixed(&data)?).into()),
        Scalar::Int8 => Value::Int(i64::from_be_bytes(fixed(&data)?)),
        Scalar::Oid => Value::Int(u32::from_be_bytes(fixed(&data)?).into()),
        Scalar::Text => Value::Text(text(&data)?),
        Scalar::Json => Value::Json(Json(text(&data)?)),
        Scalar::Jsonb => match data.split_first() {
            Some((&JSONB_VERSION, document)) => Value::Json(Json(text(document)?)),
            _ => return Err("its version is not 1"),
        },
        Scalar::Float4 => Value::Float(f32::from_be_bytes(fixed(&data)?).into()),
        Scalar::Float8 => Value::Float(f64::from_be_bytes(fixed(&data)?)),
        Scalar::Date => Value::Date(date(i32::from_be_bytes(fixed(&data)?))?),
        Scalar::Time => {
            let micros = i64::from_be_bytes(fixed(&data)?);
            Value::Time(Time::from_micros(micros).ok_or("it is out of range")?)
        }
        Scalar::Timestamp => Value::Timestamp(timestamp(i64::from_be_bytes(fixed(&data)?))),
        Scalar::TimestampTz => Value::TimestampTz(timestamp(i64::from_be_bytes(fixed(&data)?))),
        Scalar::Interval => Value::Interval(interval(data)?),
        Scalar::Numeric => Value::Numeric(numeric(data)?),
        Scalar::Uuid => Value::Uuid(Uuid(fixed(&data)?)),
    })
}

fn fixed<const N: usize>(data: &[u8]) -> Result<[u8; N], Broken> {
    data.try_into().map_err(|_| LENGTH)
}

fn text(data: &[u8]) -> Result<String, Broken> {
    std::str::from_utf8(data).map(str::to_owned).map_err(|_| "it is not UTF-8")
}

fn timestamp(micros: i64) -> Timestamp {
    match micros {
        i64::MAX => Timestamp::Infinity,
        i64::MIN => Timestamp::NegInfinity,
        _ => match Timestamp::from_unix_micros(micros) {
            // PostgreSQL's range, counted from 2000, does not fit 64 bits of microseconds since 1970.
            Timestamp::Finite { seconds, micros } => {
                Timestamp::Finite { seconds: seconds + EPOCH_SECONDS, micros }
            }
            infinite => infinite,
        },
    }
}

fn date(days: i32) -> Result<Date, Broken> {
    Ok(match days {
        i32::MAX => Date::Infinity,
        i32::MIN => Date::NegInfinity,
        _ => Date::Finite(days.checked_add(EPOCH_DAYS).ok_or("it is out of range")?),
    })
}

fn interval(mut data: Bytes) -> Result<Interval, Broken> {
    let read = |data: &mut Bytes| {
        Some((data.try_get_i64().ok()?, data.try_get_i32().ok()?, data.try_get_i32().ok()?))
    };
    let (micros, days, months) = read(&mut data).ok_or(LENGTH)?;
    if data.has_remaining() {
        return Err(LENGTH);
    }
    Ok(match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => Interval::Infinity,
        (i64::MIN, i32::MIN, i32::MIN) => Interval::NegInfinity,
        _ => Interval::Finite { months, days, micros },
    })
}

/// Groups of four digits, with all digits that the scale asks for.
fn numeric(mut data: Bytes) -> Result<Numeric, Broken> {
    let head = |data: &mut Bytes| {
        let count = usize::from(data.try_get_u16().ok()?);
        let weight = isize::from(data.try_get_i16().ok()?);
        Some((count, weight, data.try_get_u16().ok()?, usize::from(data.try_get_u16().ok()?)))
    };
    let (count, weight, sign, scale) = head(&mut data).ok_or(LENGTH)?;
    let negative = match sign {
        NUMERIC_NAN => return Ok(Numeric("NaN".to_owned())),
        NUMERIC_INFINITY => return Ok(Numeric("Infinity".to_owned())),
        NUMERIC_NEG_INFINITY => return Ok(Numeric("-Infinity".to_owned())),
        0 => false,
        NUMERIC_NEGATIVE => true,
        _ => return Err("its sign is unknown"),
    };
    if data.len() != 2 * count {
        return Err(LENGTH);
    }
    let group = |at: isize| {
        let found = usize::try_from(at).ok().and_then(|at| data.get(2 * at..2 * at + 2));
        found.map_or(0, |pair| pair.iter().fold(0u16, |sum, byte| sum << 8 | u16::from(*byte)))
    };
    let mut digits = if negative { "-".to_owned() } else { String::new() };
    if weight < 0 {
        digits.push('0');
    }
    for at in 0..=weight {
        if at == 0 {
            digits.push_str(&group(0).to_string());
        } else {
            digits.push_str(&format!("{:04}", group(at)));
        }
    }
    if scale > 0 {
        digits.push('.');
        let end = digits.len() + scale;
        let mut at = weight + 1;
        while digits.len() < end {
            digits.push_str(&format!("{:04}", group(at)));
            at += 1;
        }
        digits.truncate(end);
    }
    Ok(Numeric(digits))
}

fn array(data: &mut Bytes, element: Scalar) -> Result<Value, Broken> {
    let mut word = || data.try_get_i32().map_err(|_| LENGTH);
    // Dimensions, whether there are NULLs, the element's type.
    let (count, _, _) = (word()?, word()?, word()?);
    if !(0..=DIMENSIONS_MAX).contains(&count) {
        return Err("the number of its dimensions is out of range");
    }
    let mut dimensions = Vec::new();
    for _ in 0..count {
        let (length, lower_bound) = (word()?, word()?);
        dimensions
            .push(Dimension { length: u32::try_from(length).map_err(|_| LENGTH)?, lower_bound });
    }
    let product = dimensions.iter().try_fold(1usize, |product, dimension| {
        product.checked_mul(usize::try_from(dimension.length).ok()?)
    });
    let expected = if dimensions.is_empty() { 0 } else { product.ok_or(LENGTH)? };
    // Each element has a length of its own of four bytes.
    if expected > data.len() / 4 {
        return Err(LENGTH);
    }
    let mut elements = Vec::with_capacity(expected);
    for _ in 0..expected {
        let value = part(data)?.map_or(Ok(Value::Null), |cell| scalar_value(element, cell))?;
        elements.push(value);
    }
    if data.has_remaining() {
        return Err(LENGTH);
    }
    let name = TYPES.iter().find(|it| it.2 == element).map_or("", |it| it.3);
    Ok(Value::Array(Array { element_type: name.to_owned(), dimensions, elements }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(data: &[u8]) -> Bytes {
        let length = i32::try_from(data.len()).unwrap();
        Bytes::from([&length.to_be_bytes()[..], data].concat())
    }

    #[test]
    fn a_cell_that_is_cut_short_or_too_long_is_an_error() {
        for (oid, ..) in TYPES {
            let Some(Cell::Scalar(scalar)) = cell_of(oid) else { panic!("{oid} is a scalar") };
            if matches!(scalar, Scalar::Text | Scalar::Json | Scalar::Bytea | Scalar::Jsonb) {
                continue;
            }
            for length in [0, 3, 9, 11, 17] {
                let found = next_cell(&mut cell(&vec![1; length]), Cell::Scalar(scalar));
                assert!(found.is_err(), "{scalar:?} of {length} bytes gave {found:?}");
            }
        }
        assert!(
            next_cell(&mut Bytes::from_static(&[0, 0, 0, 4, 1]), Cell::Scalar(Scalar::Int4))
                .is_err()
        );
        assert!(next_cell(&mut Bytes::from_static(&[0, 0]), Cell::Scalar(Scalar::Int4)).is_err());
        assert!(next_cell(&mut cell(&[0xff]), Cell::Scalar(Scalar::Text)).is_err());
        assert!(next_cell(&mut cell(&[2, b'1']), Cell::Scalar(Scalar::Jsonb)).is_err());
    }

    #[test]
    fn an_array_whose_head_promises_more_than_there_is_is_an_error() {
        let words =
            |words: &[i32]| words.iter().flat_map(|it| it.to_be_bytes()).collect::<Vec<u8>>();
        for head in [
            &[1, 0, 23, i32::MAX, 1][..],
            &[7, 0, 23],
            &[1, 0, 23, -1, 1],
            &[1, 0, 23, 1, 1],
            &[0, 0, 23, 9],
        ] {
            let found = next_cell(&mut cell(&words(head)), Cell::ArrayOf(Scalar::Int4));
            assert!(found.is_err(), "{head:?} gave {found:?}");
        }
        let empty = next_cell(&mut cell(&words(&[0, 0, 23])), Cell::ArrayOf(Scalar::Int4)).unwrap();
        assert!(
            matches!(empty, Value::Array(array) if array.elements.is_empty() && array.element_type == "int4")
        );
    }
}
