//! One thing that was found.

use std::cmp::Ordering;
use std::fmt;

use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::preflight::codes::{Code, Severity};

/// One thing that was found, where, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing; severity and reason go with it.
    pub code: Code,
    /// Where it is to be mended, or is.
    pub side: Side,
    /// The table of that side, where it is about one.
    pub table: Option<TableName>,
    /// The column, constraint, trigger, sequence or setting; empty where it is the whole.
    pub object: String,
    /// What was found: lower case, without a full stop.
    pub found: String,
    /// Statements that mend it, to be read before they are run, each without a semicolon.
    pub sql: Vec<String>,
}

// === impl Finding ===

impl Finding {
    /// A finding about a whole side.
    pub fn new(code: Code, side: Side, found: impl Into<String>) -> Self {
        let (object, sql) = (String::new(), Vec::new());
        Self { code, side, table: None, object, found: found.into(), sql }
    }

    /// The same, about a table.
    #[must_use]
    pub fn table(mut self, table: &TableName) -> Self {
        self.table = Some(table.clone());
        self
    }

    /// The same, about a part of it.
    #[must_use]
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.object = object.into();
        self
    }

    /// The same, with a statement that mends it.
    #[must_use]
    pub fn sql(mut self, sql: impl Into<String>) -> Self {
        self.sql.push(sql.into());
        self
    }

    /// How heavy it weighs.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// `public.orders.note`, `public.orders`, `TimeZone`; empty for a whole side.
    pub fn place(&self) -> String {
        match &self.table {
            Some(table) if self.object.is_empty() => table.to_string(),
            Some(table) => format!("{table}.{}", self.object),
            None => self.object.clone(),
        }
    }

    /// The heaviest first, then by kind and place.
    pub fn order(&self, other: &Self) -> Ordering {
        let rank = |it: &Self| (it.severity(), it.code, it.side, it.place(), it.found.clone());
        rank(self).cmp(&rank(other))
    }
}

// === impl Code ===

impl Code {
    /// Whether a copy may begin although this was found: rows that the target refuses are named
    /// in the outbox, each with its reason, and hold nothing else up. Whatever would differ in
    /// silence is not among these.
    pub fn may_be_accepted(self) -> bool {
        matches!(
            self,
            Self::Encoding
                | Self::Narrower
                | Self::CoarserUnique
                | Self::EnumLabels
                | Self::NotNull
                | Self::CollationUnique
                | Self::DomainStricter
                | Self::CheckTarget
                | Self::UniqueTarget
                | Self::ExclusionTarget
                | Self::ForeignKeyAddedActive
                | Self::ForeignKeyOutsideActive
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
