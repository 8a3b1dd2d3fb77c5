//! SQL values as Rust has them.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::text::Unreadable;
use crate::time::{Date, Interval, Time, Timestamp};

/// One SQL value, without loss.
///
/// It is what a row holds ([`crate::Row::get`] gives other types), and can be a parameter itself.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// NULL.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int2`, `int4`, `int8`, `oid`.
    Int(i64),
    /// `float4`, `float8`.
    Float(f64),
    /// `numeric`.
    Numeric(Numeric),
    /// `text`, `varchar`, `char(n)`, `name`.
    Text(String),
    /// `bytea`.
    Bytes(Bytes),
    /// `timestamp` without time zone.
    Timestamp(Timestamp),
    /// `timestamp` with time zone.
    TimestampTz(Timestamp),
    /// `date`.
    Date(Date),
    /// `time` without time zone.
    Time(Time),
    /// `interval`.
    Interval(Interval),
    /// `uuid`.
    Uuid(Uuid),
    /// `json`, `jsonb`.
    Json(Json),
    /// An array.
    Array(Array),
    /// Every other type that segue reads, such as enums, ranges, `inet` and composites: PostgreSQL's text.
    Other {
        /// The type's name without its schema.
        type_name: String,
        /// What `value::text` gives.
        text: String,
    },
    /// A type that segue does not decode, such as `point`.
    Opaque {
        /// The type's name without its schema.
        type_name: String,
        /// What the type's send function gives.
        data: Bytes,
    },
}

impl Value {
    /// What kind of value it is, for messages.
    pub(crate) fn kind(&self) -> &str {
        match self {
            Self::Null => "NULL",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Numeric(_) => "a numeric",
            Self::Text(_) => "a text",
            Self::Bytes(_) => "a bytea",
            Self::Timestamp(_) => "a timestamp without time zone",
            Self::TimestampTz(_) => "a timestamp with time zone",
            Self::Date(_) => "a date",
            Self::Time(_) => "a time",
            Self::Interval(_) => "an interval",
            Self::Uuid(_) => "a uuid",
            Self::Json(_) => "a json",
            Self::Array(_) => "an array",
            Self::Other { type_name, .. } | Self::Opaque { type_name, .. } => type_name,
        }
    }
}

/// Exact decimal digits, as PostgreSQL writes a `numeric`: `12.3400`, `NaN`, `Infinity`, `-Infinity`. No type of
/// fixed width holds them all; parse the text into the decimal type of your choice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Numeric(pub(crate) String);

impl Numeric {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Numeric {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        if matches!(text, "NaN" | "Infinity" | "-Infinity") {
            return Ok(Self(text.to_owned()));
        }
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (digits, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
        let reads = !(whole.is_empty() && fraction.is_empty())
            && all_digits(whole)
            && all_digits(fraction)
            && exponent.parse::<i32>().is_ok();
        if reads { Ok(Self(text.to_owned())) } else { Err(Unreadable::new("a numeric", text)) }
    }
}

macro_rules! numeric_of {
    ($($integer:ty)*) => {$(
        impl From<$integer> for Numeric {
            fn from(number: $integer) -> Self {
                Self(number.to_string())
            }
        }
    )*};
}

numeric_of!(i8 i16 i32 i64 i128 u8 u16 u32 u64 u128);

/// A UUID's 16 bytes. With the feature `uuid`, `uuid::Uuid` can be used in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let digits: Vec<u32> =
            text.chars().filter(|it| *it != '-').map_while(|it| it.to_digit(16)).collect();
        let length = text.chars().filter(|it| *it != '-').count();
        let mut bytes = [0; 16];
        if length != 32 || digits.len() != length {
            return Err(Unreadable::new("a uuid", text));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            if let [high, low] = pair {
                *byte = u8::try_from(high * 16 + low).unwrap_or_default();
            }
        }
        Ok(Self(bytes))
    }
}

/// A JSON document as its text: `json` verbatim, `jsonb` as the server prints it. As a parameter it is JSON. With
/// the feature `json`, `serde_json::Value` can be used in its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Json(pub String);

/// An array as PostgreSQL has it, with bounds and dimensions that a `Vec` does not have.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The element type's name as PostgreSQL has it; not used in a parameter.
    pub element_type: String,
    /// None for an empty array; the product of the lengths is the number of elements.
    pub dimensions: Vec<Dimension>,
    /// Row by row. An element is never an array itself.
    pub elements: Vec<Value>,
}

/// One dimension of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimension {
    /// The number of elements along it.
    pub length: u32,
    /// The index of the first one: 1 unless the array says otherwise.
    pub lower_bound: i32,
}

impl Array {
    /// The elements of the outermost dimension: arrays where there are more. None where an index does not begin
    /// with 1, which a list cannot hold.
    pub(crate) fn into_rows(self) -> Option<Vec<Value>> {
        let Some((first, rest)) = self.dimensions.split_first() else { return Some(self.elements) };
        if first.lower_bound != 1 {
            return None;
        }
        if rest.is_empty() {
            return Some(self.elements);
        }
        let width = self.elements.len() / usize::try_from(first.length).ok()?.max(1);
        let mut elements = self.elements.into_iter();
        let mut rows = Vec::new();
        for _ in 0..first.length {
            rows.push(Value::Array(Self {
                element_type: self.element_type.clone(),
                dimensions: rest.to_vec(),
                elements: elements.by_ref().take(width).collect(),
            }));
        }
        Some(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_and_uuids_are_checked() {
        for text in ["0", "-12.3400", ".5", "5.", "1e-7", "NaN", "-Infinity"] {
            assert_eq!(text.parse::<Numeric>().unwrap().as_str(), text);
        }
        for text in ["", ".", "1,5", "0x1", "--1", "1e", "nan"] {
            assert!(text.parse::<Numeric>().is_err(), "{text}");
        }
        let text = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        assert_eq!(text.parse::<Uuid>().unwrap().to_string(), text);
        for text in ["", "f81d4fae", "g81d4fae-7dec-11d0-a765-00a0c91e6bf6"] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }
}
