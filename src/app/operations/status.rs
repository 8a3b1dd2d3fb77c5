//! Everything an operator asks for first, gathered from the parts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::generations::Wrong;
use crate::control::Control;
use crate::domain::backfill::BackfillProgress;
use crate::domain::control::Phase;
use crate::domain::status::{
    CallStatus, FleetStatus, OutboxStatus, SamplingStatus, StatusReport, TableProven, VerifyStatus,
};
use crate::domain::verdict::Verdict;
use crate::ports::admin::{
    BackfillAdmin, OutboxAdmin, PhaseAdmin, ProofStatus, SamplingControl, StatusSource,
};
use crate::telemetry::metrics::{CallTotals, Metrics};

/// How long the outbox may take to tell its figures.
const OUTBOX_LIMIT: Duration = Duration::from_secs(2);
/// How long the fleet's tables may take.
const FLEET_LIMIT: Duration = Duration::from_secs(3);
/// An older pending row deserves a look.
const AGE_WARN_S: f64 = 60.0;
/// So does an outbox that has filled this share of its limit.
const BYTES_WARN: f64 = 0.5;
const MEDIAN: f64 = 0.5;
const P99: f64 = 0.99;

/// Gathers the status.
#[derive(Clone)]
pub struct StatusGatherer {
    /// The control row.
    pub control: Control,
    /// The primary's outbox.
    pub outbox: Arc<dyn OutboxAdmin>,
    /// The copy of the history.
    pub backfill: Arc<dyn BackfillAdmin>,
    /// What is proven.
    pub proofs: Arc<dyn ProofStatus>,
    /// What is sampled.
    pub sampling: Arc<dyn SamplingControl>,
    /// Counts of this member.
    pub metrics: Metrics,
    /// The phases, and the fleet.
    pub phases: Arc<dyn PhaseAdmin>,
    /// Tables whose writes are not captured.
    pub uncaptured: Uncaptured,
    /// What is wrong with the databases.
    pub wrong: Wrong,
}

/// What the last look at capture found missing. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Uncaptured(Arc<Mutex<Vec<String>>>);

// === impl Uncaptured ===

impl Uncaptured {
    /// Takes the place of what was found before.
    pub fn set(&self, tables: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tables;
    }

    fn warnings(&self) -> Vec<String> {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.iter().map(|table| format!("writes are not captured: {table}")).collect()
    }
}

// === impl StatusGatherer ===

impl StatusGatherer {
    async fn gather(&self) -> StatusReport {
        let row = self.control.row();
        let counts = self.metrics.snapshot();
        let mut warnings = self.wrong.warnings();
        warnings.extend(self.uncaptured.warnings());
        warnings.extend(self.metrics.retries().failing().iter().map(ToString::to_string));
        let outbox = match tokio::time::timeout(OUTBOX_LIMIT, self.outbox.status()).await {
            Ok(Ok(outbox)) => outbox,
            Ok(Err(fault)) => {
                warnings.push(format!("the outbox cannot be read: {fault}"));
                OutboxStatus::default()
            }
            Err(_) => {
                warnings.push(format!("the outbox did not answer within {OUTBOX_LIMIT:?}"));
                OutboxStatus::default()
            }
        };
        let backfill = match tokio::time::timeout(OUTBOX_LIMIT, self.backfill.progress()).await {
            Ok(Ok(backfill)) => backfill,
            // That nothing was begun is another thing than that nobody knows.
            Ok(Err(fault)) => {
                warnings.push(format!("the progress of the backfill cannot be read: {fault}"));
                BackfillProgress::default()
            }
            Err(_) => {
                let limit = OUTBOX_LIMIT;
                warnings.push(format!("the progress of the backfill is not known after {limit:?}"));
                BackfillProgress::default()
            }
        };
        warn_of_backfill(&backfill, &mut warnings);
        let verify = match tokio::time::timeout(OUTBOX_LIMIT, self.proofs.status()).await {
            Ok(Ok(verify)) => verify,
            Ok(Err(fault)) => {
                warnings.push(format!("what verify has proven cannot be read: {fault}"));
                VerifyStatus::default()
            }
            Err(_) => {
                let limit = OUTBOX_LIMIT;
                warnings.push(format!("what verify has proven is not known after {limit:?}"));
                VerifyStatus::default()
            }
        };
        for table in verify.tables.iter().filter(|it| !it.void_reason.is_empty()) {
            let TableProven { table, void_reason, .. } = table;
            warnings.push(format!("the proofs of {table} are void: {void_reason}"));
        }
        let fleet = match tokio::time::timeout(FLEET_LIMIT, self.phases.status()).await {
            Ok(Ok(fleet)) => Some(fleet),
            Ok(Err(fault)) => {
                warnings.push(format!("the fleet cannot be read: {fault}"));
                None
            }
            Err(_) => {
                warnings.push(format!("the fleet's tables did not answer within {FLEET_LIMIT:?}"));
                None
            }
        };
        warn_of_fleet(fleet.as_ref(), &mut warnings);
        let sampling = self.sampling.status();
        let verdicts = counts.verdicts;
        warn_of_outbox(&outbox, &mut warnings);
        warn_of_data(verdicts.get(&Verdict::Data).copied(), &sampling, &mut warnings);
        StatusReport {
            control: row.state,
            phase_since: Some(row.phase_since),
            phase_reason: row.reason,
            outbox,
            backfill,
            verify,
            sampling,
            verdicts,
            reads: calls(&counts.reads),
            writes: calls(&counts.writes),
            at: SystemTime::now(),
            warnings,
            fleet,
        }
    }
}

impl std::fmt::Debug for StatusGatherer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusGatherer").field("control", &self.control).finish_non_exhaustive()
    }
}

impl StatusSource for StatusGatherer {
    fn status(&self) -> BoxFuture<'_, StatusReport> {
        self.gather().boxed()
    }
}

fn calls(totals: &CallTotals) -> CallStatus {
    CallStatus {
        total: totals.total,
        failed: totals.failed,
        p50_ms: totals.latency.quantile_ms(MEDIAN),
        p99_ms: totals.latency.quantile_ms(P99),
    }
}

fn warn_of_outbox(outbox: &OutboxStatus, warnings: &mut Vec<String>) {
    if outbox.stuck > 0 {
        let stuck = outbox.stuck;
        warnings.push(format!("{stuck} keys are stuck: see `segue outbox --stuck`"));
    }
    for table in &outbox.folded {
        warnings.push(format!(
            "no longer followed key by key, no read is shifted meanwhile: {table}; see \
             docs/guides/runbook.md#tables-are-pending-as-a-whole-or-as-ranges"
        ));
    }
    let filled = outbox.pending_bytes as f64 / outbox.bytes_max.max(1) as f64;
    if outbox.bytes_max > 0 && filled >= BYTES_WARN {
        let percent = filled * 100.0;
        warnings.push(format!(
            "what waits takes {percent:.0} % of outbox.max_bytes; at 100 % the largest tables are \
             no longer followed key by key, but compared by ranges, or whole"
        ));
    }
    if outbox.oldest_age_s >= AGE_WARN_S {
        let age = outbox.oldest_age_s;
        warnings
            .push(format!("the oldest key has waited for {age:.0} s: is the shadow reachable?"));
    }
}

fn warn_of_backfill(backfill: &BackfillProgress, warnings: &mut Vec<String>) {
    let tables = &backfill.tables;
    if let Some(table) = tables.iter().find(|table| !table.is_done())
        && !backfill.workers.iter().any(|worker| worker.alive)
    {
        let why = match table.last_error.as_str() {
            "" => String::new(),
            error => format!(", the last chunk failed so: {error}"),
        };
        warnings.push(format!(
            "the copy of {} is not complete and no process copies it{why}: see `segue backfill`",
            table.table
        ));
    }
}

fn warn_of_fleet(fleet: Option<&FleetStatus>, warnings: &mut Vec<String>) {
    let Some(FleetStatus { report, fleet, foreign, .. }) = fleet else { return };
    for writer in foreign {
        warnings.push(format!("{writer}, past segue; it is reconciled back: see `segue drift`"));
    }
    for member in report.settled.waits_for() {
        warnings.push(format!("the epoch has not settled: {member}"));
    }
    let row = &report.row;
    if row.state.phase == Phase::Shift && row.held {
        let share = row.target_percentage;
        warnings.push(format!("the schedule is held at {share}: {}", row.reason));
    }
    if let Some(off) = row.reads_off.as_ref().filter(|_| row.state.phase.shifts()) {
        warnings.push(format!("no read goes to the target: {}", off.reason));
    }
    if fleet.leader.is_none() {
        warnings.push("the fleet has no leader at this moment".to_owned());
    }
    let mut versions: Vec<&str> = fleet.alive().map(|member| member.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        warnings.push(format!("members run different versions of segue: {}", versions.join(", ")));
    }
}

fn warn_of_data(data: Option<u64>, sampling: &SamplingStatus, warnings: &mut Vec<String>) {
    if let Some(count) = data.filter(|count| *count > 0) {
        warnings.push(format!("{count} samples found different data: see `segue mismatches`"));
    }
    let dropped: u64 = sampling.dropped.values().sum();
    if dropped > sampling.sampled_total && sampling.sampled_total > 0 {
        warnings.push(format!("{dropped} samples were dropped, more than were compared"));
    }
}
