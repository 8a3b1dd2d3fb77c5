//! The content of a write, hashed: what an idempotency key stands for.

use sha2::{Digest, Sha256};

use crate::domain::call::BoundStatement;
use crate::domain::value::{Array, Date, Interval, Timestamp, Value};

/// SHA-256 over statement texts and parameters. Every part is tagged and counted, so that no
/// two different writes run together into one text.
pub(super) fn hash(statements: &[BoundStatement]) -> [u8; 32] {
    let mut content = Content(Sha256::new());
    content.count(statements.len());
    for statement in statements {
        content.bytes(statement.sql.as_bytes());
        content.count(statement.params.len());
        for value in statement.params.iter() {
            content.value(value);
        }
    }
    content.0.finalize().into()
}

struct Content(Sha256);

impl Content {
    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }

    fn count(&mut self, count: usize) {
        self.0.update((count as u64).to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.update(bytes);
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.tag(tag);
        self.bytes(bytes);
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.tag(0),
            Value::Bool(value) => self.tagged(1, &[u8::from(*value)]),
            Value::Int64(value) => self.tagged(2, &value.to_be_bytes()),
            Value::Double(value) => self.tagged(3, &value.to_bits().to_be_bytes()),
            Value::Numeric(text) => self.tagged(4, text.as_bytes()),
            Value::Text(text) => self.tagged(5, text.as_bytes()),
            Value::Bytes(bytes) => self.tagged(6, bytes),
            Value::Timestamp(at) => self.timestamp(7, *at),
            Value::TimestampTz(at) => self.timestamp(8, *at),
            Value::Date(date) => self.date(*date),
            Value::Time(micros) => self.tagged(10, &micros.to_be_bytes()),
            Value::Interval(interval) => self.interval(*interval),
            Value::Uuid(text) => self.tagged(12, text.as_bytes()),
            Value::Json(text) => self.tagged(13, text.as_bytes()),
            Value::Array(array) => self.array(array),
            Value::Other { type_name, text } => {
                self.tagged(15, type_name.as_bytes());
                self.bytes(text.as_bytes());
            }
            Value::Opaque { type_name, data } => {
                self.tagged(16, type_name.as_bytes());
                self.bytes(data);
            }
        }
    }

    fn timestamp(&mut self, tag: u8, at: Timestamp) {
        self.tag(tag);
        match at {
            Timestamp::Infinity => self.tag(1),
            Timestamp::NegInfinity => self.tag(2),
            Timestamp::Finite { seconds, micros } => {
                self.tag(0);
                self.0.update(seconds.to_be_bytes());
                self.0.update(micros.to_be_bytes());
            }
        }
    }

    fn date(&mut self, date: Date) {
        self.tag(9);
        match date {
            Date::Infinity => self.tag(1),
            Date::NegInfinity => self.tag(2),
            Date::Finite(days) => self.tagged(0, &days.to_be_bytes()),
        }
    }

    fn interval(&mut self, interval: Interval) {
        self.tag(11);
        match interval {
            Interval::Infinity => self.tag(1),
            Interval::NegInfinity => self.tag(2),
            Interval::Finite { months, days, micros } => {
                self.tag(0);
                self.0.update(months.to_be_bytes());
                self.0.update(days.to_be_bytes());
                self.0.update(micros.to_be_bytes());
            }
        }
    }

    fn array(&mut self, array: &Array) {
        self.tagged(14, array.element_type.as_bytes());
        self.count(array.dimensions.len());
        for (length, lower_bound) in &array.dimensions {
            self.0.update(length.to_be_bytes());
            self.0.update(lower_bound.to_be_bytes());
        }
        self.count(array.elements.len());
        for element in &array.elements {
            self.value(element);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str, params: Vec<Value>) -> BoundStatement {
        BoundStatement { sql: sql.into(), name: None, params: params.into() }
    }

    #[test]
    fn only_the_same_content_has_the_same_hash() {
        let text = |text: &str| Value::Text(text.to_owned());
        let contents = [
            vec![statement("INSERT", vec![text("ab"), text("c")])],
            vec![statement("INSERT", vec![text("a"), text("bc")])],
            vec![statement("INSERT", vec![Value::Json("ab".to_owned()), text("c")])],
            vec![statement("INSERT", vec![Value::Null, text("c")])],
            vec![statement("INSERT", vec![]), statement("INSERT", vec![])],
            vec![statement("INSERT", vec![])],
            vec![statement("INSERT", vec![Value::Int64(1)])],
            vec![statement("INSERT", vec![Value::Time(1)])],
            vec![statement("INSERT", vec![Value::Timestamp(Timestamp::Infinity)])],
            vec![statement("INSERT", vec![Value::TimestampTz(Timestamp::Infinity)])],
        ];
        for (i, one) in contents.iter().enumerate() {
            for (j, other) in contents.iter().enumerate() {
                assert_eq!(hash(one) == hash(other), i == j, "{one:?} and {other:?}");
            }
        }
    }
}
