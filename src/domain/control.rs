//! Where a migration stands: phase and epoch.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use crate::domain::fleet::MemberId;
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

    /// Whether a share of the reads is answered by the target, and writes await their reconcile.
    pub fn shifts(self) -> bool {
        matches!(self, Self::Shift | Self::Cutover)
    }

    /// The phase after this one; nothing after the last.
    pub fn next(self) -> Option<Self> {
        let at = Self::ALL.iter().position(|phase| *phase == self)?;
        Self::ALL.get(at + 1).copied()
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

/// A share of the reads, in hundredths of a percent: exact, so that two of them can be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Percentage(u16);

// === impl Percentage ===

impl Percentage {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(10_000);

    /// From 0 to 100; nothing where it is not in there.
    pub fn of(percent: f64) -> Option<Self> {
        // 10,000 fits, and what is between two hundredths is rounded.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        (0.0..=100.0).contains(&percent).then(|| Self((percent * 100.0).round() as u16))
    }

    /// From 0 to 100.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    /// Whether a position, evenly spread over 64 bits, lies within the share. What lies within
    /// a share lies within every larger one.
    pub fn holds(self, position: u64) -> bool {
        // The upper bits, scaled: no remainder, so no bias that could be seen.
        let scaled = (u128::from(position) * 10_000) >> 64;
        scaled < u128::from(self.0)
    }
}

impl fmt::Display for Percentage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

/// Tells two states of the control row apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Rises with every change of phase.
    pub epoch: u64,
    /// Rises with every change of the row, of the percentage also.
    pub revision: u64,
}

/// Why no read goes to the target, whatever the percentage says: it is not known to be a state
/// that the primary had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadsOff {
    /// In words for an operator.
    pub reason: String,
    /// Who applies in steps meanwhile, and puts an end to it; nobody where `shift` has begun.
    pub by: Option<MemberId>,
}

// === impl ReadsOff ===

impl ReadsOff {
    /// As `shift` begins: what was reconciled key by key is of different moments.
    pub fn at_the_beginning() -> Self {
        let reason = "shift has begun, and the target has not been brought to a state of the \
            primary yet"
            .to_owned();
        Self { reason, by: None }
    }
}

/// The row of `segue.control` in one database.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlRow {
    /// Epoch and phase.
    pub state: ControlState,
    /// Rises with every change of the row.
    pub revision: u64,
    /// Share of the reads that the target answers while they are shifted.
    pub target_percentage: Percentage,
    /// The schedule waits for an operator: the percentage was put back, or set by hand.
    pub held: bool,
    /// Why it was changed last.
    pub reason: String,
    /// Who changed it last.
    pub changed_by: String,
    /// When, by that database's clock.
    pub changed_at: SystemTime,
    /// Since when the phase holds, by that database's clock.
    pub phase_since: SystemTime,
    /// When every member had acknowledged the epoch, by that database's clock. The clocks of
    /// gates start here.
    pub settled_at: Option<SystemTime>,
    /// Why no read goes to the target, whatever the percentage says.
    pub reads_off: Option<ReadsOff>,
}

// === impl ControlRow ===

impl ControlRow {
    /// Which state of the row this is.
    pub fn version(&self) -> Version {
        Version { epoch: self.state.epoch, revision: self.revision }
    }

    /// The share of reads that goes to the target now: none but in the phases that shift, none
    /// until every write anywhere awaits its reconcile, and none while the target is between two
    /// states of the primary.
    pub fn shifted(&self) -> Percentage {
        match self.state.phase {
            _ if self.reads_off.is_some() => Percentage::ZERO,
            Phase::Shift if self.settled_at.is_some() => self.target_percentage,
            // Entered from a settled `shift` only: members of either await their reconciles.
            Phase::Cutover => self.target_percentage,
            _ => Percentage::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_exact_and_grows_by_adding() {
        assert_eq!(Percentage::of(0.1).map(Percentage::percent), Some(0.1));
        assert_eq!(
            (Percentage::of(100.0), Percentage::of(0.0)),
            (Some(Percentage::ALL), Some(Percentage::ZERO))
        );
        assert_eq!(
            (Percentage::of(-1.0), Percentage::of(100.1), Percentage::of(f64::NAN)),
            (None, None, None)
        );
        assert!(Percentage::ALL.holds(u64::MAX) && !Percentage::ZERO.holds(0));
        let (small, large) = (Percentage::of(5.0).unwrap(), Percentage::of(20.0).unwrap());
        let step = u64::MAX / 100_000;
        let within = |share: Percentage| (0..100_000).filter(|i| share.holds(i * step)).count();
        assert!((0..100_000).all(|i| !small.holds(i * step) || large.holds(i * step)));
        assert!(within(small).abs_diff(5_000) <= 1 && within(large).abs_diff(20_000) <= 1);
    }
}
