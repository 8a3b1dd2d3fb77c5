//! The counters themselves, and how they are shown.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::side::Side;
use crate::domain::verdict::Verdict;
use crate::telemetry::metrics::backfill::BackfillGauges;
use crate::telemetry::metrics::folded::FoldedGauges;
use crate::telemetry::metrics::foreign::ForeignGauges;
use crate::telemetry::metrics::labels::{
    CallLabels, Method, MethodLabels, PhaseLabels, Purpose, ReasonLabels, StatementLabels,
    VerdictLabels,
};
use crate::telemetry::metrics::latency::{Latency, LatencyCounts};
use crate::telemetry::metrics::snapshot::{CallTotals, OutboxState, SideTotals};
use crate::telemetry::metrics::table::Table;

const VERDICTS: [Verdict; 8] = [
    Verdict::Match,
    Verdict::Normalized,
    Verdict::Incompatible,
    Verdict::Error,
    Verdict::Data,
    Verdict::Pending,
    Verdict::Noise,
    Verdict::Skipped,
];

/// One field for each family.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: Table<CallLabels, Counter>,
    pub(super) call_seconds: Table<MethodLabels, Latency>,
    pub(super) statement_seconds: Table<StatementLabels, Latency>,
    pub(super) reconcile_batches: Counter,
    pub(super) reconcile_keys: Counter,
    pub(super) reconcile_rows_written: Counter,
    pub(super) reconcile_seconds: Latency,
    pub(super) reconcile_failures: Table<ReasonLabels, Counter>,
    pub(super) outbox_pending: Gauge<f64, AtomicU64>,
    pub(super) outbox_stuck: Gauge<f64, AtomicU64>,
    pub(super) outbox_oldest_age: Gauge<f64, AtomicU64>,
    pub(super) outbox_bytes: Gauge<f64, AtomicU64>,
    pub(super) outbox_pending_bytes: Gauge<f64, AtomicU64>,
    pub(super) folded: FoldedGauges,
    pub(super) outbox: Mutex<OutboxState>,
    pub(super) verify_chunks: Gauge<f64, AtomicU64>,
    pub(super) verify_proven: Gauge<f64, AtomicU64>,
    pub(super) verify_oldest_age: Gauge<f64, AtomicU64>,
    pub(super) samples_taken: Counter,
    pub(super) samples_dropped: Table<ReasonLabels, Counter>,
    pub(super) verdicts: Table<VerdictLabels, Counter>,
    pub(super) refused: Table<ReasonLabels, Counter>,
    pub(super) faults: Table<ReasonLabels, Counter>,
    pub(super) epoch: Gauge<f64, AtomicU64>,
    pub(super) phase: Table<PhaseLabels, Gauge>,
    pub(super) backfill: BackfillGauges,
    pub(super) foreign: ForeignGauges,
    pub(super) shifted: Gauge<f64, AtomicU64>,
    pub(super) shift_changes: Table<ReasonLabels, Counter>,
    pub(super) shift_fallbacks: Table<ReasonLabels, Counter>,
    pub(super) shift_unsettled: Table<ReasonLabels, Counter>,
    pub(super) answer_seconds: Table<StatementLabels, Latency>,
    pub(super) side_errors: Table<StatementLabels, Counter>,
}

// === impl Counters ===

impl Counters {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("calls", "Calls by method and gRPC code", self.calls.clone());
        registry.register("call_seconds", "Time of calls", self.call_seconds.clone());
        registry.register(
            "statement_seconds",
            "Time of statements on a database",
            self.statement_seconds.clone(),
        );
        self.register_reconcile(registry);
        self.backfill.register(registry);
        self.foreign.register(registry);
        registry.register(
            "samples_taken",
            "Reads that were run on the shadow and compared",
            self.samples_taken.clone(),
        );
        registry.register(
            "samples_dropped",
            "Selected reads that were not compared",
            self.samples_dropped.clone(),
        );
        registry.register("verdicts", "Comparisons by verdict", self.verdicts.clone());
        registry.register("refused", "Statements refused by a rule", self.refused.clone());
        registry.register("faults", "Failures that no caller sees", self.faults.clone());
        registry.register("control_epoch", "Epoch of the control row", self.epoch.clone());
        registry.register("control_phase", "1 for the present phase", self.phase.clone());
        self.register_shift(registry);
    }

    /// What is counted of calls and of samples, at zero.
    pub(super) fn make_call_series(&self) {
        for method in Method::ALL {
            let method = method.as_str();
            self.calls.at(&CallLabels { method, code: "OK" });
            self.call_seconds.at(&MethodLabels { method });
        }
        for side in [Side::Source, Side::Target].map(Side::as_str) {
            for purpose in Purpose::ALL {
                let purpose = purpose.as_str();
                self.statement_seconds.at(&StatementLabels { side, purpose });
            }
        }
        for reason in ["concurrency", "deadline", "memory", "suspects", "too_large", "unavailable"]
        {
            self.samples_dropped.at(&ReasonLabels::new(reason));
        }
        // The one that tells of lost rows.
        self.verdicts.at(&VerdictLabels { verdict: "data", category: "data".to_owned() });
    }

    /// What is counted while reads are shifted, at zero.
    pub(super) fn make_shift_series(&self) {
        for reason in ["step", "rollback", "operator", "reads_off", "reads_on"] {
            self.shift_changes.at(&ReasonLabels::new(reason));
        }
        for reason in
            ["token", "breaker", "timeout", "unavailable", "lost", "unwell", "refused", "reads_off"]
        {
            self.shift_fallbacks.at(&ReasonLabels::new(reason));
        }
        for reason in ["wait", "breaker"] {
            self.shift_unsettled.at(&ReasonLabels::new(reason));
        }
        for side in [Side::Source, Side::Target] {
            for purpose in [Purpose::Read, Purpose::Write] {
                // Looking makes them.
                let _ = self.side(side, purpose);
            }
        }
    }

    fn register_shift(&self, registry: &mut Registry) {
        registry.register(
            "shift_changes",
            "Changes of the share of the target's reads, made by this sidecar",
            self.shift_changes.clone(),
        );
        registry.register(
            "shift_fallbacks",
            "Reads that the source answered in place of the target",
            self.shift_fallbacks.clone(),
        );
        registry.register(
            "shift_unsettled",
            "Writes answered before their reconcile was done",
            self.shift_unsettled.clone(),
        );
        registry.register(
            "shift_target_percentage",
            "Share of the reads that goes to the target, 0 to 100",
            self.shifted.clone(),
        );
        registry.register(
            "answer_seconds",
            "Time of callers' statements to their first answer, by the side that ran them",
            self.answer_seconds.clone(),
        );
        registry.register(
            "side_errors",
            "Callers' statements that failed by the side's doing",
            self.side_errors.clone(),
        );
    }

    fn register_reconcile(&self, registry: &mut Registry) {
        registry.register(
            "reconcile_batches",
            "Batches of keys made equal on the shadow",
            self.reconcile_batches.clone(),
        );
        registry.register(
            "reconcile_keys",
            "Keys made equal on the shadow",
            self.reconcile_keys.clone(),
        );
        registry.register(
            "reconcile_rows_written",
            "Rows that differed and were written",
            self.reconcile_rows_written.clone(),
        );
        registry.register("reconcile_seconds", "Time of a batch", self.reconcile_seconds.clone());
        registry.register(
            "reconcile_failures",
            "Batches that stay in the outbox, by SQLSTATE or reason",
            self.reconcile_failures.clone(),
        );
        registry.register("outbox_pending", "Keys not yet reconciled", self.outbox_pending.clone());
        registry.register("outbox_stuck", "Keys that keep failing", self.outbox_stuck.clone());
        registry.register(
            "outbox_oldest_age_seconds",
            "Age of the oldest pending key",
            self.outbox_oldest_age.clone(),
        );
        registry.register("outbox_bytes", "Size on the primary", self.outbox_bytes.clone());
        registry.register(
            "outbox_pending_bytes",
            "Size of what is not yet reconciled, held against outbox.max_bytes",
            self.outbox_pending_bytes.clone(),
        );
        self.folded.register(registry);
        registry.register("verify_chunks", "Chunks of all tables", self.verify_chunks.clone());
        registry.register(
            "verify_chunks_proven",
            "Chunks that are proven equal and were not written since",
            self.verify_proven.clone(),
        );
        registry.register(
            "verify_oldest_proof_age_seconds",
            "Age of the oldest proof",
            self.verify_oldest_age.clone(),
        );
    }

    pub(super) fn totals(&self, methods: &[Method]) -> CallTotals {
        let wanted = |name: &str| methods.iter().any(|method| method.as_str() == name);
        let mut totals = CallTotals { latency: LatencyCounts::default(), ..CallTotals::default() };
        for (labels, count) in self.calls.all() {
            if wanted(labels.method) {
                totals.total += count.get();
                totals.failed += if labels.code == "OK" { 0 } else { count.get() };
            }
        }
        for (labels, latency) in self.call_seconds.all() {
            if wanted(labels.method) {
                totals.latency.merge(&latency.counts());
            }
        }
        totals
    }

    /// What one side did with one kind of statement.
    pub(super) fn side(&self, side: Side, purpose: Purpose) -> SideTotals {
        let labels = StatementLabels { side: side.as_str(), purpose: purpose.as_str() };
        SideTotals {
            errors: self.side_errors.at(&labels).get(),
            latency: self.answer_seconds.at(&labels).counts(),
        }
    }

    pub(super) fn by_verdict(&self) -> BTreeMap<Verdict, u64> {
        let mut sums = BTreeMap::new();
        for (labels, count) in self.verdicts.all().into_iter().filter(|(_, count)| count.get() > 0)
        {
            if let Some(verdict) = VERDICTS.into_iter().find(|v| v.as_str() == labels.verdict) {
                *sums.entry(verdict).or_default() += count.get();
            }
        }
        sums
    }
}

impl Table<ReasonLabels, Counter> {
    pub(super) fn by_reason(&self) -> BTreeMap<String, u64> {
        let counts = self.all().into_iter().map(|(labels, count)| (labels.reason, count.get()));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}
