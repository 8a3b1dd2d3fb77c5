//! The span of a statement on a database, under the caller's.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream::{BoxStream, Stream, StreamExt};
use tracing::Span;
use tracing::field::Empty;

use crate::domain::answer::RowBatch;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::ports::AnswerStream;

/// A client span with OpenTelemetry's stable names. It holds no parameter values.
pub(super) fn statement(side: Side, summary: &str) -> Span {
    tracing::info_span!(
        "statement",
        otel.name = summary,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "postgresql",
        db.query.summary = summary,
        db.response.status_code = Empty,
        db.response.returned_rows = Empty,
        error.type = Empty,
        segue.side = side.as_str(),
    )
}

/// Notes on the span how the statement failed, if it did.
pub(super) fn note_fault<T>(span: &Span, result: Result<T, SqlFault>) -> Result<T, SqlFault> {
    if let Err(fault) = &result {
        note(span, fault);
    }
    result
}

/// Keeps the span open until the answer has ended.
pub(super) fn follow(span: Span, answer: AnswerStream) -> AnswerStream {
    if span.is_disabled() {
        return answer;
    }
    let batches = Followed { span, rows: 0, inner: answer.batches }.boxed();
    AnswerStream { columns: answer.columns, batches }
}

fn note(span: &Span, fault: &SqlFault) {
    span.record("otel.status_code", "ERROR");
    if fault.sqlstate.is_empty() {
        span.record("error.type", fault.reason);
    } else {
        span.record("db.response.status_code", fault.sqlstate.as_str());
        span.record("error.type", fault.sqlstate.as_str());
    }
}

struct Followed {
    span: Span,
    rows: u64,
    inner: BoxStream<'static, Result<RowBatch, SqlFault>>,
}

impl Stream for Followed {
    type Item = Result<RowBatch, SqlFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let span = self.span.clone();
        let polled = span.in_scope(|| self.inner.as_mut().poll_next(cx));
        match &polled {
            Poll::Ready(Some(Ok(batch))) => self.rows += u64::from(batch.row_count()),
            Poll::Ready(Some(Err(fault))) => note(&span, fault),
            Poll::Ready(None) => {
                span.record("db.response.returned_rows", self.rows);
            }
            Poll::Pending => {}
        }
        polled
    }
}
