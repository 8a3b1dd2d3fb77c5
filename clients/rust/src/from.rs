//! What a value of a row can be read as. What the type does not hold is an error, never a rounded value.

use bytes::Bytes;

use crate::time::{Date, Interval, Time, Timestamp};
use crate::value::{Array, Json, Numeric, Uuid, Value};

/// What a column can be read as, by [`crate::Row::get`].
pub trait FromValue: Sized {
    /// Reads the value.
    ///
    /// # Errors
    ///
    /// Why the type does not hold it.
    fn from_value(value: Value) -> Result<Self, String>;
}

pub(crate) fn unfit(value: &Value, wanted: &str) -> String {
    format!("{} does not fit {wanted}", value.kind())
}

macro_rules! from_value {
    ($($ty:ty, $name:literal: $($pattern:pat => $made:expr),+;)*) => {$(
        impl FromValue for $ty {
            fn from_value(value: Value) -> Result<Self, String> {
                match value {
                    $($pattern => Ok($made),)+
                    other => Err(unfit(&other, $name)),
                }
            }
        }
    )*};
}

from_value! {
    bool, "a bool": Value::Bool(it) => it;
    f64, "an f64": Value::Float(it) => it;
    Bytes, "bytes": Value::Bytes(it) => it;
    Vec<u8>, "bytes": Value::Bytes(it) => it.into();
    Numeric, "a Numeric": Value::Numeric(it) => it, Value::Int(it) => it.into();
    Timestamp, "a Timestamp": Value::Timestamp(it) | Value::TimestampTz(it) => it;
    Date, "a Date": Value::Date(it) => it;
    Time, "a Time": Value::Time(it) => it;
    Interval, "an Interval": Value::Interval(it) => it;
    Uuid, "a Uuid": Value::Uuid(it) => it;
    Json, "a Json": Value::Json(it) => it;
    Array, "an Array": Value::Array(it) => it;
    String, "a String":
        Value::Text(it) => it,
        Value::Other { text, .. } => text,
        Value::Json(it) => it.0,
        Value::Numeric(it) => it.0,
        Value::Uuid(it) => it.to_string(),
        Value::Timestamp(it) => it.to_string(),
        Value::TimestampTz(it @ Timestamp::Finite { .. }) => it.zoned(),
        Value::TimestampTz(it) => it.to_string(),
        Value::Date(it) => it.to_string(),
        Value::Time(it) => it.to_string(),
        Value::Interval(it) => it.to_string();
}

impl FromValue for Value {
    fn from_value(value: Value) -> Result<Self, String> {
        Ok(value)
    }
}

macro_rules! from_integer {
    ($($ty:ident)*) => {$(
        impl FromValue for $ty {
            fn from_value(value: Value) -> Result<Self, String> {
                let Value::Int(number) = value else {
                    return Err(unfit(&value, concat!("the type ", stringify!($ty))));
                };
                number.try_into().map_err(|_| format!("{number} does not fit the type {}", stringify!($ty)))
            }
        }
    )*};
}

from_integer!(i8 i16 i32 i64 i128 u16 u32 u64 usize);

impl FromValue for f32 {
    #[allow(clippy::cast_possible_truncation)]
    fn from_value(value: Value) -> Result<Self, String> {
        let number = f64::from_value(value)?;
        let single = number as f32;
        if number.is_nan() || f64::from(single) == number {
            Ok(single)
        } else {
            Err(format!("{number} would be rounded as an f32"))
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value) -> Result<Self, String> {
        if value == Value::Null { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: Value) -> Result<Self, String> {
        let rows = Array::from_value(value)?.into_rows().ok_or(BOUNDS)?;
        rows.into_iter().map(T::from_value).collect()
    }
}

pub(crate) const BOUNDS: &str =
    "the array's indexes do not begin with 1, which a list does not say; read it as an Array";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ToValue;

    #[test]
    fn what_a_type_does_not_hold_is_an_error() {
        assert_eq!(i16::from_value(Value::Int(7)), Ok(7));
        assert!(i16::from_value(Value::Int(40_000)).is_err());
        assert!(u32::from_value(Value::Int(-1)).is_err());
        assert!(i64::from_value(Value::Null).is_err());
        assert_eq!(Option::<i64>::from_value(Value::Null), Ok(None));
        assert!(f32::from_value(Value::Float(0.1)).is_err());
        assert_eq!(f32::from_value(Value::Float(f64::from(0.1f32))), Ok(0.1));
        assert!(f64::from_value(Value::Numeric(Numeric("1".to_owned()))).is_err());
    }

    #[test]
    fn arrays_of_several_dimensions_are_lists_within_lists() {
        let given = vec![vec![Some(1), None], vec![Some(3), Some(4)]];
        let value = given.to_value().unwrap();
        assert_eq!(Vec::from_value(value.clone()), Ok(given));
        assert!(Vec::<i32>::from_value(value.clone()).is_err());
        let Value::Array(mut array) = value else { panic!("an array") };
        array.dimensions[0].lower_bound = 0;
        assert!(Vec::<Vec<Option<i32>>>::from_value(Value::Array(array)).is_err());
    }
}
