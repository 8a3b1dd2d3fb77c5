//! Keys, and the identity of writes.

use std::collections::BTreeMap;
use std::fmt;

use crate::domain::table::{TableName, TableRef};

/// Primary-key values as PostgreSQL's text, in the order of the key's columns.
pub type KeyValues = Vec<String>;

/// One row of one table of the primary, or the whole table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The table on the primary.
    pub table: TableName,
    /// `None` stands for the whole table: it was truncated.
    pub values: Option<KeyValues>,
}

/// Rows of a table, by columns that may be of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsOfTable {
    /// The table as a statement names it.
    pub table: TableRef,
    /// Columns with their values as PostgreSQL's text.
    pub rows: Vec<BTreeMap<String, String>>,
}

/// Names one write. Announced to the database by the session that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriteId(pub u128);

impl fmt::Display for WriteId {
    /// As a UUID in its canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_u128(self.0))
    }
}

/// A moment by the primary's clock, in microseconds since 2000-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxMark(pub i64);
