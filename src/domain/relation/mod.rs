//! Tables as a database's catalogue describes them.

mod parts;

use crate::domain::table::TableName;

pub use parts::{
    Column, ForeignKey, Generated, Identity, KeyColumn, PrimaryKey, Rule, Trigger, UniqueIndex,
    text_equality,
};

/// What kind of relation a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A table that holds rows.
    Ordinary,
    /// A table whose rows are in its partitions.
    Partitioned,
    /// A foreign table.
    Foreign,
    /// A view, materialized or not.
    View,
    /// A sequence, an index or another relation without rows of its own.
    Other,
}

/// How long a relation's contents live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Survives a crash.
    Permanent,
    /// Emptied by a crash.
    Unlogged,
    /// Belongs to a session.
    Temporary,
}

/// One table with all that hangs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its schema and name.
    pub name: TableName,
    /// What it is.
    pub kind: TableKind,
    /// How long its rows live.
    pub persistence: Persistence,
    /// The role that owns it.
    pub owner: String,
    /// A partition of another table.
    pub is_partition: bool,
    /// Has parents or children by inheritance that is not partitioning.
    pub inherits: bool,
    /// Came with an extension.
    pub of_extension: bool,
    /// Filled by a subscription of logical replication, whose writes fire no ordinary trigger.
    pub subscribed: bool,
    /// Row security is on, and whether it binds the owner as well.
    pub row_security: RowSecurity,
    /// In the order of the table, dropped ones left out.
    pub columns: Vec<Column>,
    /// The primary key, where there is one.
    pub primary_key: Option<PrimaryKey>,
    /// Unique indexes besides the primary key.
    pub unique_indexes: Vec<UniqueIndex>,
    /// Foreign keys of this table to others.
    pub foreign_keys: Vec<ForeignKey>,
    /// All partitions below it, of every level.
    pub partitions: Vec<Partition>,
    /// Triggers but those that PostgreSQL makes for constraints.
    pub triggers: Vec<Trigger>,
    /// Rewrite rules.
    pub rules: Vec<Rule>,
}

/// Whether row security applies to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowSecurity {
    /// Not at all.
    Off,
    /// To all but the owner.
    On,
    /// To the owner as well.
    Forced,
}

/// A partition at any level below a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its schema and name.
    pub name: TableName,
    /// What it is: a foreign table can be one.
    pub kind: TableKind,
    /// How long its rows live.
    pub persistence: Persistence,
}

// === impl Table ===

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}
