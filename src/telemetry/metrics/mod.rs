//! Every number that segue counts.
//!
//! One method for each event, so that nobody spells a label: what can be counted is the list
//! of methods here, and what is scraped is what the status shows.

pub mod latency;
mod probe;
pub mod snapshot;
mod table;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::domain::control::{ControlState, Phase};
use crate::domain::side::Side;
use crate::domain::verdict::Verdict;

use latency::{Latency, LatencyCounts};
pub use probe::PoolState;
use probe::Probes;
pub use snapshot::{CallTotals, OutboxState, Snapshot};
use table::Table;

/// The type of the text that [`Metrics::render`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Longest label that is taken from outside; what is longer would be no label but a message.
const LABEL_LEN_MAX: usize = 64;

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

/// A call of the `Sql` service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// `Query`.
    Query,
    /// `Execute`.
    Execute,
    /// `Batch`.
    Batch,
    /// `Begin`.
    Begin,
    /// `Commit`.
    Commit,
    /// `Rollback`.
    Rollback,
    /// `Describe`.
    Describe,
    /// `Info`.
    Info,
}

/// What a statement was run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// A caller's read.
    Read,
    /// A caller's write.
    Write,
    /// A sampled read on the shadow.
    Shadow,
    /// Reconcile's own statements.
    Reconcile,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct StatementLabels {
    side: &'static str,
    purpose: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
    category: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ReasonLabels {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

/// All counters of one process. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    counters: Arc<Counters>,
    probes: Probes,
}

#[derive(Debug, Default)]
struct Counters {
    calls: Table<CallLabels, Counter>,
    call_seconds: Table<MethodLabels, Latency>,
    statement_seconds: Table<StatementLabels, Latency>,
    reconcile_batches: Counter,
    reconcile_keys: Counter,
    reconcile_rows_written: Counter,
    reconcile_seconds: Latency,
    reconcile_failures: Table<ReasonLabels, Counter>,
    outbox_pending: Gauge<f64, AtomicU64>,
    outbox_stuck: Gauge<f64, AtomicU64>,
    outbox_oldest_age: Gauge<f64, AtomicU64>,
    outbox_bytes: Gauge<f64, AtomicU64>,
    outbox: Mutex<OutboxState>,
    samples_taken: Counter,
    samples_dropped: Table<ReasonLabels, Counter>,
    verdicts: Table<VerdictLabels, Counter>,
    refused: Table<ReasonLabels, Counter>,
    faults: Table<ReasonLabels, Counter>,
    epoch: Gauge<f64, AtomicU64>,
    phase: Table<PhaseLabels, Gauge>,
}

// === impl Method ===

impl Method {
    /// The method's name in the protocol.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "Query",
            Self::Execute => "Execute",
            Self::Batch => "Batch",
            Self::Begin => "Begin",
            Self::Commit => "Commit",
            Self::Rollback => "Rollback",
            Self::Describe => "Describe",
            Self::Info => "Info",
        }
    }
}

// === impl Purpose ===

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Shadow => "shadow",
            Self::Reconcile => "reconcile",
        }
    }
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
        let counters = Arc::new(Counters::default());
        let probes = Probes::default();
        let mut registry = Registry::with_prefix("segue");
        counters.register(&mut registry);
        registry.register_collector(Box::new(probes.clone()));
        Self { registry: Arc::new(registry), counters, probes }
    }

    /// A call has ended. `code` is the name of its gRPC code: `OK`, `ABORTED`.
    pub fn call(&self, method: Method, code: &'static str, elapsed: Duration) {
        let method = method.as_str();
        self.counters.calls.at(&CallLabels { method, code }).inc();
        self.counters.call_seconds.at(&MethodLabels { method }).observe(elapsed);
    }

    /// A statement has ended on a side, well or not.
    pub fn statement(&self, side: Side, purpose: Purpose, elapsed: Duration) {
        let labels = StatementLabels { side: side.as_str(), purpose: purpose.as_str() };
        self.counters.statement_seconds.at(&labels).observe(elapsed);
    }

    /// A batch of keys was made equal on the shadow; `rows_written` of them differed.
    pub fn reconciled(&self, keys: u64, rows_written: u64, elapsed: Duration) {
        self.counters.reconcile_batches.inc();
        self.counters.reconcile_keys.inc_by(keys);
        self.counters.reconcile_rows_written.inc_by(rows_written);
        self.counters.reconcile_seconds.observe(elapsed);
    }

    /// A batch of keys stays in the outbox. `reason` is a SQLSTATE, or a word of segue's own
    /// such as `deadline`.
    pub fn reconcile_failed(&self, reason: &str) {
        self.counters.reconcile_failures.at(&ReasonLabels::new(reason)).inc();
    }

    /// The outbox as it was just measured.
    pub fn outbox(&self, state: OutboxState) {
        let counters = &self.counters;
        counters.outbox_pending.set(state.pending as f64);
        counters.outbox_stuck.set(state.stuck as f64);
        counters.outbox_oldest_age.set(state.oldest_age_s);
        counters.outbox_bytes.set(state.bytes as f64);
        *counters.outbox.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// A read was run on the shadow and compared.
    pub fn sample_taken(&self) {
        self.counters.samples_taken.inc();
    }

    /// A read was selected and could not be compared: `concurrency`, `too_large`, `deadline`.
    pub fn sample_dropped(&self, reason: &str) {
        self.counters.samples_dropped.at(&ReasonLabels::new(reason)).inc();
    }

    /// A comparison has its final verdict.
    pub fn verdict(&self, verdict: Verdict, category: &str) {
        let labels = VerdictLabels { verdict: verdict.as_str(), category: label(category) };
        self.counters.verdicts.at(&labels).inc();
    }

    /// A statement was refused by a rule of segue: `refused.ddl`.
    pub fn refused(&self, reason: &str) {
        self.counters.refused.at(&ReasonLabels::new(reason)).inc();
    }

    /// Something of segue's own went wrong that no caller sees: `control_poll`, `mismatch_store`.
    pub fn fault(&self, reason: &str) {
        self.counters.faults.at(&ReasonLabels::new(reason)).inc();
    }

    /// Where the migration stands.
    pub fn control(&self, state: ControlState) {
        self.counters.epoch.set(state.epoch as f64);
        for phase in Phase::ALL {
            let gauge = self.counters.phase.at(&PhaseLabels { phase: phase.as_str() });
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
        self.probes.pool(side, pool, Arc::new(ask));
    }

    /// From now on each scrape asks this queue for its length.
    pub fn watch_queue(&self, queue: &'static str, ask: impl Fn() -> u64 + Send + Sync + 'static) {
        self.probes.queue(queue, Arc::new(ask));
    }

    /// From now on each scrape asks for the number of open transactions.
    pub fn watch_transactions(&self, ask: impl Fn() -> u64 + Send + Sync + 'static) {
        self.probes.transactions(Arc::new(ask));
    }

    /// The text of a scrape, of type [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut page = String::new();
        match text::encode(&mut page, &self.registry) {
            Ok(()) => page,
            // Writing to a string does not fail; a scraper treats an empty page as a fault.
            Err(_) => String::new(),
        }
    }

    /// The same numbers for the status.
    pub fn snapshot(&self) -> Snapshot {
        let counters = &self.counters;
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

// === impl Counters ===

impl Counters {
    fn register(&self, registry: &mut Registry) {
        registry.register("calls", "Calls by method and gRPC code", self.calls.clone());
        registry.register("call_seconds", "Time of calls", self.call_seconds.clone());
        registry.register(
            "statement_seconds",
            "Time of statements on a database",
            self.statement_seconds.clone(),
        );
        self.register_reconcile(registry);
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
    }

    fn totals(&self, methods: &[Method]) -> CallTotals {
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

    fn by_verdict(&self) -> BTreeMap<Verdict, u64> {
        let mut sums = BTreeMap::new();
        for (labels, count) in self.verdicts.all() {
            if let Some(verdict) = VERDICTS.into_iter().find(|v| v.as_str() == labels.verdict) {
                *sums.entry(verdict).or_default() += count.get();
            }
        }
        sums
    }
}

// === impl ReasonLabels ===

impl ReasonLabels {
    fn new(reason: &str) -> Self {
        Self { reason: label(reason) }
    }
}

impl Table<ReasonLabels, Counter> {
    fn by_reason(&self) -> BTreeMap<String, u64> {
        self.all().into_iter().map(|(labels, count)| (labels.reason, count.get())).collect()
    }
}

/// A reason as a label. Messages of a database must not become series, one for each value in
/// them, so whatever does not look like a name counts as `other`.
fn label(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if text.len() <= LABEL_LEN_MAX && text.bytes().all(plain) {
        text.to_owned()
    } else {
        "other".to_owned()
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
        metrics.refused("refused.ddl");
        metrics.outbox(OutboxState { pending: 7, stuck: 1, oldest_age_s: 1.5, bytes: 8192 });
        metrics.control(ControlState { epoch: 4, phase: Phase::ShadowRead });
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
