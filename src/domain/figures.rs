//! What the fleet measured in a window, both sides alike.

use std::time::Duration;

use crate::domain::side::Sides;

/// Statements of one kind on one side.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SideFigures {
    /// All of them.
    pub calls: u64,
    /// Those that failed by the side's doing: it was away, too slow, or could not run what the
    /// other side can.
    pub errors: u64,
    /// Median of the time to the first answer, in milliseconds.
    pub p50_ms: f64,
    /// The 95th percentile.
    pub p95_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}

/// All that the members measured under one revision of the control row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FleetFigures {
    /// The time that they cover at most.
    pub window: Duration,
    /// Members that reported under this revision.
    pub members: usize,
    /// Reads by the side that they ran on.
    pub reads: Sides<SideFigures>,
    /// Writes.
    pub writes: Sides<SideFigures>,
    /// Reads that were compared and judged.
    pub judged: u64,
    /// Of these, those with the verdict `data` or `error`.
    pub mismatches: u64,
}

// === impl SideFigures ===

impl SideFigures {
    /// Errors among the calls, 0 to 1; 0 where there were none.
    pub fn error_rate(&self) -> f64 {
        share(self.errors, self.calls)
    }
}

// === impl FleetFigures ===

impl FleetFigures {
    /// Mismatches among the judged samples, 0 to 1.
    pub fn mismatch_rate(&self) -> f64 {
        share(self.mismatches, self.judged)
    }
}

/// Both are counts of a window, far below what a float holds exactly.
#[allow(clippy::cast_precision_loss)]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The rate of mismatches that `samples` without a single one leave possible, at 95 %
/// confidence: the rule of three. Nothing below 30 samples, where the rule does not hold.
#[allow(clippy::cast_precision_loss)]
pub fn rule_of_three(samples: u64) -> Option<f64> {
    const LEAST: u64 = 30;
    (samples >= LEAST).then(|| 3.0 / samples as f64)
}
