//! `serde_json::Value` as a value and as a parameter. Whether its numbers keep all digits is a matter of the feature
//! `arbitrary_precision` of that crate; [`crate::Json`] keeps the text.

use crate::from::{FromValue, unfit};
use crate::params::ToValue;
use crate::value::{Json, Value};

impl ToValue for serde_json::Value {
    fn to_value(&self) -> Result<Value, String> {
        Ok(Value::Json(Json(self.to_string())))
    }
}

impl FromValue for serde_json::Value {
    fn from_value(value: Value) -> Result<Self, String> {
        let Value::Json(document) = value else { return Err(unfit(&value, "a serde_json::Value")) };
        serde_json::from_str(&document.0).map_err(|error| error.to_string())
    }
}
