//! What every call of `Sql` has: a span under the caller's, a deadline, a token that is
//! cancelled when the caller goes away, and an end that is counted.

use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::stream::Stream;
use opentelemetry::propagation::Extractor;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};
use tonic_types::pb;
use tracing::Span;

use crate::domain::call::{CallContext, ResultLimits, WriteItem};
use crate::domain::fault::SqlFault;
use crate::grpc::kept::Kept;
use crate::grpc::parts::{Part, Parts};
use crate::grpc::{metadata, proto, status};
use crate::telemetry::metrics::{Method, Metrics};
use crate::telemetry::{names, spans};

/// One call from its arrival to its end. Dropped before its end, it was cancelled.
#[derive(Debug)]
pub(super) struct Call {
    method: Method,
    started: Instant,
    deadline: Instant,
    cancelled: CancellationToken,
    span: Span,
    trace_id: Option<u128>,
    metrics: Metrics,
    kept: OnceLock<Kept>,
    ended: bool,
}

/// How long calls may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) default: Duration,
    pub(super) max: Duration,
}

// === impl Call ===

impl Call {
    /// A call that has just arrived, with what the caller says of his patience and his trace.
    pub(super) fn begin(
        method: Method,
        timeout: Option<Duration>,
        caller: &impl Extractor,
        deadlines: Deadlines,
        metrics: &Metrics,
    ) -> Self {
        let span = server_span(method, metadata::names_trace(caller));
        let trace_id = metadata::join_trace(&span, caller);
        let started = Instant::now();
        let timeout = timeout.unwrap_or(deadlines.default);
        Self {
            method,
            started,
            deadline: started + timeout.min(deadlines.max),
            cancelled: CancellationToken::new(),
            span,
            trace_id,
            metrics: metrics.clone(),
            kept: OnceLock::new(),
            ended: false,
        }
    }

    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    pub(super) fn trace_id(&self) -> Option<u128> {
        self.trace_id
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Cancels the call.
    pub(super) fn canceller(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// What the stack is told of the call.
    pub(super) fn context(&self, limits: ResultLimits) -> CallContext {
        CallContext {
            deadline: Some(self.deadline),
            routing_key: None,
            cancelled: self.cancelled.clone(),
            limits,
            admitted: None,
        }
    }

    /// Keeps the rows of its answer until that is sent.
    pub(super) fn keep(&self, items: &[WriteItem]) {
        if let Some(kept) = Kept::of(items) {
            let _ = self.kept.set(kept);
        }
    }

    /// Ends a call that was answered.
    pub(super) fn succeed(&mut self) {
        self.end(Code::Ok);
    }

    /// Ends a call that has one answer.
    pub(super) fn answer<T>(mut self, result: Result<T, SqlFault>) -> Result<Response<T>, Status> {
        match result {
            Ok(message) => {
                self.end(Code::Ok);
                let mut response = Response::new(message);
                if let Some(kept) = self.kept.take() {
                    response.extensions_mut().insert(kept);
                }
                Ok(response)
            }
            Err(fault) => Err(self.fail(&fault)),
        }
    }

    /// Ends a call that failed.
    pub(super) fn fail(&mut self, fault: &SqlFault) -> Status {
        let status = status::from_fault(fault, Some(self.deadline));
        self.note_sqlstate(fault);
        self.end(status.code());
        status
    }

    /// Ends a call of a pipeline that failed.
    pub(super) fn fail_in_pipeline(&mut self, fault: &SqlFault) -> pb::Status {
        let (code, status) = status::of_fault(fault, Some(self.deadline));
        self.note_sqlstate(fault);
        self.end(code);
        status
    }

    fn note_sqlstate(&self, fault: &SqlFault) {
        if !fault.sqlstate.is_empty() {
            self.span.record(names::DB_RESPONSE_STATUS_CODE, fault.sqlstate.as_str());
        }
    }

    fn end(&mut self, code: Code) {
        self.ended = true;
        let name = status::name(code);
        self.span.record(names::RPC_RESPONSE_STATUS_CODE, name);
        if is_servers_fault(code) {
            self.span.record("otel.status_code", "ERROR");
            self.span.record(names::ERROR_TYPE, name);
        }
        self.metrics.call(self.method, name, self.started.elapsed());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.cancelled.cancel();
            self.end(Code::Cancelled);
        }
    }
}

/// By OpenTelemetry's conventions a server's span is in error only for these.
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

fn server_span(method: Method, in_trace: bool) -> Span {
    let name = match method {
        Method::Query => "segue.v1.Sql/Query",
        Method::Execute => "segue.v1.Sql/Execute",
        Method::Batch => "segue.v1.Sql/Batch",
        Method::Begin => "segue.v1.Sql/Begin",
        Method::Commit => "segue.v1.Sql/Commit",
        Method::Rollback => "segue.v1.Sql/Rollback",
        Method::Describe => "segue.v1.Sql/Describe",
        Method::Info => "segue.v1.Sql/Info",
    };
    if in_trace { spans::call(name) } else { spans::call_of_its_own(name) }
}

/// The messages of a `Query`, and the call that ends with them.
pub(super) struct QueryParts {
    call: Call,
    /// Gone once the answer has ended.
    parts: Option<Parts>,
}

// === impl QueryParts ===

impl QueryParts {
    pub(super) fn new(call: Call, parts: Parts) -> Self {
        Self { call, parts: Some(parts) }
    }
}

impl Stream for QueryParts {
    type Item = Result<proto::QueryResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(parts) = &mut this.parts else { return Poll::Ready(None) };
        let span = this.call.span.clone();
        let part = ready!(span.in_scope(|| parts.poll_part(cx)));
        Poll::Ready(Some(match part {
            Part::More(message) => Ok(message),
            Part::Last(message) => {
                this.parts = None;
                this.call.end(Code::Ok);
                Ok(message)
            }
            Part::Failed(fault) => {
                this.parts = None;
                Err(this.call.fail(&fault))
            }
        }))
    }
}
