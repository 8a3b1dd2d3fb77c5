//! One call of a session, from its request to its answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{Peekable, Stream};
use tracing::Instrument;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::grpc::answer::Frames;
use crate::grpc::call::Call;
use crate::grpc::proto;
use crate::grpc::proto::query_response::Frame;
use crate::grpc::proto::session_request::Call as Asked;
use crate::grpc::proto::session_response::Answer;
use crate::grpc::sql::SqlService;

/// What a call came to, or a part of that.
pub(super) struct Progress {
    pub(super) id: u64,
    pub(super) answer: Answer,
    /// There where the answer goes on.
    pub(super) rest: Option<LongAnswer>,
}

/// An answer of several parts.
pub(super) struct LongAnswer {
    id: u64,
    call: Call,
    frames: Peekable<Frames>,
}

/// Runs a call to its answer, or to the first part of it.
pub(super) fn run(
    service: Arc<SqlService>,
    id: u64,
    mut call: Call,
    asked: Asked,
) -> BoxFuture<'static, Progress> {
    let span = call.span().clone();
    let work = async move {
        let answer = match asked {
            Asked::Query(given) => match service.run_query(&call, given).await {
                Ok(frames) => {
                    let frames = frames.peekable();
                    return LongAnswer { id, call, frames }.part().await;
                }
                Err(fault) => Err(fault),
            },
            Asked::Execute(given) => service.run_execute(&call, given).await.map(Answer::Execute),
            Asked::Batch(given) => service.run_batch(&call, given).await.map(Answer::Batch),
            Asked::Begin(given) => service.run_begin(&call, &given).await.map(Answer::Begin),
            Asked::Commit(given) => service.run_commit(&call, &given).await.map(Answer::Commit),
            Asked::Rollback(given) => service.run_rollback(&given).await.map(Answer::Rollback),
            Asked::Cancel(_) => {
                let message = "a cancel is not a call";
                Err(SqlFault::new(FaultKind::Internal, "internal", message))
            }
        };
        let answer = match answer {
            Ok(answer) => {
                call.succeed();
                answer
            }
            Err(fault) => Answer::Failure(call.fail_in_session(&fault)),
        };
        Progress { id, answer, rest: None }
    };
    Box::pin(work.instrument(span))
}

// === impl LongAnswer ===

impl LongAnswer {
    pub(super) fn next_part(self) -> BoxFuture<'static, Progress> {
        let span = self.call.span().clone();
        Box::pin(self.part().instrument(span))
    }

    /// One batch of rows, which is waited for, with what is ready of the rest: a short answer
    /// is one part.
    async fn part(mut self) -> Progress {
        let mut part = proto::QueryPart::default();
        let end = poll_fn(|cx| {
            let mut frames = Pin::new(&mut self.frames);
            loop {
                match ready!(frames.as_mut().poll_next(cx)) {
                    Some(Ok(Frame::Header(header))) => part.header = Some(header),
                    Some(Ok(Frame::Rows(rows))) => part.rows = Some(rows),
                    Some(Ok(Frame::Packed(packed))) => part.packed = Some(packed),
                    Some(Ok(Frame::Footer(footer))) => {
                        part.footer = Some(footer);
                        return Poll::Ready(End::Reached);
                    }
                    Some(Err(fault)) => return Poll::Ready(End::Failed(fault)),
                    None => return Poll::Ready(End::Failed(no_footer())),
                }
                let has_rows = part.rows.is_some() || part.packed.is_some();
                if !has_rows {
                    continue;
                }
                let next = frames.as_mut().poll_peek(cx);
                if !matches!(next, Poll::Ready(Some(Ok(Frame::Footer(_))))) {
                    return Poll::Ready(End::NotYet);
                }
            }
        })
        .await;
        let Self { id, mut call, frames } = self;
        match end {
            End::NotYet => {
                let rest = Some(Self { id, call, frames });
                Progress { id, answer: Answer::Query(part), rest }
            }
            End::Reached => {
                call.succeed();
                Progress { id, answer: Answer::Query(part), rest: None }
            }
            End::Failed(fault) => {
                let answer = Answer::Failure(call.fail_in_session(&fault));
                Progress { id, answer, rest: None }
            }
        }
    }
}

enum End {
    NotYet,
    Reached,
    Failed(SqlFault),
}

fn no_footer() -> SqlFault {
    SqlFault::new(FaultKind::Internal, "answer", "the answer ended before its end")
}
