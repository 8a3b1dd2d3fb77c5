//! Rows into types of serde.

use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::from::BOUNDS;
use crate::row::Column;
use crate::time::{Date, Interval, Time, Timestamp};
use crate::value::{Json, Numeric, Uuid, Value};

/// Why a row does not fit a type.
#[derive(Debug)]
pub(crate) struct Unfit(pub(crate) String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl de::Error for Unfit {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

/// Gives a row's columns.
pub(crate) struct ColumnsDeserializer<'a> {
    pub(crate) columns: &'a [Column],
    pub(crate) values: Vec<Value>,
}

impl ColumnsDeserializer<'_> {
    fn single(self) -> Result<ValueDeserializer, Unfit> {
        let count = self.values.len();
        match <[Value; 1]>::try_from(self.values) {
            Ok([value]) => Ok(ValueDeserializer(value)),
            Err(_) => Err(Unfit(format!(
                "it has {count} columns; expected one, or a struct or tuple for them"
            ))),
        }
    }
}

macro_rules! of_single {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
            self.single()?.$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for ColumnsDeserializer<'_> {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let names = self.columns.iter().map(|it| it.name.clone());
        visitor.visit_map(MapDeserializer::new(
            names.zip(self.values.into_iter().map(ValueDeserializer)),
        ))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visit_all(self.values, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        if length != self.values.len() {
            return Err(Unfit(format!("it has {} columns; expected {length}", self.values.len())));
        }
        visit_all(self.values, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        self.single()?.deserialize_enum(name, variants, visitor)
    }

    of_single! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_option deserialize_unit
    }

    forward_to_deserialize_any! { u128 unit_struct map struct identifier ignored_any }
}

fn visit_all<'de, V: Visitor<'de>>(values: Vec<Value>, visitor: V) -> Result<V::Value, Unfit> {
    let mut all = SeqDeserializer::new(values.into_iter().map(ValueDeserializer));
    let made = visitor.visit_seq(&mut all)?;
    all.end()?;
    Ok(made)
}

/// Gives one value. What is no number, truth or list is a text.
pub(crate) struct ValueDeserializer(Value);

impl IntoDeserializer<'_, Unfit> for ValueDeserializer {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for ValueDeserializer {
    type Error = Unfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(it) => visitor.visit_bool(it),
            Value::Int(it) => visitor.visit_i64(it),
            Value::Float(it) => visitor.visit_f64(it),
            Value::Text(text) | Value::Other { text, .. } => visitor.visit_string(text),
            Value::Numeric(it) => visitor.visit_string(it.0),
            Value::Bytes(it) | Value::Opaque { data: it, .. } => visitor.visit_byte_buf(it.into()),
            // ISO 8601, which types of other crates read as well.
            Value::Timestamp(it) => visitor.visit_string(it.iso("")),
            Value::TimestampTz(it) => visitor.visit_string(it.iso("Z")),
            Value::Date(it) => visitor.visit_string(it.iso()),
            Value::Time(it) => visitor.visit_string(it.to_string()),
            Value::Interval(it) => visitor.visit_string(it.to_string()),
            Value::Uuid(it) => visitor.visit_string(it.to_string()),
            Value::Json(it) => json(&it, visitor),
            Value::Array(array) => {
                visit_all(array.into_rows().ok_or_else(|| Unfit(BOUNDS.to_owned()))?, visitor)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        if self.0 == Value::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        visitor.visit_newtype_struct(self)
    }

    /// The name of a variant, such as that of a PostgreSQL enum.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        match self.0 {
            Value::Text(text) | Value::Other { text, .. } => {
                visitor.visit_enum(text.into_deserializer())
            }
            other => Err(Unfit(format!("{} does not fit an enum", other.kind()))),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            Value::Bytes(bytes) => {
                visitor.visit_seq(SeqDeserializer::new(Vec::from(bytes).into_iter()))
            }
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            // The document as it is.
            Value::Json(it) => visitor.visit_string(it.0),
            other => Self(other).deserialize_any(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        self.deserialize_string(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        let single = <f32 as crate::from::FromValue>::from_value(self.0).map_err(Unfit)?;
        visitor.visit_f32(single)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        match self.0 {
            // serde makes the nearest float of an integer.
            Value::Int(_) => Err(Unfit("an integer does not fit a float".to_owned())),
            other => Self(other).deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char bytes byte_buf unit unit_struct tuple tuple_struct map
        struct identifier ignored_any
    }
}

/// What the document says.
#[cfg(feature = "json")]
fn json<'de, V: Visitor<'de>>(document: &Json, visitor: V) -> Result<V::Value, Unfit> {
    // A reader, since nothing of the document outlives it.
    let mut read = serde_json::Deserializer::from_reader(document.0.as_bytes());
    let made = (&mut read).deserialize_any(visitor);
    let made = made.and_then(|made| read.end().map(|()| made));
    made.map_err(|error| Unfit(format!("a json does not fit: {error}")))
}

/// Its text.
#[cfg(not(feature = "json"))]
fn json<'de, V: Visitor<'de>>(document: &Json, visitor: V) -> Result<V::Value, Unfit> {
    visitor.visit_str(&document.0)
}

macro_rules! from_text {
    ($($ty:ty)*) => {$(
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

from_text!(Timestamp Date Time Interval Uuid);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Numeric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;

        impl Visitor<'_> for Digits {
            type Value = Numeric;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a numeric or an integer")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Numeric, E> {
                Ok(number.into())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Numeric, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Digits)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::value::Array;

    fn read<T: de::DeserializeOwned>(values: &[(&str, Value)]) -> Result<T, Unfit> {
        let column = |name: &str| {
            Column::of(crate::protocol::Column { name: name.to_owned(), ..Default::default() })
        };
        let columns: Vec<Column> = values.iter().map(|(name, _)| column(name)).collect();
        let values = values.iter().map(|(_, value)| value.clone()).collect();
        T::deserialize(ColumnsDeserializer { columns: &columns, values })
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mood {
        Sad,
        Ok,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Account {
        id: i64,
        note: Option<String>,
        total: Numeric,
        at: Timestamp,
        mood: Mood,
        tags: Vec<String>,
    }

    #[test]
    fn a_row_becomes_a_struct_by_its_columns_names() {
        let array = Array {
            element_type: String::new(),
            dimensions: Vec::new(),
            elements: vec![Value::Text("x".into())],
        };
        let row = [
            ("id", Value::Int(1 << 60)),
            ("note", Value::Null),
            ("total", Value::Numeric(Numeric("1.50".to_owned()))),
            ("at", Value::TimestampTz(Timestamp::Infinity)),
            ("mood", Value::Other { type_name: "mood".to_owned(), text: "ok".to_owned() }),
            ("tags", Value::Array(array)),
        ];
        let expected = Account {
            id: 1 << 60,
            note: None,
            total: "1.50".parse().unwrap(),
            at: Timestamp::Infinity,
            mood: Mood::Ok,
            tags: vec!["x".to_owned()],
        };
        assert_eq!(read::<Account>(&row).unwrap(), expected);
        assert!(read::<Account>(&row[..5]).is_err());
    }

    #[test]
    fn tuples_single_values_and_maps_are_read() {
        let two = [("a", Value::Int(1)), ("b", Value::Bytes(vec![1, 2].into()))];
        assert_eq!(read::<(i32, Vec<u8>)>(&two).unwrap(), (1, vec![1, 2]));
        assert!(read::<(i32,)>(&two).is_err());
        assert!(read::<i32>(&two).is_err());
        assert_eq!(read::<i32>(&two[..1]).unwrap(), 1);
        assert_eq!(read::<Option<i32>>(&[("a", Value::Null)]).unwrap(), None);
        let map: BTreeMap<String, i64> = read(&two[..1]).unwrap();
        assert_eq!(map, BTreeMap::from([("a".to_owned(), 1)]));
    }

    #[test]
    fn what_would_be_rounded_is_an_error() {
        assert!(read::<i16>(&[("a", Value::Int(40_000))]).is_err());
        assert!(read::<f32>(&[("a", Value::Float(0.1))]).is_err());
        assert!(read::<f64>(&[("a", Value::Int(i64::MAX))]).is_err());
        assert!(read::<f64>(&[("a", Value::Numeric(Numeric("0.1".to_owned())))]).is_err());
    }
}
