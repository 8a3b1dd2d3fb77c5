//! Tables of the migration and how they correspond.

use std::fmt;

use crate::domain::side::Side;

/// A table's schema and name, both as the catalogue has them (no quoting).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl TableName {
    /// A table in a schema.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }

    /// `"schema"."name"`, quoted for SQL.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

impl fmt::Display for TableName {
    /// `schema.name`, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// A table as a statement names it: the schema is left to the search path where absent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableRef {
    /// The schema, where the statement names it.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

/// An identifier in double quotes, with quotes in it doubled.
pub fn quote_identifier(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A text in single quotes, safe for any setting of `standard_conforming_strings`.
pub fn quote_literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!(" E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// One table of the migration: its place on both sides. Columns go by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableMapping {
    /// Where it is on the source.
    pub source: TableName,
    /// Where it is on the target.
    pub target: TableName,
}

impl TableMapping {
    /// Where it is on a side.
    pub fn on(&self, side: Side) -> &TableName {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }
}
