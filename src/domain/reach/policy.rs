//! What the configuration says of tables and functions that are not migrated.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use crate::domain::reach::catalogue::SYSTEM;
use crate::domain::side::Side;
use crate::domain::table::TableName;

/// A table, or all tables of a schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// One table.
    Table(TableName),
    /// All of a schema.
    Schema(String),
}

/// Where a table's statements go that is not migrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// To this side, in every phase.
    Side(Side),
    /// To the primary: both sides have the table, and it needs no copy.
    Primary,
}

/// What a function touches, as the configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// Tables of the migration, or none.
    Migrated,
    /// What this owner has.
    Of(Owner),
}

/// What the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Owners by table; a table takes precedence over its schema.
    pub stay: BTreeMap<Pattern, Owner>,
    /// Tables that are not migrated though they may be registered.
    pub excluded: BTreeSet<Pattern>,
    /// Where it is not empty, only these tables are migrated.
    pub mapped: BTreeSet<TableName>,
    /// What functions touch, by `schema.name`.
    pub functions: BTreeMap<TableName, Declared>,
    /// Functions that may run more than once for one call: built-in ones by name, others by
    /// `schema.name`.
    pub repeatable: BTreeSet<String>,
}

// === impl Pattern ===

impl Pattern {
    /// Whether it is meant.
    pub fn matches(&self, table: &TableName) -> bool {
        match self {
            Self::Table(name) => name == table,
            Self::Schema(schema) => *schema == table.schema,
        }
    }
}

// === impl Owner ===

impl FromStr for Owner {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "source" => Ok(Self::Side(Side::Source)),
            "target" => Ok(Self::Side(Side::Target)),
            "primary" => Ok(Self::Primary),
            _ => Err(()),
        }
    }
}

// === impl Policy ===

impl Policy {
    /// Who owns a table, where the configuration says so.
    pub fn owner(&self, table: &TableName) -> Option<Owner> {
        let by_table = self.stay.get(&Pattern::Table(table.clone()));
        by_table.or_else(|| self.stay.get(&Pattern::Schema(table.schema.clone()))).copied()
    }

    /// Whether the configuration keeps a table out of the migration.
    pub fn leaves_out(&self, table: &TableName) -> bool {
        self.owner(table).is_some()
            || self.excluded.iter().any(|pattern| pattern.matches(table))
            || !self.mapped.is_empty() && !self.mapped.contains(table)
    }

    /// Whether a function may run more than once for one call.
    pub fn may_repeat(&self, schema: &str, name: &str) -> bool {
        let built_in = schema == SYSTEM && self.repeatable.contains(name);
        built_in || self.repeatable.contains(&format!("{schema}.{name}"))
    }
}
