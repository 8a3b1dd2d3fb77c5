//! What verifying both sides finds.

use crate::domain::key::KeyValues;

/// A row that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its key on the primary, or on the shadow where only that has it.
    pub key: KeyValues,
    /// In what it differs.
    pub what: Discrepancy,
    /// What was done about it.
    pub repair: Repair,
}

/// In what a row differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discrepancy {
    /// The shadow does not have it.
    Missing,
    /// The shadow does not have it, and the backfill has not come to it.
    Uncopied,
    /// Only the shadow has it.
    Extra,
    /// These columns differ.
    Different(Vec<CellDifference>),
    /// It is on both sides, or may be, and cannot be read on one of them: whether it is equal is
    /// not known.
    Unread {
        /// Which side says what.
        reason: String,
    },
    /// It differs, and the outbox says why: it waits to be reconciled.
    Pending {
        /// Failed attempts.
        attempts: u32,
        /// Why the last one failed; empty where none did.
        last_error: String,
    },
}

/// A column of a row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellDifference {
    /// Its name.
    pub column: String,
    /// The primary's value as text; `None` is NULL.
    pub primary: Option<String>,
    /// The shadow's.
    pub shadow: Option<String>,
}

/// What was done about a row that differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Repair {
    /// Nothing.
    #[default]
    None,
    /// It was reconciled, and is equal now.
    Done,
    /// It could not be made equal, and why.
    Failed(String),
}

// === impl Discrepancy ===

impl Discrepancy {
    /// `missing`, `uncopied`, `extra`, `different`, `unread` or `pending`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Uncopied => "uncopied",
            Self::Extra => "extra",
            Self::Different(_) => "different",
            Self::Unread { .. } => "unread",
            Self::Pending { .. } => "pending",
        }
    }

    /// Whether it is a difference of data, and not a write or a copy on its way.
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Missing | Self::Extra | Self::Different(_))
    }

    /// Whether nobody knows if it is equal.
    pub fn is_unread(&self) -> bool {
        matches!(self, Self::Unread { .. })
    }

    /// Whether a reconcile now would make it equal: what waits in the outbox has its own.
    pub fn can_be_repaired(&self) -> bool {
        self.is_data() || *self == Self::Uncopied
    }
}

// === impl Finding ===

impl Finding {
    /// Whether the row is not equal even now.
    pub fn is_open(&self) -> bool {
        self.repair != Repair::Done
    }
}
