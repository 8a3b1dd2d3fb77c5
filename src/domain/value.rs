//! One SQL value as a caller gives it: the mirror of `segue.v1.Value`.

use bytes::Bytes;

/// A parameter. Which type it is bound as is the server's word, not the caller's.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int2`, `int4`, `int8`, `oid`.
    Int64(i64),
    /// `float4`, `float8`.
    Double(f64),
    /// Exact decimal digits, `NaN`, `Infinity`, `-Infinity`.
    Numeric(String),
    /// Text of any kind.
    Text(String),
    /// `bytea`.
    Bytes(Bytes),
    /// `timestamp without time zone`.
    Timestamp(Timestamp),
    /// `timestamp with time zone`.
    TimestampTz(Timestamp),
    /// `date`.
    Date(Date),
    /// `time without time zone`: microseconds since midnight.
    Time(i64),
    /// `interval`.
    Interval(Interval),
    /// Any form of a UUID that PostgreSQL reads.
    Uuid(String),
    /// A JSON document.
    Json(String),
    /// An array of any dimensions.
    Array(Array),
    /// PostgreSQL's text for a value of the named type.
    Other {
        /// The type's name.
        type_name: String,
        /// The value as PostgreSQL reads it.
        text: String,
    },
    /// PostgreSQL's binary form of a value of the named type.
    Opaque {
        /// The type's name.
        type_name: String,
        /// The value as the type's receive function reads it.
        data: Bytes,
    },
}

/// A point in time, finite or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamp {
    /// Later than all others.
    Infinity,
    /// Earlier than all others.
    NegInfinity,
    /// Seconds since 1970-01-01T00:00:00Z rounded down, and microseconds of a second.
    Finite {
        /// Whole seconds.
        seconds: i64,
        /// 0 to 999,999.
        micros: u32,
    },
}

/// A date, finite or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Date {
    /// Later than all others.
    Infinity,
    /// Earlier than all others.
    NegInfinity,
    /// Days since 1970-01-01.
    Finite(i32),
}

/// An interval, finite or not (infinite from PostgreSQL 17).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// Longer than all others.
    Infinity,
    /// Shorter than all others.
    NegInfinity,
    /// The three parts that PostgreSQL keeps apart.
    Finite {
        /// Months.
        months: i32,
        /// Days.
        days: i32,
        /// Microseconds.
        micros: i64,
    },
}

/// An array with its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The element type's name.
    pub element_type: String,
    /// Length and lower bound of each dimension; empty for an empty array.
    pub dimensions: Vec<(u32, i32)>,
    /// In row-major order.
    pub elements: Vec<Value>,
}
