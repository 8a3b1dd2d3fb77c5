//! One call of a pipeline, from its request to its answer.

use std::future::poll_fn;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::Instrument;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::grpc::call::Call;
use crate::grpc::parts::{Part, Parts};
use crate::grpc::proto::pipeline_request::Call as Asked;
use crate::grpc::proto::pipeline_response::Answer;
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
    parts: Parts,
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
                Ok(parts) => return LongAnswer { id, call, parts }.part().await,
                Err(fault) => Err(fault),
            },
            Asked::Execute(given) => service.run_execute(&call, given).await.map(Answer::Execute),
            Asked::Batch(given) => service.run_batch(&call, given).await.map(Answer::Batch),
            Asked::Begin(given) => service.run_begin(&call, &given).await.map(Answer::Begin),
            Asked::Commit(given) => service.run_commit(&call, &given).await.map(Answer::Commit),
            Asked::Rollback(given) => service.run_rollback(&given).await.map(Answer::Rollback),
            Asked::Cancel(_) => {
                let message = "a cancel is not a call";
                Err(SqlFault::new(FaultKind::Internal, Reason::Internal, message))
            }
        };
        let answer = match answer {
            Ok(answer) => {
                call.succeed();
                answer
            }
            Err(fault) => Answer::Status(call.fail_in_pipeline(&fault)),
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

    async fn part(mut self) -> Progress {
        let part = poll_fn(|cx| self.parts.poll_part(cx)).await;
        let id = self.id;
        match part {
            Part::More(part) => Progress { id, answer: Answer::Query(part), rest: Some(self) },
            Part::Last(part) => {
                self.call.succeed();
                Progress { id, answer: Answer::Query(part), rest: None }
            }
            Part::Failed(fault) => {
                let answer = Answer::Status(self.call.fail_in_pipeline(&fault));
                Progress { id, answer, rest: None }
            }
        }
    }
}
