//! A statement on a database, seen by operators: its span under the call's, and its time.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::stream::{BoxStream, Stream, StreamExt};
use tracing::Span;

use crate::domain::answer::RowBatch;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::side::{Side, Sides};
use crate::ports::AnswerStream;
use crate::telemetry::metrics::{Metrics, Purpose};
use crate::telemetry::spans::{self, Peer, Writers};

/// Watches statements. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Watch {
    peers: Arc<Sides<Peer>>,
    writers: Arc<Writers>,
    metrics: Metrics,
}

/// A statement being run. Dropped, it has ended.
#[derive(Debug)]
pub(super) struct Watched {
    span: Span,
    started: Instant,
    side: Side,
    purpose: Purpose,
    metrics: Metrics,
    /// When the first answer was there: what follows goes at the caller's pace.
    answered: OnceLock<Duration>,
    failed: AtomicBool,
}

// === impl Watch ===

impl Watch {
    /// Watches statements on these, and remembers which call made which write.
    pub fn new(peers: Sides<Peer>, writers: Arc<Writers>, metrics: Metrics) -> Self {
        Self { peers: Arc::new(peers), writers, metrics }
    }

    pub(super) fn begin(&self, side: Side, purpose: Purpose, summary: &str) -> Watched {
        Watched {
            span: spans::statement(self.peers.of(side), summary),
            started: Instant::now(),
            side,
            purpose,
            metrics: self.metrics.clone(),
            answered: OnceLock::new(),
            failed: AtomicBool::new(false),
        }
    }

    /// The write was captured: its reconcile will be linked to the present call.
    pub(super) fn captured(&self, watched: &Watched, write_id: WriteId) {
        spans::captured(&watched.span, write_id);
        self.writers.remember(write_id, &Span::current());
    }
}

// === impl Watched ===

impl Watched {
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    /// Notes the statement's name from the query files.
    pub(super) fn named(&self, name: Option<&str>) {
        spans::note_name(&self.span, name);
    }

    /// Notes how the statement failed, if it did.
    pub(super) fn note<T>(&self, result: Result<T, SqlFault>) -> Result<T, SqlFault> {
        result.inspect_err(|fault| self.note_fault(fault))
    }

    fn note_fault(&self, fault: &SqlFault) {
        spans::note_fault(&self.span, fault);
        if fault.is_of_side() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    /// The first part of the answer is there, or all of it.
    fn note_answered(&self) {
        // Only the first time counts.
        let _ = self.answered.set(self.started.elapsed());
    }

    /// Goes on until the answer has ended.
    pub(super) fn follow(self, answer: AnswerStream) -> AnswerStream {
        let batches = Followed { watched: self, rows: 0, inner: answer.batches }.boxed();
        AnswerStream { columns: answer.columns, batches }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        self.metrics.statement(self.side, self.purpose, elapsed);
        let answered = self.answered.get().copied().unwrap_or(elapsed);
        let failed = self.failed.load(Ordering::Relaxed);
        self.metrics.statement_ended(self.side, self.purpose, answered, failed);
    }
}

struct Followed {
    watched: Watched,
    rows: u64,
    inner: BoxStream<'static, Result<RowBatch, SqlFault>>,
}

impl Stream for Followed {
    type Item = Result<RowBatch, SqlFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let span = self.watched.span();
        let polled = span.in_scope(|| self.inner.as_mut().poll_next(cx));
        if polled.is_ready() {
            self.watched.note_answered();
        }
        match &polled {
            Poll::Ready(Some(Ok(batch))) => self.rows += u64::from(batch.row_count()),
            Poll::Ready(Some(Err(fault))) => self.watched.note_fault(fault),
            Poll::Ready(None) => {
                span.record(crate::telemetry::names::DB_RESPONSE_RETURNED_ROWS, self.rows);
            }
            Poll::Pending => {}
        }
        polled
    }
}
