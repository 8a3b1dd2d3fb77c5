//! Rules for the comparer, as an operator writes them.

use crate::config::layers::RawTable;
use crate::config::reader::Reader;
use crate::domain::pattern::TablePattern;
use crate::domain::table::TableName;

/// One rule: what it is about, and what it says. Absent parts of the first match everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CompareRule {
    /// A statement's name from the query files, or its fingerprint.
    pub statement: Option<String>,
    /// A table of the source.
    pub table: Option<TableName>,
    /// A column, by its name in the answer.
    pub column: Option<String>,
    /// Digits of a second that count, 0 to 6.
    pub precision: Option<u8>,
    /// Not compared at all.
    pub ignore: bool,
    /// Floats are equal where they differ by at most this share of the larger one.
    pub float_tolerance: Option<f64>,
    /// The order of rows does not count.
    pub unordered: bool,
}

/// Names of a rule's fields.
pub(super) const FIELDS: &[&str] =
    &["statement", "table", "column", "precision", "ignore", "float_tolerance", "unordered"];

// === impl CompareRule ===

impl CompareRule {
    pub(super) fn read(reader: &mut Reader, table: &RawTable) -> Self {
        let mut rule = Self::default();
        for (name, (value, origin)) in &table.fields {
            if let Err(message) = rule.set(name, value) {
                reader.fault_at(origin, &format!("compare.rules.{name}"), value, message);
            }
        }
        let says = rule.precision.is_some()
            || rule.ignore
            || rule.float_tolerance.is_some()
            || rule.unordered;
        let complain = |reader: &mut Reader, message: &str| {
            reader.fault_at(&table.origin, "compare.rules", "", message.to_owned());
        };
        if !says && !table.fields.is_empty() {
            let message =
                "the rule says nothing; add precision, ignore, float_tolerance or unordered";
            complain(reader, message);
        }
        if rule.statement.is_none() && rule.table.is_none() && rule.column.is_none() {
            complain(reader, "the rule is about nothing; name a statement, a table or a column");
        }
        if rule.ignore && rule.column.is_none() {
            let message = "ignoring all columns would compare nothing; name the column, \
                           or set sampling.statements to 0 for the statement";
            complain(reader, message);
        }
        rule
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let flag = || value.parse().map_err(|_| "is neither true nor false".to_owned());
        match name {
            "statement" => self.statement = Some(value.to_owned()),
            "table" => self.table = Some(table_name(value)?),
            "column" => self.column = Some(value.to_owned()),
            "ignore" => self.ignore = flag()?,
            "unordered" => self.unordered = flag()?,
            "precision" => match value.parse() {
                Ok(digits @ 0..=6) => self.precision = Some(digits),
                _ => return Err("is not between 0 and 6".to_owned()),
            },
            "float_tolerance" => match value.parse::<f64>() {
                Ok(share) if share > 0.0 && share < 1.0 => self.float_tolerance = Some(share),
                _ => return Err("is not a number above 0 and below 1".to_owned()),
            },
            other => {
                let meant = crate::config::fault::nearest(other, FIELDS.iter().copied());
                return Err(crate::config::layers::unknown("key", meant));
            }
        }
        Ok(())
    }
}

/// `schema.table`, `schema.*` or `*`.
pub(super) fn table_pattern(text: &str) -> Result<TablePattern, String> {
    if text == "*" {
        return Ok(TablePattern::All);
    }
    match split_quoted(text).as_slice() {
        [schema, name] if name == "*" && !schema.is_empty() && !text.ends_with('"') => {
            Ok(TablePattern::Schema(schema.clone()))
        }
        _ => table_name(text)
            .map(TablePattern::Table)
            .map_err(|_| "is not schema.table, schema.* or *; write \"public.orders\"".to_owned()),
    }
}

/// `schema.table`, either part in double quotes where it holds a dot.
pub(super) fn table_name(text: &str) -> Result<TableName, String> {
    let parts = split_quoted(text);
    match parts.as_slice() {
        [schema, name] if !schema.is_empty() && !name.is_empty() => {
            Ok(TableName::new(schema.clone(), name.clone()))
        }
        _ => Err("is not schema.table; write \"public.orders\"".to_owned()),
    }
}

fn split_quoted(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let doubled = quoted && c == '"' && chars.peek() == Some(&'"');
        match c {
            '"' if !doubled => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            _ => {
                if doubled {
                    chars.next();
                }
                parts.last_mut().map(|part| part.push(c)).unwrap_or_default();
            }
        }
    }
    if quoted { Vec::new() } else { parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_by_name() {
        assert_eq!(table_name("public.orders"), Ok(TableName::new("public", "orders")));
        let odd = table_name(r#""my.schema"."say ""hi""""#);
        assert_eq!(odd, Ok(TableName::new("my.schema", "say \"hi\"")));
        for wrong in ["orders", "a.b.c", ".b", "a.", "\"a.b"] {
            assert!(table_name(wrong).is_err(), "{wrong}");
        }
    }
}
