//! The generic tree itself.
//!
//! A statement of ten thousand parameters has some ninety thousand nodes. As JSON each would be
//! a map of its own with copies of its fields' names, and the tree a thousand times as large as
//! the text; here a node is a sorted list of fields, and the names are the parser's own.

use std::fmt::Display;

use serde::ser::{self, Serialize, Serializer};

/// A part of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Number(i64),
    Text(Box<str>),
    List(Box<[Value]>),
    /// A node's fields by their names, sorted.
    Fields(Box<[(&'static str, Value)]>),
}

// === impl Value ===

impl Value {
    /// The tree of anything that the parser gives.
    ///
    /// # Errors
    ///
    /// Where it holds what no parse tree has, such as a map.
    pub(crate) fn of(parsed: &impl Serialize) -> Result<Self, Unfit> {
        parsed.serialize(Builder)
    }

    pub(crate) fn get(&self, field: &str) -> Option<&Self> {
        let fields = self.fields()?;
        let at = fields.binary_search_by_key(&field, |(name, _)| name).ok()?;
        fields.get(at).map(|(_, value)| value)
    }

    pub(crate) fn fields(&self) -> Option<&[(&'static str, Self)]> {
        match self {
            Self::Fields(fields) => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self, Self::Fields(_))
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        self.as_i64().and_then(|number| u64::try_from(number).ok())
    }
}

/// What no parse tree has.
#[derive(Debug, thiserror::Error)]
#[error("a parse tree with {0}")]
pub(crate) struct Unfit(String);

impl ser::Error for Unfit {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn unfit<T>(what: &str) -> Result<T, Unfit> {
    Err(Unfit(what.to_owned()))
}

fn number(number: impl TryInto<i64>) -> Result<Value, Unfit> {
    number.try_into().map(Value::Number).or_else(|_| unfit("a number beyond 64 bits"))
}

struct Builder;

/// A list, or the fields of a node, on its way.
struct Items(Vec<Value>);
struct Node(Vec<(&'static str, Value)>);

impl Serializer for Builder {
    type Ok = Value;
    type Error = Unfit;
    type SerializeSeq = Items;
    type SerializeStruct = Node;
    type SerializeTuple = ser::Impossible<Value, Unfit>;
    type SerializeTupleStruct = ser::Impossible<Value, Unfit>;
    type SerializeTupleVariant = ser::Impossible<Value, Unfit>;
    type SerializeMap = ser::Impossible<Value, Unfit>;
    type SerializeStructVariant = ser::Impossible<Value, Unfit>;

    fn serialize_bool(self, value: bool) -> Result<Value, Unfit> {
        Ok(Value::Bool(value))
    }

    fn serialize_i8(self, value: i8) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_i16(self, value: i16) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_i32(self, value: i32) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_i64(self, value: i64) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_u8(self, value: u8) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_u16(self, value: u16) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_u32(self, value: u32) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_u64(self, value: u64) -> Result<Value, Unfit> {
        number(value)
    }

    fn serialize_f32(self, _: f32) -> Result<Value, Unfit> {
        unfit("a float")
    }

    fn serialize_f64(self, _: f64) -> Result<Value, Unfit> {
        unfit("a float")
    }

    fn serialize_char(self, value: char) -> Result<Value, Unfit> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<Value, Unfit> {
        Ok(Value::Text(text.into()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Value, Unfit> {
        unfit("bytes")
    }

    fn serialize_none(self) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Unfit> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Unfit> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, Unfit> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Unfit> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Unfit> {
        Ok(Value::Fields(Box::new([(variant, value.serialize(self)?)])))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Items, Unfit> {
        Ok(Items(Vec::with_capacity(length.unwrap_or(0))))
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unfit> {
        unfit("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Unfit> {
        unfit("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unfit> {
        unfit("a tuple")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unfit> {
        unfit("a map")
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Node, Unfit> {
        Ok(Node(Vec::with_capacity(length)))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unfit> {
        unfit("a variant with fields")
    }
}

impl ser::SerializeSeq for Items {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unfit> {
        self.0.push(value.serialize(Builder)?);
        Ok(())
    }

    fn end(self) -> Result<Value, Unfit> {
        Ok(Value::List(self.0.into()))
    }
}

impl ser::SerializeStruct for Node {
    type Ok = Value;
    type Error = Unfit;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        self.0.push((name, value.serialize(Builder)?));
        Ok(())
    }

    fn end(mut self) -> Result<Value, Unfit> {
        self.0.sort_unstable_by_key(|(name, _)| *name);
        Ok(Value::Fields(self.0.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Value) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => (*number).into(),
            Value::Text(text) => text.to_string().into(),
            Value::List(items) => items.iter().map(json).collect(),
            Value::Fields(fields) => {
                fields.iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect()
            }
        }
    }

    #[test]
    fn it_is_what_the_parser_gives() {
        for sql in [
            "SELECT 1, 'text', NULL, true, 1.5, -9223372036854775808, $1::int4[], \"Ü\".*",
            "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT * FROM t LIMIT 3",
            "INSERT INTO a (b) VALUES (1), (2) ON CONFLICT (b) DO UPDATE SET c = 1 RETURNING *",
            "CREATE TABLE x (id int PRIMARY KEY) PARTITION BY HASH (id)",
        ] {
            let parsed = pg_query::parse(sql, 0).unwrap().protobuf;
            let tree = Value::of(&parsed).unwrap();
            assert_eq!(json(&tree), serde_json::to_value(&parsed).unwrap(), "{sql}");
        }
    }
}
