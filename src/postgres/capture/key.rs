//! How a key is written into the outbox, and read from it. The only place that knows.

use crate::domain::key::KeyValues;
use crate::domain::table::quote_identifier;
use crate::postgres::catalog::KeyColumn;

/// The key that stands for all rows.
pub(super) const WHOLE_TABLE: &str = "NULL::pg_catalog.text[]";

/// Settings that the text of some type depends on. `DateStyle` is a list of two.
const DATE_STYLE: (&str, &str) = ("DateStyle", "ISO, YMD");
const TIME_ZONE: (&str, &str) = ("TimeZone", "UTC");
const INTERVAL_STYLE: (&str, &str) = ("IntervalStyle", "postgres");
const FLOAT_DIGITS: (&str, &str) = ("extra_float_digits", "1");
const BYTEA_OUTPUT: (&str, &str) = ("bytea_output", "hex");
const MONETARY: (&str, &str) = ("lc_monetary", "C");

/// Types of `pg_catalog` whose text is the same under all settings.
const PLAIN: [&str; 20] = [
    "bool", "char", "int2", "int4", "int8", "oid", "text", "varchar", "bpchar", "name", "uuid",
    "numeric", "time", "timetz", "inet", "cidr", "macaddr", "macaddr8", "bit", "varbit",
];

/// SQL for the key of `row`, whose columns are as in the table.
pub(super) fn expression(row: &str, key: &[KeyColumn]) -> String {
    let values: Vec<String> = key.iter().map(|column| text(row, column)).collect();
    // The collation makes the comparison of keys one of bytes: keys that are equal to their
    // type but not in their text are two keys here.
    format!("ARRAY[{}]", values.join(", "))
}

/// A cast to text is used for the types of the system only. Others may have a cast with a
/// function of the application's making, which has no business in a function of segue's;
/// `format` takes the type's own output.
fn text(row: &str, column: &KeyColumn) -> String {
    let value = format!("{row}.{}", quote_identifier(&column.name));
    if column.base_schema == "pg_catalog" {
        format!("{value}::pg_catalog.text COLLATE pg_catalog.\"C\"")
    } else {
        format!("pg_catalog.format('%s', {value}) COLLATE pg_catalog.\"C\"")
    }
}

/// SQL that is true of an updated row whose key changed, in its bytes if not in its value.
pub(super) fn changed(key: &[KeyColumn]) -> String {
    let columns: Vec<String> = key
        .iter()
        .map(|column| {
            let name = quote_identifier(&column.name);
            if column.text_equality {
                format!("OLD.{name} OPERATOR(pg_catalog.<>) NEW.{name}")
            } else {
                // The session's settings could hide a difference between texts.
                format!("pg_catalog.record_image_ne(ROW(OLD.{name}), ROW(NEW.{name}))")
            }
        })
        .collect();
    columns.join(" OR ")
}

/// The settings that the key's text depends on, with the value they are to have.
pub(super) fn pins(key: &[KeyColumn]) -> Vec<(&'static str, &'static str)> {
    let mut pins: Vec<(&str, &str)> = Vec::new();
    for column in key {
        let of_column: &[(&str, &str)] = match column.base_type.as_str() {
            // An enumeration's label is its text.
            _ if column.base_schema != "pg_catalog" && column.text_equality => &[],
            _ if column.base_schema != "pg_catalog" => &ALL_PINS,
            "date" | "timestamp" => &[DATE_STYLE],
            "timestamptz" => &[DATE_STYLE, TIME_ZONE],
            "interval" => &[INTERVAL_STYLE],
            "float4" | "float8" => &[FLOAT_DIGITS],
            "bytea" => &[BYTEA_OUTPUT],
            "money" => &[MONETARY],
            plain if PLAIN.contains(&plain) => &[],
            // Arrays, ranges and the like may hold any of them.
            _ => &ALL_PINS,
        };
        for pin in of_column {
            if !pins.contains(pin) {
                pins.push(*pin);
            }
        }
    }
    pins
}

const ALL_PINS: [(&str, &str); 6] =
    [DATE_STYLE, TIME_ZONE, INTERVAL_STYLE, FLOAT_DIGITS, BYTEA_OUTPUT, MONETARY];

/// A key as the outbox has it, in the terms of the domain: `None` is the whole table.
pub fn decode(stored: Option<Vec<String>>) -> Option<KeyValues> {
    stored
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(schema: &str, base: &str, text_equality: bool) -> KeyColumn {
        KeyColumn {
            name: "Weird \"Name\"".into(),
            base_type: base.into(),
            base_schema: schema.into(),
            text_equality,
        }
    }

    #[test]
    fn names_are_quoted_and_operators_are_the_systems() {
        let key = [column("pg_catalog", "int8", true), column("pg_catalog", "numeric", false)];
        assert_eq!(
            changed(&key),
            "OLD.\"Weird \"\"Name\"\"\" OPERATOR(pg_catalog.<>) NEW.\"Weird \"\"Name\"\"\" \
             OR pg_catalog.record_image_ne(ROW(OLD.\"Weird \"\"Name\"\"\"), ROW(NEW.\"Weird \"\"Name\"\"\"))"
        );
    }

    #[test]
    fn only_the_settings_that_a_key_depends_on_are_pinned() {
        assert!(pins(&[column("pg_catalog", "int8", true)]).is_empty());
        assert!(pins(&[column("public", "mood", true)]).is_empty());
        assert_eq!(
            pins(&[column("pg_catalog", "timestamptz", true)]),
            [("DateStyle", "ISO, YMD"), ("TimeZone", "UTC")]
        );
        assert_eq!(pins(&[column("public", "citext", false)]).len(), 6);
    }
}
