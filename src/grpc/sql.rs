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
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::WriteId;
use crate::grpc::answer::{self, Frames};
use crate::grpc::call::{Call, Deadlines, QueryFrames};
use crate::grpc::metadata::{self, Headers};
use crate::grpc::{proto, refusal, request, session};
use crate::stack::Stack;
use crate::stack::call::{ReadCall, TransactionAnswer, TransactionCall, WriteCall, Written};
use crate::telemetry::metrics::{Method, Metrics};

/// Bytes of a message beside its rows.
const ENVELOPE_BYTES: usize = 1024;

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

    /// Sessions take no more calls once this is cancelled, and end.
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

    /// What the transport says of a message of a session, in the service's own terms.
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

    /// Bytes of one message's rows: the message has other fields too.
    fn rows_bytes_max(&self) -> usize {
        self.params.message_bytes_max.saturating_sub(ENVELOPE_BYTES)
    }

    /// A unary answer fits one message, and is refused before the write is committed.
    fn unary_limits(&self) -> ResultLimits {
        let ResultLimits { rows_max, bytes_max } = self.params.result;
        ResultLimits { rows_max, bytes_max: bytes_max.min(self.rows_bytes_max() as u64) }
    }

    pub(super) async fn run_query(
        &self,
        call: &Call,
        given: proto::QueryRequest,
    ) -> Result<Frames, SqlFault> {
        let encoding = request::encoding(given.encoding)?;
        let mut context = call.context(self.params.result);
        context.routing_key = request::routing_key(&given.routing_key)?;
        let read = ReadCall {
            statement: request::statement(given.statement)?,
            transaction: request::transaction(&given.transaction_id)?,
            must_see: request::consistency_token(&given.consistency_token)?,
            trace_id: call.trace_id(),
            context,
        };
        let answer = self.stack.read(read).await?;
        Ok(Frames::new(answer, encoding, self.rows_bytes_max()))
    }

    pub(super) async fn run_execute(
        &self,
        call: &Call,
        given: proto::ExecuteRequest,
    ) -> Result<proto::ExecuteResponse, SqlFault> {
        let encoding = request::encoding(given.encoding)?;
        request::consistency_token(&given.consistency_token)?;
        let mut context = call.context(self.unary_limits());
        context.routing_key = request::routing_key(&given.routing_key)?;
        let write = WriteCall {
            statements: vec![request::statement(given.statement)?],
            transaction: request::transaction(&given.transaction_id)?,
            idempotency_key: request::idempotency_key(&given.idempotency_key)?,
            context,
        };
        let in_transaction = write.transaction.is_some();
        let Written { answer, must_see } = self.stack.write(write).await?;
        let item = answer.items.first().ok_or_else(no_item)?;
        let returned = answer::returned(item, encoding, self.rows_bytes_max())
            .map_err(|fault| still_to_be_seen(fault, must_see))?;
        Ok(proto::ExecuteResponse {
            affected_rows: item.affected_rows,
            columns: returned.columns,
            rows: returned.rows,
            packed: returned.packed,
            write_id: if in_transaction { String::new() } else { answer.write_id.to_string() },
            consistency_token: token(must_see),
            replayed: answer.replayed,
        })
    }

    pub(super) async fn run_batch(
        &self,
        call: &Call,
        given: proto::BatchRequest,
    ) -> Result<proto::BatchResponse, SqlFault> {
        let encoding = request::encoding(given.encoding)?;
        let statements = given.statements.into_iter().enumerate().map(|(index, given)| {
            request::statement(Some(given)).map_err(|mut fault| {
                fault.message = format!("statement {}: {}", index + 1, fault.message);
                fault
            })
        });
        let mut context = call.context(self.unary_limits());
        context.routing_key = request::routing_key(&given.routing_key)?;
        let write = WriteCall {
            statements: statements.collect::<Result<_, _>>()?,
            transaction: None,
            idempotency_key: request::idempotency_key(&given.idempotency_key)?,
            context,
        };
        let Written { answer, must_see } = self.stack.write(write).await?;
        let mut bytes_left = self.rows_bytes_max();
        let mut items = Vec::with_capacity(answer.items.len());
        for item in &answer.items {
            let returned = answer::returned(item, encoding, bytes_left)
                .map_err(|fault| still_to_be_seen(fault, must_see))?;
            bytes_left = bytes_left.saturating_sub(returned.byte_len());
            items.push(proto::BatchItem {
                affected_rows: item.affected_rows,
                columns: returned.columns,
                rows: returned.rows,
                packed: returned.packed,
            });
        }
        Ok(proto::BatchResponse {
            items,
            write_id: answer.write_id.to_string(),
            consistency_token: token(must_see),
            replayed: answer.replayed,
        })
    }

    pub(super) async fn run_begin(
        &self,
        call: &Call,
        given: &proto::BeginRequest,
    ) -> Result<proto::BeginResponse, SqlFault> {
        let Params { transaction_idle_max, transaction_total_max, .. } = *self.params;
        let options =
            request::transaction_options(given, transaction_idle_max, transaction_total_max)?;
        let context = call.context(self.unary_limits());
        match self.stack.transaction(TransactionCall::Begin(options, context)).await? {
            TransactionAnswer::Begun(id) => {
                Ok(proto::BeginResponse { transaction_id: request::transaction_text(id) })
            }
            _ => Err(no_item()),
        }
    }

    pub(super) async fn run_commit(
        &self,
        call: &Call,
        given: &proto::CommitRequest,
    ) -> Result<proto::CommitResponse, SqlFault> {
        let id = request::transaction_required(&given.transaction_id)?;
        let context = call.context(self.unary_limits());
        match self.stack.transaction(TransactionCall::Commit(id, context)).await? {
            TransactionAnswer::Committed { write_id, must_see } => Ok(proto::CommitResponse {
                write_id: write_id.to_string(),
                consistency_token: token(must_see),
            }),
            _ => Err(no_item()),
        }
    }

    pub(super) async fn run_rollback(
        &self,
        given: &proto::RollbackRequest,
    ) -> Result<proto::RollbackResponse, SqlFault> {
        let id = request::transaction_required(&given.transaction_id)?;
        self.stack.transaction(TransactionCall::Rollback(id)).await?;
        Ok(proto::RollbackResponse {})
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
        let frames = self.run_query(&call, request.into_inner()).instrument(span).await;
        match frames {
            Ok(frames) => Ok(Response::new(QueryFrames::new(call, frames).boxed())),
            Err(fault) => Err(call.fail(&fault)),
        }
    }

    type SessionStream = session::Answers;

    async fn session(
        &self,
        request: Request<Streaming<proto::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let answers =
            session::open(Arc::new(self.clone()), request.into_inner(), self.stop.clone());
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

/// A write that is done, though its answer cannot be given, keeps its token.
fn still_to_be_seen(fault: SqlFault, must_see: Option<WriteId>) -> SqlFault {
    SqlFault { must_see: must_see.map(Box::new), ..fault }
}

fn token(must_see: Option<WriteId>) -> String {
    must_see.map(|id| id.to_string()).unwrap_or_default()
}

fn no_item() -> SqlFault {
    SqlFault::new(FaultKind::Internal, "answer", "the answer does not belong to the call")
}
