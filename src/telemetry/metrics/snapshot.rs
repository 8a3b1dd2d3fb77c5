//! What the status shows, read from the same counters as the scrape.

use std::collections::BTreeMap;

use crate::domain::side::Sides;
use crate::domain::verdict::Verdict;
use crate::telemetry::metrics::latency::LatencyCounts;

/// The state of the outbox as somebody last measured it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OutboxState {
    /// Keys not yet reconciled.
    pub pending: u64,
    /// Of these, how many failed so often that they count as stuck.
    pub stuck: u64,
    /// Age in seconds of the oldest pending row.
    pub oldest_age_s: f64,
    /// Bytes on the primary's disk, forgotten rows included.
    pub bytes: u64,
    /// Bytes of what is not yet reconciled.
    pub pending_bytes: u64,
}

/// Calls of one kind since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallTotals {
    /// All of them.
    pub total: u64,
    /// Those that did not end with `OK`.
    pub failed: u64,
    /// How long they took.
    pub latency: LatencyCounts,
}

/// All of it at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// `Query`.
    pub reads: CallTotals,
    /// `Execute` and `Batch`.
    pub writes: CallTotals,
    /// Samples of reads that were compared.
    pub samples_taken: u64,
    /// Samples that were not, by reason.
    pub samples_dropped: BTreeMap<String, u64>,
    /// Comparisons by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Keys made equal on the shadow.
    pub reconciled_keys: u64,
    /// Failed batches of reconcile.
    pub reconcile_failures: u64,
    /// The outbox.
    pub outbox: OutboxState,
    /// Refused statements by reason.
    pub refused: BTreeMap<String, u64>,
}

/// Statements of one kind on one side since the start, to their first answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SideTotals {
    /// Those that failed by the side's doing.
    pub errors: u64,
    /// How long all of them took.
    pub latency: LatencyCounts,
}

/// What both sides did since the start, measured alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// Callers' reads.
    pub reads: Sides<SideTotals>,
    /// Callers' writes.
    pub writes: Sides<SideTotals>,
    /// Samples that got a verdict on the data.
    pub judged: u64,
    /// Of these, those with the verdict `data` or `error`.
    pub mismatches: u64,
}
