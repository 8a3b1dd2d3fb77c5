//! Many calls on one stream: `Sql.Pipeline`.
//!
//! One task drives all calls of a stream: it takes requests, runs them, and hands over what
//! is ready. It goes on while the caller does not read, so that no call holds a shared
//! connection for a caller's sake; but it takes no request, and no further part of a long
//! answer, while more than `UNREAD_BYTES_MAX` wait to be read.

mod outgoing;
mod running;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, Streaming};

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::grpc::metadata::TraceParent;
use crate::grpc::proto::pipeline_request::Call as Asked;
use crate::grpc::proto::pipeline_response::Answer;
use crate::grpc::sql::SqlService;
use crate::grpc::{proto, request, status};
use crate::telemetry::metrics::Method;

pub use outgoing::Answers;
use outgoing::Outgoing;
use running::{LongAnswer, Progress};

/// Calls of one stream that may wait for their answers.
pub const CALLS_MAX: usize = 512;
/// Bytes of answers that wait to be read, above which nothing new is begun.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;

/// Serves a stream of requests in a task of its own.
pub(super) fn open(
    service: Arc<SqlService>,
    requests: Streaming<proto::PipelineRequest>,
    stop: CancellationToken,
) -> Answers {
    let (outgoing, answers) = outgoing::channel(UNREAD_BYTES_MAX);
    tokio::spawn(Driver {
        service,
        requests: Some(requests),
        calls: HashMap::new(),
        running: FuturesUnordered::new(),
        held_back: VecDeque::new(),
        outgoing,
        stop: Box::pin(stop.cancelled_owned()),
        stopping: false,
    });
    answers
}

/// All calls of one stream. Dropped, it cancels them; writes run to their end all the same.
struct Driver {
    service: Arc<SqlService>,
    /// Gone once the caller has sent his last one, or segue stops.
    requests: Option<Streaming<proto::PipelineRequest>>,
    calls: HashMap<u64, CancellationToken>,
    running: FuturesUnordered<BoxFuture<'static, Progress>>,
    /// Long answers whose next part waits until the caller has read.
    held_back: VecDeque<LongAnswer>,
    outgoing: Outgoing,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    stopping: bool,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.outgoing.register(cx.waker());
        loop {
            if this.outgoing.is_closed() {
                return Poll::Ready(());
            }
            if !this.stopping && this.stop.as_mut().poll(cx).is_ready() {
                this.stopping = true;
                this.requests = None;
            }
            let answered = this.poll_running(cx);
            let taken = match this.poll_requests(cx) {
                Ok(taken) => taken,
                Err(status) => {
                    this.outgoing.end(status);
                    return Poll::Ready(());
                }
            };
            if this.requests.is_none() && this.calls.is_empty() {
                if this.stopping {
                    this.outgoing.end(shutting_down());
                }
                return Poll::Ready(());
            }
            if !answered && !taken {
                return Poll::Pending;
            }
        }
    }
}

impl Driver {
    /// Hands over what is ready.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progressed = false;
        while self.outgoing.has_room()
            && let Some(answer) = self.held_back.pop_front()
        {
            self.running.push(answer.next_part());
            progressed = true;
        }
        while let Poll::Ready(Some(progress)) = Pin::new(&mut self.running).poll_next(cx) {
            let Progress { id, answer, rest } = progress;
            self.outgoing.send(proto::PipelineResponse { id, answer: Some(answer) });
            match rest {
                Some(rest) => self.held_back.push_back(rest),
                None => {
                    self.calls.remove(&id);
                }
            }
            progressed = true;
        }
        progressed
    }

    /// Takes requests while there is room for their answers.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        let mut progressed = false;
        while self.outgoing.has_room()
            && let Some(requests) = &mut self.requests
        {
            match Pin::new(requests).poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => self.take(request)?,
                // The stream broke off, and with it whoever would read the answers.
                Poll::Ready(Some(Err(status))) => return Err(self.service.explained(status)),
                Poll::Ready(None) => self.requests = None,
                Poll::Pending => break,
            }
            progressed = true;
        }
        Ok(progressed)
    }

    fn take(&mut self, request: proto::PipelineRequest) -> Result<(), Status> {
        let proto::PipelineRequest { id, timeout, traceparent, call } = request;
        let asked = call
            .ok_or_else(|| invalid(format!("request {id} has no call: set one of its fields")))?;
        if let Asked::Cancel(proto::Cancel {}) = asked {
            if let Some(canceller) = self.calls.get(&id) {
                canceller.cancel();
            }
            return Ok(());
        }
        if self.calls.contains_key(&id) {
            return Err(invalid(format!(
                "id {id} is that of a call which has not been answered yet: give each its own"
            )));
        }
        let timeout = request::duration("timeout", timeout.as_ref())
            .map_err(|fault| status::from_fault(&fault, None))?;
        let mut call = self.service.begin(method(&asked), timeout, &TraceParent(&traceparent));
        if self.calls.len() >= CALLS_MAX {
            let failure = call.fail_in_pipeline(&too_many());
            let answer = Some(Answer::Status(failure));
            self.outgoing.send(proto::PipelineResponse { id, answer });
            return Ok(());
        }
        self.calls.insert(id, call.canceller());
        self.running.push(running::run(Arc::clone(&self.service), id, call, asked));
        Ok(())
    }
}

fn method(asked: &Asked) -> Method {
    match asked {
        Asked::Query(_) => Method::Query,
        Asked::Execute(_) => Method::Execute,
        Asked::Batch(_) => Method::Batch,
        Asked::Begin(_) => Method::Begin,
        Asked::Commit(_) => Method::Commit,
        // A cancel is no call, and was dealt with before.
        Asked::Rollback(_) | Asked::Cancel(_) => Method::Rollback,
    }
}

/// Ends the stream: it cannot be told which call would have the answer.
fn invalid(message: String) -> Status {
    let fault = SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidPipelineRequest, message);
    status::from_fault(&fault, None)
}

fn shutting_down() -> Status {
    let message = "segue is shutting down; what was not answered was not begun";
    let fault =
        SqlFault::new(FaultKind::Unavailable, Reason::UnavailableShutdown, message).retryable();
    status::from_fault(&fault, None)
}

fn too_many() -> SqlFault {
    let message = format!("{CALLS_MAX} calls of this pipeline wait for their answers already");
    SqlFault::new(FaultKind::LimitExceeded, Reason::LimitPipelineCalls, message)
        .with_hint("wait for answers, or open a second pipeline")
        .retryable()
}
