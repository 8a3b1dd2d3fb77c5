//! `uuid::Uuid` as a value and as a parameter.

use ::uuid::Uuid;

use crate::from::FromValue;
use crate::params::ToValue;
use crate::value::{self, Value};

impl ToValue for Uuid {
    fn to_value(&self) -> Result<Value, String> {
        Ok(Value::Uuid(value::Uuid(*self.as_bytes())))
    }
}

impl FromValue for Uuid {
    fn from_value(value: Value) -> Result<Self, String> {
        value::Uuid::from_value(value).map(|it| Self::from_bytes(it.0))
    }
}
