//! The service `Sql`: requests become calls of the stack, answers become messages.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use opentelemetry::propagation::Extractor;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::domain::call::ResultLimits;
use crate::grpc::call::{Call, Deadlines, QueryParts};
use crate::grpc::metadata::{self, Headers};
use crate::grpc::{pipeline, proto, refusal};
use crate::stack::Stack;
use crate::telemetry::metrics::{Method, Metrics};

/// Limits of the calls.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// Limits of one answer.
    pub result: ResultLimits,
    /// Bytes of one message, in either direction.
    pub message_bytes_max: usize,
    /// The deadline of a call that has none.
    pub deadline_default: Duration,
    /// The longest deadline.
    pub deadline_max: Duration,
    /// The longest idle time of a transaction, and its default.
    pub transaction_idle_max: Duration,
    /// The longest time of a transaction, and its default.
    pub transaction_total_max: Duration,
    /// Open transactions.
    pub transactions_max: u32,
    /// Parameters of one statement.
    pub parameters_max: u32,
    /// Statements of one batch.
    pub batch_statements_max: u32,
    /// Only statements of the query files are run.
    pub named_only: bool,
}

/// The application's calls.
#[derive(Debug, Clone)]
pub struct SqlService {
    stack: Stack,
    params: Arc<Params>,
    metrics: Metrics,
    stop: CancellationToken,
}

// === impl SqlService ===

impl SqlService {
    /// Serves a stack.
    pub fn new(stack: Stack, params: Params, metrics: Metrics) -> Self {
        Self { stack, params: Arc::new(params), metrics, stop: CancellationToken::new() }
    }

    pub(super) fn stack(&self) -> &Stack {
        &self.stack
    }

    pub(super) fn params(&self) -> &Params {
        &self.params
    }

    /// Pipelines take no more calls once this is cancelled, and end.
    #[must_use]
    pub fn stopped_by(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// What counts its calls.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn begin_call<T>(&self, method: Method, request: &Request<T>) -> Call {
        let metadata = request.metadata();
        self.begin(method, metadata::timeout(metadata), &Headers(metadata))
    }

    /// What the transport says of a message of a pipeline, in the service's own terms.
    pub(super) fn explained(&self, found: Status) -> Status {
        refusal::explained(found, self.params.message_bytes_max, &self.metrics)
    }

    /// A call that has just arrived.
    pub(super) fn begin(
        &self,
        method: Method,
        timeout: Option<Duration>,
        caller: &impl Extractor,
    ) -> Call {
        let deadlines =
            Deadlines { default: self.params.deadline_default, max: self.params.deadline_max };
        Call::begin(method, timeout, caller, deadlines, &self.metrics)
    }
}

#[tonic::async_trait]
impl proto::sql_server::Sql for SqlService {
    type QueryStream = BoxStream<'static, Result<proto::QueryResponse, Status>>;

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let mut call = self.begin_call(Method::Query, &request);
        let span = call.span().clone();
        let parts = self.run_query(&call, request.into_inner()).instrument(span).await;
        match parts {
            Ok(parts) => Ok(Response::new(QueryParts::new(call, parts).boxed())),
            Err(fault) => Err(call.fail(&fault)),
        }
    }

    type PipelineStream = pipeline::Answers;

    async fn pipeline(
        &self,
        request: Request<Streaming<proto::PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let answers =
            pipeline::open(Arc::new(self.clone()), request.into_inner(), self.stop.clone());
        Ok(Response::new(answers))
    }

    async fn execute(
        &self,
        request: Request<proto::ExecuteRequest>,
    ) -> Result<Response<proto::ExecuteResponse>, Status> {
        let call = self.begin_call(Method::Execute, &request);
        let span = call.span().clone();
        let result = self.run_execute(&call, request.into_inner()).instrument(span).await;
        call.answer(result)
    }

    async fn batch(
        &self,
        request: Request<proto::BatchRequest>,
    ) -> Result<Response<proto::BatchResponse>, Status> {
        let call = self.begin_call(Method::Batch, &request);
        let span = call.span().clone();
        let result = self.run_batch(&call, request.into_inner()).instrument(span).await;
        call.answer(result)
    }

    async fn begin(
        &self,
        request: Request<proto::BeginRequest>,
    ) -> Result<Response<proto::BeginResponse>, Status> {
        let call = self.begin_call(Method::Begin, &request);
        let span = call.span().clone();
        let result = self.run_begin(&call, request.get_ref()).instrument(span).await;
        call.answer(result)
    }

    async fn commit(
        &self,
        request: Request<proto::CommitRequest>,
    ) -> Result<Response<proto::CommitResponse>, Status> {
        let call = self.begin_call(Method::Commit, &request);
        let span = call.span().clone();
        let result = self.run_commit(&call, request.get_ref()).instrument(span).await;
        call.answer(result)
    }

    async fn rollback(
        &self,
        request: Request<proto::RollbackRequest>,
    ) -> Result<Response<proto::RollbackResponse>, Status> {
        let call = self.begin_call(Method::Rollback, &request);
        let span = call.span().clone();
        let result = self.run_rollback(request.get_ref()).instrument(span).await;
        call.answer(result)
    }

    async fn describe(
        &self,
        request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::DescribeResponse>, Status> {
        let call = self.begin_call(Method::Describe, &request);
        let span = call.span().clone();
        let result = self.run_describe(&call, request.into_inner()).instrument(span).await;
        call.answer(result)
    }

    async fn info(
        &self,
        request: Request<proto::InfoRequest>,
    ) -> Result<Response<proto::InfoResponse>, Status> {
        let call = self.begin_call(Method::Info, &request);
        call.answer(Ok(self.run_info()))
    }
}
