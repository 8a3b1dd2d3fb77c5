//! The service `Migration`: the operators' calls.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::foreign::ForeignWriter;
use crate::domain::mismatch::{Mismatch, Resolution};
use crate::domain::operation::{Document, OperationId, OperationRequest};
use crate::domain::reason::Reason;
use crate::domain::step::Asked;
use crate::domain::table::TableName;
use crate::grpc::report::report;
use crate::grpc::{foreign, lists, operations, pages, phases, proto, status, words};
use crate::ports::MismatchStore;
use crate::ports::admin::{ForeignAdmin, OutboxAdmin, PhaseAdmin, SamplingControl, StatusSource};
use crate::ports::operations::OperationAdmin;

/// Names of lists in page tokens.
const MISMATCHES: &str = "mismatches";
const OUTBOX: &str = "outbox";
const OUTBOX_FAILED: &str = "outbox_failed";
const HISTORY: &str = "history";
const FOREIGN_WRITERS: &str = "foreign_writers";
const OPERATIONS: &str = "operations";
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
    /// What is started and followed.
    pub operations: Arc<dyn OperationAdmin>,
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

    async fn start(
        &self,
        asked: Result<(OperationId, OperationRequest, Asked), SqlFault>,
    ) -> Result<proto::Operation, Status> {
        let (id, request, asked) = asked.map_err(|fault| refuse(&fault))?;
        told(self.parts.operations.start(id, request, asked).await)
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
    type WatchOperationStream = BoxStream<'static, Result<proto::WatchOperationResponse, Status>>;

    async fn start_cutover(
        &self,
        request: Request<proto::StartCutoverRequest>,
    ) -> Result<Response<proto::StartCutoverResponse>, Status> {
        let operation = Some(self.start(operations::cutover(request.into_inner())).await?);
        Ok(Response::new(proto::StartCutoverResponse { operation }))
    }

    async fn start_backfill(
        &self,
        request: Request<proto::StartBackfillRequest>,
    ) -> Result<Response<proto::StartBackfillResponse>, Status> {
        let operation = Some(self.start(operations::backfill(request.into_inner())).await?);
        Ok(Response::new(proto::StartBackfillResponse { operation }))
    }

    async fn start_verify(
        &self,
        request: Request<proto::StartVerifyRequest>,
    ) -> Result<Response<proto::StartVerifyResponse>, Status> {
        let operation = Some(self.start(operations::verify(request.into_inner())).await?);
        Ok(Response::new(proto::StartVerifyResponse { operation }))
    }

    async fn get_operation(
        &self,
        request: Request<proto::GetOperationRequest>,
    ) -> Result<Response<proto::GetOperationResponse>, Status> {
        let id = operations::id(&request.get_ref().id).map_err(|fault| refuse(&fault))?;
        let operation = Some(told(self.parts.operations.get(id).await)?);
        Ok(Response::new(proto::GetOperationResponse { operation }))
    }

    async fn list_operations(
        &self,
        request: Request<proto::ListOperationsRequest>,
    ) -> Result<Response<proto::ListOperationsResponse>, Status> {
        let proto::ListOperationsRequest { page_size, page_token } = request.into_inner();
        let page = pages::request(OPERATIONS, page_size, &page_token);
        let page = page.map_err(|fault| refuse(&fault))?;
        let found = self.parts.operations.list(page).await.map_err(|fault| refuse(&fault))?;
        let listed: Result<Vec<_>, _> = found.items.into_iter().map(|it| told(Ok(it))).collect();
        Ok(Response::new(proto::ListOperationsResponse {
            operations: listed?,
            next_page_token: pages::token(OPERATIONS, found.next.as_ref()),
        }))
    }

    async fn watch_operation(
        &self,
        request: Request<proto::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let proto::WatchOperationRequest { id, after_event } = request.into_inner();
        let id = operations::id(&id).map_err(|fault| refuse(&fault))?;
        // What is not known is told before the stream.
        self.parts.operations.get(id).await.map_err(|fault| refuse(&fault))?;
        let followed = operations::followed(self.parts.operations.watch(id, after_event));
        let stop = self.parts.stop.clone().cancelled_owned();
        let followed = followed.map(|it| it.map_err(|fault| refuse(&fault))).take_until(stop);
        Ok(Response::new(followed.boxed()))
    }

    async fn cancel_operation(
        &self,
        request: Request<proto::CancelOperationRequest>,
    ) -> Result<Response<proto::CancelOperationResponse>, Status> {
        let proto::CancelOperationRequest { id, actor, reason } = request.into_inner();
        let id = operations::id(&id).map_err(|fault| refuse(&fault))?;
        let asked = operations::asked(actor, reason).map_err(|fault| refuse(&fault))?;
        let operation = Some(told(self.parts.operations.cancel(id, asked).await)?);
        Ok(Response::new(proto::CancelOperationResponse { operation }))
    }

    type WatchStatusStream = BoxStream<'static, Result<proto::WatchStatusResponse, Status>>;

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::GetStatusResponse>, Status> {
        let status = Some(report(self.parts.status.status().await));
        Ok(Response::new(proto::GetStatusResponse { status }))
    }

    async fn watch_status(
        &self,
        request: Request<proto::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let interval =
            words::given(request.into_inner().interval, "interval", Reason::InvalidInterval);
        let interval = interval.map_err(|fault| refuse(&fault))?.unwrap_or(WATCH_DEFAULT);
        let interval = interval.max(WATCH_MIN);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let source = Arc::clone(&self.parts.status);
        let looks = stream::unfold((ticks, source), |(mut ticks, source)| async move {
            ticks.tick().await;
            let status = Some(report(source.status().await));
            Some((Ok(proto::WatchStatusResponse { status }), (ticks, source)))
        });
        let stop = self.parts.stop.clone().cancelled_owned();
        Ok(Response::new(looks.take_until(stop).boxed()))
    }

    async fn list_mismatches(
        &self,
        request: Request<proto::ListMismatchesRequest>,
    ) -> Result<Response<proto::ListMismatchesResponse>, Status> {
        let proto::ListMismatchesRequest { page_size, page_token } = request.into_inner();
        let page = pages::request(MISMATCHES, page_size, &page_token);
        let page = page.map_err(|fault| refuse(&fault))?;
        let found = self.parts.mismatches.list(pages::needed(&page)).await;
        let name = |it: &Mismatch| {
            format!("{} {} {}", it.key.fingerprint, it.key.verdict, it.key.category)
        };
        let found = found.and_then(|found| pages::unseen(found, &page, name));
        let found = found.map_err(|fault| refuse(&fault))?;
        Ok(Response::new(proto::ListMismatchesResponse {
            mismatches: found.items.into_iter().map(lists::mismatch).collect(),
            next_page_token: pages::token(MISMATCHES, found.next.as_ref()),
        }))
    }

    async fn resolve_mismatch(
        &self,
        request: Request<proto::ResolveMismatchRequest>,
    ) -> Result<Response<proto::ResolveMismatchResponse>, Status> {
        let resolution = resolution(request.into_inner()).map_err(|fault| refuse(&fault))?;
        let (fingerprint, actor) = (resolution.fingerprint.clone(), resolution.resolved_by.clone());
        let resolved = self.parts.mismatches.resolve(resolution).await;
        let resolved = resolved.map_err(|fault| refuse(&fault))?;
        if resolved == 0 {
            let message = format!("no open entry of the list has the fingerprint {fingerprint:?}");
            let fault = SqlFault::new(FaultKind::NotFound, Reason::UnknownFingerprint, message)
                .with_hint("`segue mismatches` shows it as the id");
            return Err(refuse(&fault));
        }
        tracing::info!(%fingerprint, %actor, resolved, "findings were resolved");
        Ok(Response::new(proto::ResolveMismatchResponse { resolved }))
    }

    async fn list_outbox(
        &self,
        request: Request<proto::ListOutboxRequest>,
    ) -> Result<Response<proto::ListOutboxResponse>, Status> {
        let proto::ListOutboxRequest { page_size, page_token, failed_only } = request.into_inner();
        let list = if failed_only { OUTBOX_FAILED } else { OUTBOX };
        let page = pages::request(list, page_size, &page_token).map_err(|fault| refuse(&fault))?;
        let found = self.parts.outbox.list(page, failed_only).await;
        let found = found.map_err(|fault| refuse(&fault))?;
        Ok(Response::new(proto::ListOutboxResponse {
            entries: found.items.into_iter().map(lists::entry).collect(),
            next_page_token: pages::token(list, found.next.as_ref()),
        }))
    }

    async fn retry_outbox(
        &self,
        request: Request<proto::RetryOutboxRequest>,
    ) -> Result<Response<proto::RetryOutboxResponse>, Status> {
        let table = table(&request.get_ref().table).map_err(|fault| refuse(&fault))?;
        let made_due = self.parts.outbox.retry(table).await.map_err(|fault| refuse(&fault))?;
        Ok(Response::new(proto::RetryOutboxResponse { made_due }))
    }

    async fn list_foreign_writers(
        &self,
        request: Request<proto::ListForeignWritersRequest>,
    ) -> Result<Response<proto::ListForeignWritersResponse>, Status> {
        let proto::ListForeignWritersRequest { page_size, page_token } = request.into_inner();
        let page = pages::request(FOREIGN_WRITERS, page_size, &page_token);
        let page = page.map_err(|fault| refuse(&fault))?;
        let found = self.parts.foreign.writes(false).await.map_err(|fault| refuse(&fault))?;
        let name = |it: &ForeignWriter| format!("{} {}", it.id, it.side);
        let found = pages::unseen(found.writers, &page, name).map_err(|fault| refuse(&fault))?;
        Ok(Response::new(proto::ListForeignWritersResponse {
            writers: found.items.into_iter().map(foreign::writer).collect(),
            next_page_token: pages::token(FOREIGN_WRITERS, found.next.as_ref()),
        }))
    }

    async fn resolve_foreign_writers(
        &self,
        request: Request<proto::ResolveForeignWritersRequest>,
    ) -> Result<Response<proto::ResolveForeignWritersResponse>, Status> {
        let resolution = foreign::resolution(request.into_inner());
        let (id, actor, reason) = resolution.map_err(|fault| refuse(&fault))?;
        let resolved = self.parts.foreign.resolve(id.clone(), actor.clone(), reason).await;
        let resolved = resolved.map_err(|fault| refuse(&fault))?;
        if resolved == 0 {
            return Err(refuse(&foreign::unknown(id.as_deref())));
        }
        tracing::info!(%actor, resolved, "programs that bypass segue were resolved");
        Ok(Response::new(proto::ResolveForeignWritersResponse { resolved }))
    }

    async fn set_sampling(
        &self,
        request: Request<proto::SetSamplingRequest>,
    ) -> Result<Response<proto::SetSamplingResponse>, Status> {
        let rate = request.get_ref().rate;
        if !(0.0..=1.0).contains(&rate) {
            let message = format!("a rate of {rate} is not between 0 and 1");
            let fault = SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidRate, message);
            return Err(refuse(&fault));
        }
        let previous_rate = self.parts.sampling.set_rate(rate);
        tracing::info!(rate, previous_rate, "the sampling rate was set");
        Ok(Response::new(proto::SetSamplingResponse { previous_rate }))
    }

    async fn get_phase(
        &self,
        _: Request<proto::GetPhaseRequest>,
    ) -> Result<Response<proto::GetPhaseResponse>, Status> {
        let report = self.parts.phases.report().await.map_err(|fault| refuse(&fault))?;
        let phase = Some(phases::report(report));
        Ok(Response::new(proto::GetPhaseResponse { phase }))
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
        let proto::ListHistoryRequest { page_size, page_token } = request.into_inner();
        let page = pages::request(HISTORY, page_size, &page_token);
        let page = page.map_err(|fault| refuse(&fault))?;
        let found = self.parts.phases.history(page).await.map_err(|fault| refuse(&fault))?;
        Ok(Response::new(proto::ListHistoryResponse {
            events: found.items.into_iter().map(phases::event).collect(),
            next_page_token: pages::token(HISTORY, found.next.as_ref()),
        }))
    }
}

fn told(operation: Result<Document, SqlFault>) -> Result<proto::Operation, Status> {
    operation.and_then(|it| operations::decoded(&it)).map_err(|fault| refuse(&fault))
}

fn refuse(fault: &SqlFault) -> Status {
    status::from_fault(fault, None)
}

fn table(given: &str) -> Result<Option<TableName>, SqlFault> {
    if given.is_empty() {
        return Ok(None);
    }
    let (schema, name) = given.split_once('.').ok_or_else(|| {
        let message = format!("{given:?} is not a table: write it as schema.table");
        SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidTable, message)
    })?;
    Ok(Some(TableName::new(schema, name)))
}

fn resolution(request: proto::ResolveMismatchRequest) -> Result<Resolution, SqlFault> {
    let invalid = |message: String| {
        SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidResolution, message)
    };
    let verdict = request.verdict();
    let proto::ResolveMismatchRequest { fingerprint, actor, reason, .. } = request;
    for (name, given) in [("fingerprint", &fingerprint), ("reason", &reason), ("actor", &actor)] {
        if given.trim().is_empty() {
            return Err(invalid(format!("{name} is empty; what is resolved is kept on record")));
        }
    }
    Ok(Resolution { fingerprint, verdict: verdict.known(), reason, resolved_by: actor })
}
