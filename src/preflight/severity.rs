//! How heavy findings weigh.

use std::fmt;

/// How heavy a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The copy would diverge in silence, get stuck, or not be undoable: refused.
    Blocks,
    /// Nothing is lost by it, but somebody should have decided that it is all right.
    Warning,
    /// Worth knowing.
    Note,
}

// === impl Severity ===

impl Severity {
    /// `"blocks"`, `"warning"` or `"note"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
