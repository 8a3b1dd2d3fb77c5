//! Every number that segue counts.
//!
//! One method for each event, so that nobody spells a label: what can be counted is the list
//! of methods here, and what is scraped is what the status shows.

mod backfill;
mod counters;
mod folded;
mod foreign;
mod labels;
pub mod latency;
mod plain;
mod probe;
mod process;
pub mod snapshot;
mod table;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::domain::backfill::BackfillProgress;
use crate::domain::control::{ControlState, Percentage, Phase};
use crate::domain::foreign::ForeignWrites;
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::status::{FoldedTable, VerifyStatus};
use crate::domain::verdict::Verdict;
use crate::telemetry::retries::Retries;

use counters::Counters;
use labels::{
    CallLabels, MethodLabels, PhaseLabels, ReasonLabels, StatementLabels, VerdictLabels, label,
};
pub use labels::{Method, Purpose};
pub use plain::PLAIN_CONTENT_TYPE;
use probe::Probes;
pub use probe::{MemoryState, PoolState};
use process::Process;
pub use snapshot::{CallTotals, OutboxState, SideTotals, Snapshot, Totals};

/// The type of the text that [`Metrics::render`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Background work has failed the same way for so long that it was told.
const RETRIES_ALIKE: &str = "retries_alike";

/// What [`Metrics::fault`] is told of.
const FAULTS: [&str; 17] = [
    "capture_off",
    "control_unreadable",
    "cutover_waits",
    "outbox_unreadable",
    "outbox_window_shrunk",
    "outbox_folded",
    "uncaptured",
    "capture_drift",
    "foreign_writes",
    "sweep_difference",
    "sweep_unread",
    "lease_unrenewed",
    "fleet_unreadable",
    "silent_ended",
    "another_database",
    "went_back",
    RETRIES_ALIKE,
];

/// All counters of one process. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    /// Of the process, whose names have no prefix of segue's.
    process: Registry,
    counters: Counters,
    probes: Probes,
    retries: Retries,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let counters = Counters::default();
        // A rate can only be told from a series that was there before.
        for reason in FAULTS {
            counters.faults.at(&ReasonLabels::new(reason));
        }
        counters.make_call_series();
        counters.make_shift_series();
        let probes = Probes::default();
        let mut registry = Registry::with_prefix("segue");
        counters.register(&mut registry);
        registry.register_collector(Box::new(probes.clone()));
        let mut process = Registry::with_prefix("process");
        process.register_collector(Box::new(Process));
        let retries = Retries::counting(counters.faults.at(&ReasonLabels::new(RETRIES_ALIKE)));
        Self { shared: Arc::new(Shared { registry, process, counters, probes, retries }) }
    }

    /// A call has ended. `code` is the name of its gRPC code: `OK`, `ABORTED`.
    pub fn call(&self, method: Method, code: &'static str, elapsed: Duration) {
        let method = method.as_str();
        self.shared.counters.calls.at(&CallLabels { method, code }).inc();
        self.shared.counters.call_seconds.at(&MethodLabels { method }).observe(elapsed);
    }

    /// A statement has ended on a side, well or not.
    pub fn statement(&self, side: Side, purpose: Purpose, elapsed: Duration) {
        let labels = StatementLabels { side: side.as_str(), purpose: purpose.as_str() };
        self.shared.counters.statement_seconds.at(&labels).observe(elapsed);
    }

    /// A caller's statement has its first answer from a side, or none. `failed` where that was
    /// the side's doing.
    pub fn statement_ended(&self, side: Side, purpose: Purpose, elapsed: Duration, failed: bool) {
        let labels = StatementLabels { side: side.as_str(), purpose: purpose.as_str() };
        self.shared.counters.answer_seconds.at(&labels).observe(elapsed);
        if failed {
            self.shared.counters.side_errors.at(&labels).inc();
        }
    }

    /// A statement that had ended before turned out to have failed by the side's doing.
    pub fn side_failed(&self, side: Side, purpose: Purpose) {
        let labels = StatementLabels { side: side.as_str(), purpose: purpose.as_str() };
        self.shared.counters.side_errors.at(&labels).inc();
    }

    /// What both sides did since the start.
    pub fn totals(&self) -> Totals {
        let of = |purpose| Sides {
            source: self.shared.counters.side(Side::Source, purpose),
            target: self.shared.counters.side(Side::Target, purpose),
        };
        let verdicts = self.shared.counters.by_verdict();
        let count = |verdict: Verdict| verdicts.get(&verdict).copied().unwrap_or_default();
        let mismatches = count(Verdict::Data) + count(Verdict::Error);
        let equal = count(Verdict::Match) + count(Verdict::Normalized);
        Totals {
            reads: of(Purpose::Read),
            writes: of(Purpose::Write),
            judged: equal + mismatches + count(Verdict::Incompatible),
            mismatches,
        }
    }

    /// A batch of keys was made equal on the shadow; `rows_written` of them differed.
    pub fn reconciled(&self, keys: u64, rows_written: u64, elapsed: Duration) {
        self.shared.counters.reconcile_batches.inc();
        self.shared.counters.reconcile_keys.inc_by(keys);
        self.shared.counters.reconcile_rows_written.inc_by(rows_written);
        self.shared.counters.reconcile_seconds.observe(elapsed);
    }

    /// A batch of keys stays in the outbox. `reason` is a SQLSTATE, or a word of segue's own
    /// such as `deadline`.
    pub fn reconcile_failed(&self, reason: &str) {
        self.shared.counters.reconcile_failures.at(&ReasonLabels::new(reason)).inc();
    }

    /// The outbox as it was just measured.
    pub fn outbox(&self, state: OutboxState) {
        let counters = &self.shared.counters;
        counters.outbox_pending.set(state.pending as f64);
        counters.outbox_stuck.set(state.stuck as f64);
        counters.outbox_oldest_age.set(state.oldest_age_s);
        counters.outbox_bytes.set(state.bytes as f64);
        counters.outbox_pending_bytes.set(state.pending_bytes as f64);
        *counters.outbox.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Tables that are pending as a whole, or as ranges, as they were just listed.
    pub fn folded(&self, found: &[FoldedTable]) {
        self.shared.counters.folded.set(found);
    }

    /// The copy of the history as it was just measured.
    pub fn backfill(&self, progress: &BackfillProgress) {
        self.shared.counters.backfill.set(progress);
    }

    /// Who wrote on the side that follows, as it was just listed.
    pub fn foreign(&self, found: &ForeignWrites) {
        self.shared.counters.foreign.set(found);
    }

    /// What verify has proven, as it was just looked up.
    pub fn verified(&self, status: &VerifyStatus) {
        let counters = &self.shared.counters;
        counters.verify_chunks.set(status.chunks as f64);
        counters.verify_proven.set(status.proven as f64);
        counters.verify_oldest_age.set(status.oldest_age_s);
    }

    /// A read was run on the shadow and compared.
    pub fn sample_taken(&self) {
        self.shared.counters.samples_taken.inc();
    }

    /// A read was selected and could not be compared: `concurrency`, `too_large`, `deadline`.
    pub fn sample_dropped(&self, reason: &str) {
        self.shared.counters.samples_dropped.at(&ReasonLabels::new(reason)).inc();
    }

    /// A comparison has its final verdict.
    pub fn verdict(&self, verdict: Verdict, category: &str) {
        let labels = VerdictLabels { verdict: verdict.as_str(), category: label(category) };
        self.shared.counters.verdicts.at(&labels).inc();
    }

    /// A statement was refused by a rule of segue: `refused.ddl`.
    pub fn refused(&self, reason: Reason) {
        self.shared.counters.refused.at(&ReasonLabels::new(reason.as_str())).inc();
    }

    /// Something of segue's own went wrong that no caller sees: one of `FAULTS`.
    pub fn fault(&self, reason: &str) {
        self.shared.counters.faults.at(&ReasonLabels::new(reason)).inc();
    }

    /// Attempts of background work.
    pub fn retries(&self) -> &Retries {
        &self.shared.retries
    }

    /// The share of the target's reads was changed by this member: `step`, `rollback`,
    /// `operator`.
    pub fn shift_changed(&self, kind: &str) {
        self.shared.counters.shift_changes.at(&ReasonLabels::new(kind)).inc();
    }

    /// A read that the target was to answer was answered by the source.
    pub fn shift_fallback(&self, reason: &str) {
        self.shared.counters.shift_fallbacks.at(&ReasonLabels::new(reason)).inc();
    }

    /// A write's answer did not wait until its reconcile was done: `wait`, `breaker`.
    pub fn shift_unsettled(&self, reason: &str) {
        self.shared.counters.shift_unsettled.at(&ReasonLabels::new(reason)).inc();
    }

    /// Where the migration stands, and the share of reads that goes to the target.
    pub fn control(&self, state: ControlState, shifted: Percentage) {
        self.shared.counters.shifted.set(shifted.percent());
        self.shared.counters.epoch.set(state.epoch as f64);
        for phase in Phase::ALL {
            let gauge = self.shared.counters.phase.at(&PhaseLabels { phase: phase.as_str() });
            gauge.set(i64::from(phase == state.phase));
        }
    }

    /// From now on each scrape asks this pool.
    pub fn watch_pool(
        &self,
        side: Side,
        pool: &'static str,
        ask: impl Fn() -> PoolState + Send + Sync + 'static,
    ) {
        self.shared.probes.pool(side, pool, Arc::new(ask));
    }

    /// From now on each scrape asks this queue for its length.
    pub fn watch_queue(&self, queue: &'static str, ask: impl Fn() -> u64 + Send + Sync + 'static) {
        self.shared.probes.queue(queue, Arc::new(ask));
    }

    /// From now on each scrape asks for the memory of rows on their way and of kept answers.
    pub fn watch_memory(&self, ask: impl Fn() -> MemoryState + Send + Sync + 'static) {
        self.shared.probes.memory(Arc::new(ask));
    }

    /// From now on each scrape asks for the number of open transactions.
    pub fn watch_transactions(&self, ask: impl Fn() -> u64 + Send + Sync + 'static) {
        self.shared.probes.transactions(Arc::new(ask));
    }

    /// The text of a scrape, of type [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut page = String::new();
        let encoded = text::encode_registry(&mut page, &self.shared.registry)
            .and_then(|()| text::encode_registry(&mut page, &self.shared.process))
            .and_then(|()| text::encode_eof(&mut page));
        match encoded {
            Ok(()) => page,
            // Writing to a string does not fail; a scraper treats an empty page as a fault.
            Err(_) => String::new(),
        }
    }

    /// The same in the older text format, [`PLAIN_CONTENT_TYPE`].
    pub fn render_plain(&self) -> String {
        plain::of(&self.render())
    }

    /// The same numbers for the status.
    pub fn snapshot(&self) -> Snapshot {
        let counters = &self.shared.counters;
        Snapshot {
            reads: counters.totals(&[Method::Query]),
            writes: counters.totals(&[Method::Execute, Method::Batch]),
            samples_taken: counters.samples_taken.get(),
            samples_dropped: counters.samples_dropped.by_reason(),
            verdicts: counters.by_verdict(),
            reconciled_keys: counters.reconcile_keys.get(),
            reconcile_failures: counters.reconcile_failures.by_reason().values().sum(),
            outbox: *counters.outbox.lock().unwrap_or_else(PoisonError::into_inner),
            refused: counters.refused.by_reason(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_status_shows_what_the_scrape_shows() {
        let metrics = Metrics::new();
        metrics.call(Method::Query, "OK", MS);
        metrics.call(Method::Query, "ABORTED", MS * 3);
        metrics.call(Method::Batch, "OK", MS);
        metrics.statement(Side::Source, Purpose::Read, MS);
        metrics.reconciled(40, 3, MS);
        metrics.reconcile_failed("40001");
        metrics.sample_taken();
        metrics.sample_dropped("concurrency");
        metrics.verdict(Verdict::Data, "data");
        metrics.refused(Reason::RefusedDdl);
        metrics.outbox(OutboxState {
            pending: 7,
            stuck: 1,
            oldest_age_s: 1.5,
            bytes: 8192,
            ..OutboxState::default()
        });
        metrics.control(ControlState { epoch: 4, phase: Phase::ShadowRead }, Percentage::ZERO);
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.reads.total, snapshot.reads.failed), (2, 1));
        assert_eq!((snapshot.writes.total, snapshot.reconciled_keys), (1, 40));
        assert_eq!(snapshot.verdicts, [(Verdict::Data, 1)].into());
        assert_eq!(snapshot.samples_dropped, [("concurrency".to_owned(), 1)].into());
        let page = metrics.render();
        for line in [
            "segue_calls_total{method=\"Query\",code=\"ABORTED\"} 1",
            "segue_call_seconds_count{method=\"Query\"} 2",
            "segue_statement_seconds_bucket{le=\"+Inf\",side=\"source\",purpose=\"read\"} 1",
            "segue_reconcile_keys_total 40",
            "segue_reconcile_seconds_count 1",
            "segue_reconcile_failures_total{reason=\"40001\"} 1",
            "segue_outbox_pending 7.0",
            "segue_outbox_oldest_age_seconds 1.5",
            "segue_samples_dropped_total{reason=\"concurrency\"} 1",
            "segue_verdicts_total{verdict=\"data\",category=\"data\"} 1",
            "segue_refused_total{reason=\"refused.ddl\"} 1",
            "segue_control_epoch 4.0",
            "segue_control_phase{phase=\"shadow_read\"} 1",
            "segue_control_phase{phase=\"shift\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn pools_are_asked_at_the_scrape_and_once_each() {
        let metrics = Metrics::new();
        let state = |in_use| PoolState { in_use, open: 9, waiting: 2, size_max: 10 };
        metrics.watch_memory(|| MemoryState { held: 7, bytes_max: 64, waiting: 1, waits: 2 });
        metrics.watch_pool(Side::Target, "read", move || state(1));
        metrics.watch_pool(Side::Target, "read", move || state(5));
        metrics.watch_queue("shadow", || 3);
        metrics.watch_transactions(|| 6);
        let page = metrics.render();
        for line in [
            "segue_pool_connections_in_use{side=\"target\",pool=\"read\"} 5",
            "segue_pool_waiting{side=\"target\",pool=\"read\"} 2",
            "segue_queue_length{queue=\"shadow\"} 3",
            "segue_transactions_open 6",
            "segue_memory_bytes_held 7",
            "segue_memory_bytes_max 64",
            "segue_memory_waiting 1",
            "segue_memory_waits_total 2",
        ] {
            assert_eq!(page.matches(line).count(), 1, "{line} in\n{page}");
        }
    }

    #[test]
    fn messages_do_not_become_labels() {
        let metrics = Metrics::new();
        metrics.sample_dropped("duplicate key value (id)=(42)");
        assert_eq!(metrics.snapshot().samples_dropped, [("other".to_owned(), 1)].into());
    }
}
