//! The service `Migration`: the operators' calls.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::domain::backfill::{TableProgress, WorkerProgress};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::mismatch::{Mismatch, Resolution};
use crate::domain::status::{CallStatus, FoldedTable, OutboxEntry, StatusReport};
use crate::domain::table::TableName;
use crate::grpc::{cutover, foreign, phases, proto, status};
use crate::ports::MismatchStore;
use crate::ports::admin::{
    CutoverAdmin, ForeignAdmin, OutboxAdmin, PhaseAdmin, SamplingControl, StatusSource,
};

/// Entries of a list whose request names no limit, and the most that one gets.
const LIST_DEFAULT: u32 = 100;
const LIST_MAX: u32 = 10_000;
/// Between two answers of `WatchStatus`: the default, and the least.
const WATCH_DEFAULT: Duration = Duration::from_secs(1);
const WATCH_MIN: Duration = Duration::from_millis(100);

/// What the operators' calls are answered from.
#[derive(Clone)]
pub struct Parts {
    /// Everything in one look.
    pub status: Arc<dyn StatusSource>,
    /// The fleet's list of findings.
    pub mismatches: Arc<dyn MismatchStore>,
    /// The phases, behind their gates.
    pub phases: Arc<dyn PhaseAdmin>,
    /// Changes of the primary.
    pub cutovers: Arc<dyn CutoverAdmin>,
    /// The primary's outbox.
    pub outbox: Arc<dyn OutboxAdmin>,
    /// Writes on the side that follows that are not segue's.
    pub foreign: Arc<dyn ForeignAdmin>,
    /// The rate of samples.
    pub sampling: Arc<dyn SamplingControl>,
    /// Ends the watchers when segue stops: they would never end by themselves.
    pub stop: CancellationToken,
}

/// The operators' calls.
#[derive(Clone)]
pub struct MigrationService {
    parts: Parts,
}

// === impl MigrationService ===

impl MigrationService {
    /// Answers from these.
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for MigrationService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MigrationService")
    }
}

#[tonic::async_trait]
impl proto::migration_server::Migration for MigrationService {
    type CutoverStream = BoxStream<'static, Result<proto::CutoverEvent, Status>>;

    async fn cutover(
        &self,
        request: Request<proto::CutoverRequest>,
    ) -> Result<Response<Self::CutoverStream>, Status> {
        let request = cutover::request(request.into_inner()).map_err(|fault| refuse(&fault))?;
        let events = self.parts.cutovers.run(request);
        Ok(Response::new(events.map(|event| Ok(cutover::event(event))).boxed()))
    }

    type WatchStatusStream = BoxStream<'static, Result<proto::Status, Status>>;

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        Ok(Response::new(report(self.parts.status.status().await)))
    }

    async fn watch_status(
        &self,
        request: Request<proto::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let interval = match request.get_ref().interval_ms {
            0 => WATCH_DEFAULT,
            ms => WATCH_MIN.max(Duration::from_millis(ms.into())),
        };
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let source = Arc::clone(&self.parts.status);
        let looks = stream::unfold((ticks, source), |(mut ticks, source)| async move {
            ticks.tick().await;
            let now = report(source.status().await);
            Some((Ok(now), (ticks, source)))
        });
        let stop = self.parts.stop.clone().cancelled_owned();
        Ok(Response::new(looks.take_until(stop).boxed()))
    }

    async fn list_mismatches(
        &self,
        request: Request<proto::ListMismatchesRequest>,
    ) -> Result<Response<proto::ListMismatchesResponse>, Status> {
        let found = self.parts.mismatches.list(limit(request.get_ref().limit)).await;
        let mismatches = found.map_err(|fault| refuse(&fault))?.into_iter().map(mismatch);
        Ok(Response::new(proto::ListMismatchesResponse { mismatches: mismatches.collect() }))
    }

    async fn resolve_mismatch(
        &self,
        request: Request<proto::ResolveMismatchRequest>,
    ) -> Result<Response<proto::ResolveMismatchResponse>, Status> {
        let resolution = resolution(request.into_inner()).map_err(|fault| refuse(&fault))?;
        let (fingerprint, by) = (resolution.fingerprint.clone(), resolution.resolved_by.clone());
        let resolved = self.parts.mismatches.resolve(resolution).await;
        let resolved = resolved.map_err(|fault| refuse(&fault))?;
        if resolved == 0 {
            let message = format!("no open entry of the list has the fingerprint {fingerprint:?}");
            let fault = SqlFault::new(FaultKind::NotFound, "unknown.fingerprint", message)
                .with_hint("`segue mismatches` shows it as the id");
            return Err(refuse(&fault));
        }
        tracing::info!(%fingerprint, %by, resolved, "findings were resolved");
        Ok(Response::new(proto::ResolveMismatchResponse { resolved }))
    }

    async fn list_outbox(
        &self,
        request: Request<proto::ListOutboxRequest>,
    ) -> Result<Response<proto::ListOutboxResponse>, Status> {
        let proto::ListOutboxRequest { limit: wanted, stuck_only } = *request.get_ref();
        let found = self.parts.outbox.list(limit(wanted), stuck_only).await;
        let entries = found.map_err(|fault| refuse(&fault))?.into_iter().map(entry);
        Ok(Response::new(proto::ListOutboxResponse { entries: entries.collect() }))
    }

    async fn replay_outbox(
        &self,
        request: Request<proto::ReplayOutboxRequest>,
    ) -> Result<Response<proto::ReplayOutboxResponse>, Status> {
        let table = table(&request.get_ref().table).map_err(|fault| refuse(&fault))?;
        let made_due = self.parts.outbox.replay(table).await.map_err(|fault| refuse(&fault))?;
        Ok(Response::new(proto::ReplayOutboxResponse { made_due }))
    }

    async fn list_foreign_writers(
        &self,
        _: Request<proto::ListForeignWritersRequest>,
    ) -> Result<Response<proto::ListForeignWritersResponse>, Status> {
        let found = self.parts.foreign.writes(false).await.map_err(|fault| refuse(&fault))?;
        let writers = found.writers.into_iter().map(foreign::writer).collect();
        Ok(Response::new(proto::ListForeignWritersResponse { writers }))
    }

    async fn resolve_foreign_writers(
        &self,
        request: Request<proto::ResolveForeignWritersRequest>,
    ) -> Result<Response<proto::ResolveForeignWritersResponse>, Status> {
        let resolution = foreign::resolution(request.into_inner());
        let (id, by, reason) = resolution.map_err(|fault| refuse(&fault))?;
        let resolved = self.parts.foreign.resolve(id.clone(), by.clone(), reason).await;
        let resolved = resolved.map_err(|fault| refuse(&fault))?;
        if resolved == 0 {
            return Err(refuse(&foreign::unknown(id.as_deref())));
        }
        tracing::info!(%by, resolved, "programs that write past segue were resolved");
        Ok(Response::new(proto::ResolveForeignWritersResponse { resolved }))
    }

    async fn set_sampling(
        &self,
        request: Request<proto::SetSamplingRequest>,
    ) -> Result<Response<proto::SetSamplingResponse>, Status> {
        let rate = request.get_ref().rate;
        if !(0.0..=1.0).contains(&rate) {
            let message = format!("a rate of {rate} is not between 0 and 1");
            let fault = SqlFault::new(FaultKind::InvalidArgument, "invalid.rate", message);
            return Err(refuse(&fault));
        }
        let previous_rate = self.parts.sampling.set_rate(rate);
        tracing::info!(rate, previous_rate, "the sampling rate was set");
        Ok(Response::new(proto::SetSamplingResponse { previous_rate }))
    }

    async fn get_phase(
        &self,
        _: Request<proto::GetPhaseRequest>,
    ) -> Result<Response<proto::PhaseReport>, Status> {
        let report = self.parts.phases.report().await.map_err(|fault| refuse(&fault))?;
        Ok(Response::new(phases::report(report)))
    }

    async fn change_phase(
        &self,
        request: Request<proto::ChangePhaseRequest>,
    ) -> Result<Response<proto::ChangePhaseResponse>, Status> {
        let (step, asked) = phases::step(request.into_inner()).map_err(|fault| refuse(&fault))?;
        let stepped = self.parts.phases.step(step, asked).await;
        Ok(Response::new(phases::stepped(stepped.map_err(|fault| refuse(&fault))?)))
    }

    async fn list_history(
        &self,
        request: Request<proto::ListHistoryRequest>,
    ) -> Result<Response<proto::ListHistoryResponse>, Status> {
        let found = self.parts.phases.history(limit(request.get_ref().limit)).await;
        let events = found.map_err(|fault| refuse(&fault))?.into_iter().map(phases::event);
        Ok(Response::new(proto::ListHistoryResponse { events: events.collect() }))
    }
}

fn refuse(fault: &SqlFault) -> Status {
    status::from_fault(fault, None)
}

fn limit(wanted: u32) -> u32 {
    if wanted == 0 { LIST_DEFAULT } else { wanted.min(LIST_MAX) }
}

fn table(given: &str) -> Result<Option<TableName>, SqlFault> {
    if given.is_empty() {
        return Ok(None);
    }
    let (schema, name) = given.split_once('.').ok_or_else(|| {
        let message = format!("{given:?} is not a table: write it as schema.table");
        SqlFault::new(FaultKind::InvalidArgument, "invalid.table", message)
    })?;
    Ok(Some(TableName::new(schema, name)))
}

fn resolution(request: proto::ResolveMismatchRequest) -> Result<Resolution, SqlFault> {
    let invalid =
        |message: String| SqlFault::new(FaultKind::InvalidArgument, "invalid.resolution", message);
    let proto::ResolveMismatchRequest { fingerprint, verdict, reason, resolved_by } = request;
    for (name, given) in
        [("fingerprint", &fingerprint), ("reason", &reason), ("resolved_by", &resolved_by)]
    {
        if given.trim().is_empty() {
            return Err(invalid(format!("{name} is empty; what is resolved is kept on record")));
        }
    }
    let verdict = match verdict.as_str() {
        "" => None,
        word => Some(word.parse().map_err(|()| invalid(format!("{word:?} is no verdict")))?),
    };
    Ok(Resolution { fingerprint, verdict, reason, resolved_by })
}

fn at(time: SystemTime) -> Option<prost_types::Timestamp> {
    Some(time.into())
}

fn report(report: StatusReport) -> proto::Status {
    let StatusReport { control, outbox, sampling, backfill, .. } = report;
    let verdicts = report.verdicts.into_iter().map(|(verdict, count)| proto::VerdictCount {
        verdict: verdict.as_str().to_owned(),
        count,
    });
    proto::Status {
        version: crate::telemetry::VERSION.to_owned(),
        phase: control.phase.as_str().to_owned(),
        epoch: control.epoch,
        phase_since: report.phase_since.and_then(at),
        phase_reason: report.phase_reason,
        outbox: Some(proto::OutboxStatus {
            pending: outbox.pending,
            stuck: outbox.stuck,
            oldest_age_s: outbox.oldest_age_s,
            bytes: outbox.bytes,
            max_bytes: outbox.bytes_max,
            reconciled_total: outbox.reconciled_total,
            failed_total: outbox.failed_total,
            pending_bytes: outbox.pending_bytes,
            folded: outbox.folded.iter().map(folded_table).collect(),
        }),
        sampling: Some(proto::SamplingStatus {
            rate: sampling.rate,
            sampled_total: sampling.sampled_total,
            dropped: sampling.dropped.into_iter().collect(),
        }),
        verdicts: verdicts.collect(),
        reads: Some(calls(report.reads)),
        writes: Some(calls(report.writes)),
        at: at(report.at),
        warnings: report.warnings,
        backfill: backfill.tables.into_iter().map(backfill_table).collect(),
        backfill_workers: backfill.workers.into_iter().map(backfill_worker).collect(),
        verify: Some(proto::VerifyStatus {
            chunks: report.verify.chunks,
            proven: report.verify.proven,
            written: report.verify.written,
            oldest_age_s: report.verify.oldest_age_s,
            tables: report.verify.tables.into_iter().map(cutover::table_proven).collect(),
        }),
        fleet: report.fleet.map(phases::fleet),
    }
}

fn folded_table(table: &FoldedTable) -> proto::FoldedTable {
    proto::FoldedTable {
        table: table.table.clone(),
        keys: table.keys,
        since_s: table.since_s,
        rows: table.rows,
        keys_seen: table.keys_seen,
        left_s: table.left_s(),
        ranges: table.ranges,
        ranges_of: table.ranges_of,
    }
}

fn backfill_table(table: TableProgress) -> proto::BackfillTable {
    proto::BackfillTable {
        rows_expected: table.rows_expected(),
        done: table.is_done(),
        table: table.table,
        rows: table.rows,
        bytes: table.bytes,
        chunks: table.chunks,
        chunks_done: table.chunks_done,
        chunks_claimed: table.chunks_claimed,
        reconciled: table.reconciled,
        failed: table.failed,
    }
}

fn backfill_worker(worker: WorkerProgress) -> proto::BackfillWorker {
    let WorkerProgress { host, workers, alive, throttled, share } = worker;
    proto::BackfillWorker { host, workers, alive, throttled, share }
}

fn calls(calls: CallStatus) -> proto::CallStatus {
    let CallStatus { total, failed, p50_ms, p99_ms } = calls;
    proto::CallStatus { total, failed, p50_ms, p99_ms }
}

fn mismatch(found: Mismatch) -> proto::Mismatch {
    proto::Mismatch {
        fingerprint: found.key.fingerprint,
        verdict: found.key.verdict.as_str().to_owned(),
        category: found.key.category,
        statement: found.statement,
        statement_name: found.statement_name.as_deref().unwrap_or_default().to_owned(),
        count: found.count,
        first_seen: at(found.first_seen),
        last_seen: at(found.last_seen),
        reason: found.reason,
        rewrite: found.rewrite,
        example: found.example,
        rules: found.rules.into_iter().collect(),
        suspected: found.suspected,
    }
}

fn entry(entry: OutboxEntry) -> proto::OutboxEntry {
    proto::OutboxEntry {
        table: entry.key.table.to_string(),
        key: entry.key.values.unwrap_or_default(),
        write_id: entry.write_id.map(|id| id.to_string()).unwrap_or_default(),
        created_at: at(entry.created_at),
        attempts: entry.attempts,
        next_attempt_at: at(entry.next_attempt_at),
        last_error: entry.last_error,
        stuck: entry.stuck,
    }
}
