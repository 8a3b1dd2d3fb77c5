//! What a trigger fires for.

/// What every trigger of capture is named by.
pub(super) const TRIGGER_PREFIX: &str = "segue_capture_";

/// What a trigger waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Insert,
    /// New keys; old ones too where rows can move between partitions.
    Update,
    Delete,
    Truncate,
    /// Old keys of rows whose key was updated.
    Key,
}

// === impl Event ===

impl Event {
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Key => "key",
        }
    }

    /// The trigger's name.
    pub(super) fn trigger(self) -> String {
        format!("{TRIGGER_PREFIX}{}", self.suffix())
    }

    /// `pg_trigger.tgtype`: bit 0 row, 2 insert, 3 delete, 4 update, 5 truncate; all after.
    pub(super) fn catalogue_type(self) -> i16 {
        match self {
            Self::Insert => 4,
            Self::Delete => 8,
            Self::Update => 16,
            Self::Truncate => 32,
            Self::Key => 17,
        }
    }
}
