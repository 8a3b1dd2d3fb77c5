//! Parameters: what Rust types are as SQL values.

use bytes::Bytes;

use crate::time::{Date, Interval, Time, Timestamp};
use crate::value::{Array, Dimension, Json, Numeric, Uuid, Value};

/// What can be a parameter.
///
/// The sidecar binds a parameter by the type that its statement asks for, and takes a value of its own kind: an
/// integer for integers and `numeric`, a float for floats, [`Numeric`] for `numeric`, a text for everything that
/// PostgreSQL reads from text but `bool`, numbers and `bytea`. What does not fit is [`crate::Error::Data`].
pub trait ToValue {
    /// The value.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn to_value(&self) -> Result<Value, String>;
}

macro_rules! to_value {
    ($($ty:ty: $self:ident => $value:expr;)*) => {$(
        impl ToValue for $ty {
            fn to_value(&$self) -> Result<Value, String> {
                Ok($value)
            }
        }
    )*};
}

to_value! {
    Value: self => self.clone();
    bool: self => Value::Bool(*self);
    i8: self => Value::Int(i64::from(*self));
    i16: self => Value::Int(i64::from(*self));
    i32: self => Value::Int(i64::from(*self));
    i64: self => Value::Int(*self);
    u16: self => Value::Int(i64::from(*self));
    u32: self => Value::Int(i64::from(*self));
    u64: self => i64::try_from(*self).map_or_else(|_| Value::Numeric((*self).into()), Value::Int);
    usize: self => i64::try_from(*self).map_or_else(|_| Value::Numeric(Numeric(self.to_string())), Value::Int);
    i128: self => Value::Numeric((*self).into());
    f32: self => Value::Float(f64::from(*self));
    f64: self => Value::Float(*self);
    str: self => Value::Text(self.to_owned());
    String: self => Value::Text(self.clone());
    [u8]: self => Value::Bytes(Bytes::copy_from_slice(self));
    Vec<u8>: self => Value::Bytes(Bytes::copy_from_slice(self));
    Bytes: self => Value::Bytes(self.clone());
    Numeric: self => Value::Numeric(self.clone());
    // As a text it goes into timestamps with and without a zone alike.
    Timestamp: self => Value::Text(self.zoned_or_infinite());
    Date: self => Value::Date(*self);
    Time: self => Value::Time(*self);
    Interval: self => Value::Interval(*self);
    Uuid: self => Value::Uuid(*self);
    Json: self => Value::Json(self.clone());
    Array: self => Value::Array(self.clone());
}

impl Timestamp {
    fn zoned_or_infinite(self) -> String {
        match self {
            Self::Finite { .. } => self.zoned(),
            infinite => infinite.to_string(),
        }
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Result<Value, String> {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Result<Value, String> {
        self.as_ref().map_or(Ok(Value::Null), ToValue::to_value)
    }
}

impl<T: ToValue> ToValue for Vec<T> {
    fn to_value(&self) -> Result<Value, String> {
        self.as_slice().to_value()
    }
}

impl<T: ToValue> ToValue for [T] {
    fn to_value(&self) -> Result<Value, String> {
        let rows = self.iter().map(ToValue::to_value).collect::<Result<Vec<_>, _>>()?;
        let length =
            u32::try_from(rows.len()).map_err(|_| "it has too many elements".to_owned())?;
        let outer = Dimension { length, lower_bound: 1 };
        let mut made = Array {
            element_type: "text".to_owned(),
            dimensions: vec![outer],
            elements: Vec::new(),
        };
        let mut inner: Option<Vec<Dimension>> = None;
        let mut singles = false;
        for row in rows {
            let Value::Array(array) = row else {
                singles = true;
                made.elements.push(row);
                continue;
            };
            if inner.as_ref().is_some_and(|it| *it != array.dimensions) {
                return Err("its rows differ in length; all must have as many elements".to_owned());
            }
            inner = Some(array.dimensions);
            made.elements.extend(array.elements);
        }
        if singles && inner.is_some() {
            return Err("lists and single values are mixed in it".to_owned());
        }
        made.dimensions.extend(inner.unwrap_or_default());
        if made.elements.is_empty() {
            made.dimensions.clear();
        }
        Ok(Value::Array(made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_within_lists_are_dimensions() {
        let Ok(Value::Array(array)) = vec![vec![1, 2, 3], vec![4, 5, 6]].to_value() else {
            panic!("an array")
        };
        let lengths: Vec<u32> = array.dimensions.iter().map(|it| it.length).collect();
        assert_eq!((lengths, array.elements.len()), (vec![2, 3], 6));
        let Ok(Value::Array(empty)) = Vec::<i32>::new().to_value() else { panic!("an array") };
        assert_eq!((empty.dimensions.len(), empty.elements.len()), (0, 0));
        let Ok(Value::Array(empty)) = vec![Vec::<i32>::new(), Vec::new()].to_value() else {
            panic!("an array")
        };
        assert_eq!((empty.dimensions.len(), empty.elements.len()), (0, 0));
        assert!(vec![vec![1], vec![2, 3]].to_value().is_err());
        assert!(vec![Some(vec![1]), None].to_value().is_err());
        assert!(vec![Value::Int(1), vec![2].to_value().unwrap()].to_value().is_err());
        assert_eq!(u64::MAX.to_value(), Ok(Value::Numeric(Numeric(u64::MAX.to_string()))));
    }
}
