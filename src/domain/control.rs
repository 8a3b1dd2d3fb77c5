//! Where a migration stands: phase and epoch.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use crate::domain::side::Side;

/// The phase of a migration, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Reads and writes on the source; nothing is captured.
    SourceOnly,
    /// Writes on the source are captured and reconciled to the target.
    DualWrite,
    /// As `DualWrite`, and a sample of the reads is compared on the target.
    ShadowRead,
    /// A share of the reads is answered by the target.
    Shift,
    /// Writes are held until the target has become the primary.
    Cutover,
    /// The target is the primary, the source is kept current.
    Reversed,
    /// The target alone; the migration is done.
    TargetOnly,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Self; 7] = [
        Self::SourceOnly,
        Self::DualWrite,
        Self::ShadowRead,
        Self::Shift,
        Self::Cutover,
        Self::Reversed,
        Self::TargetOnly,
    ];

    /// The name used in configuration, in `segue.control` and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceOnly => "source_only",
            Self::DualWrite => "dual_write",
            Self::ShadowRead => "shadow_read",
            Self::Shift => "shift",
            Self::Cutover => "cutover",
            Self::Reversed => "reversed",
            Self::TargetOnly => "target_only",
        }
    }

    /// The side that is the source of truth.
    pub fn primary(self) -> Side {
        match self {
            Self::SourceOnly | Self::DualWrite | Self::ShadowRead | Self::Shift | Self::Cutover => {
                Side::Source
            }
            Self::Reversed | Self::TargetOnly => Side::Target,
        }
    }

    /// The side that follows, where one does.
    pub fn shadow(self) -> Option<Side> {
        match self {
            Self::SourceOnly | Self::TargetOnly => None,
            Self::DualWrite | Self::ShadowRead | Self::Shift | Self::Cutover | Self::Reversed => {
                Some(self.primary().other())
            }
        }
    }

    /// Whether writes on the primary are captured and reconciled to the shadow.
    pub fn captures(self) -> bool {
        self.shadow().is_some()
    }

    /// Whether a sample of the reads is compared on the shadow.
    pub fn samples(self) -> bool {
        matches!(self, Self::ShadowRead | Self::Shift | Self::Cutover | Self::Reversed)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown phase {0:?}; the phases are source_only, dual_write, shadow_read, shift, cutover, reversed, target_only"
)]
pub struct UnknownPhase(pub String);

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|phase| phase.as_str() == text)
            .ok_or_else(|| UnknownPhase(text.to_owned()))
    }
}

/// What `segue.control` says. Read once at a call's admission and carried with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlState {
    /// Rises with every change of phase or of a gate.
    pub epoch: u64,
    /// Where the migration stands.
    pub phase: Phase,
}

/// The row of `segue.control` in one database.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlRow {
    /// Epoch and phase.
    pub state: ControlState,
    /// Share of the reads that the target answers while they are shifted, 0 to 100.
    pub target_percentage: f64,
    /// Why it was changed last.
    pub reason: String,
    /// Who changed it last.
    pub changed_by: String,
    /// When, by that database's clock.
    pub changed_at: SystemTime,
}
