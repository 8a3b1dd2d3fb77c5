//! A [`ValueSink`] that builds a [`Value`], for those who need the value itself.

use bytes::Bytes;

use crate::domain::pg_type::PgType;
use crate::domain::value::{Array, Date, Interval, Timestamp, Value};
use crate::value::array::Dimensions;
use crate::value::decode::decode_with;
use crate::value::error::DecodeError;
use crate::value::numeric::NumericCell;
use crate::value::options::TextOptions;
use crate::value::sink::ValueSink;

/// A cell as the value that a caller would give for it; `None` is NULL.
///
/// # Errors
///
/// As [`decode`](crate::value::decode).
pub fn to_value(
    ty: &PgType,
    cell: Option<&[u8]>,
    options: &TextOptions,
) -> Result<Value, DecodeError> {
    let Some(cell) = cell else { return Ok(Value::Null) };
    let mut collector = Collector::default();
    decode_with(ty, cell, options, &mut collector)?;
    Ok(collector.value.unwrap_or(Value::Null))
}

#[derive(Default)]
struct Collector {
    value: Option<Value>,
    /// The array that is being filled. PostgreSQL's arrays do not hold arrays.
    array: Option<Array>,
}

impl Collector {
    fn push(&mut self, value: Value) {
        match &mut self.array {
            Some(array) => array.elements.push(value),
            None => self.value = Some(value),
        }
    }
}

impl ValueSink for Collector {
    fn null(&mut self) {
        self.push(Value::Null);
    }

    fn bool(&mut self, value: bool) {
        self.push(Value::Bool(value));
    }

    fn int64(&mut self, value: i64) {
        self.push(Value::Int64(value));
    }

    fn double(&mut self, value: f64) {
        self.push(Value::Double(value));
    }

    fn numeric(&mut self, value: &NumericCell<'_>) {
        self.push(Value::Numeric(value.to_string()));
    }

    fn text(&mut self, value: &str) {
        self.push(Value::Text(value.to_owned()));
    }

    fn bytes(&mut self, value: &[u8]) {
        self.push(Value::Bytes(Bytes::copy_from_slice(value)));
    }

    fn timestamp(&mut self, value: Timestamp) {
        self.push(Value::Timestamp(value));
    }

    fn timestamptz(&mut self, value: Timestamp) {
        self.push(Value::TimestampTz(value));
    }

    fn date(&mut self, value: Date) {
        self.push(Value::Date(value));
    }

    fn time(&mut self, micros: i64) {
        self.push(Value::Time(micros));
    }

    fn interval(&mut self, value: Interval) {
        self.push(Value::Interval(value));
    }

    fn uuid(&mut self, text: &str) {
        self.push(Value::Uuid(text.to_owned()));
    }

    fn json(&mut self, text: &str) {
        self.push(Value::Json(text.to_owned()));
    }

    fn begin_array(&mut self, element_type: &str, dimensions: &Dimensions) {
        self.array = Some(Array {
            element_type: element_type.to_owned(),
            dimensions: dimensions.as_slice().to_vec(),
            elements: Vec::with_capacity(dimensions.element_count()),
        });
    }

    fn end_array(&mut self) {
        if let Some(array) = self.array.take() {
            self.push(Value::Array(array));
        }
    }

    fn other(&mut self, type_name: &str, text: &str) {
        self.push(Value::Other { type_name: type_name.to_owned(), text: text.to_owned() });
    }

    fn opaque(&mut self, type_name: &str, data: &[u8]) {
        self.push(Value::Opaque {
            type_name: type_name.to_owned(),
            data: Bytes::copy_from_slice(data),
        });
    }
}
