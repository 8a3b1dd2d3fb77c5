//! Offers a sample of the reads, with their answer, to be compared on the other side.
//!
//! The answer is teed while it streams to the caller: batches are shared, not copied, up to a
//! bound for each and one for all of them. Nothing here waits, and nothing here can fail the caller.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use tower::Service;

use crate::domain::answer::{Answer, Observed, RowBatch};
use crate::domain::budget::HeldBytes;
use crate::domain::call::BoundStatement;
use crate::domain::control::ControlState;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::pg_type::Column;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::ports::{AnswerStream, Sample, ShadowReads};
use crate::stack::call::{Read, ReadAnswer};

/// Samples the reads of another service.
#[derive(Clone)]
pub struct ShadowRead<S> {
    inner: S,
    samples: Arc<dyn ShadowReads>,
}

// === impl ShadowRead ===

impl<S> ShadowRead<S> {
    /// Samples the reads that `inner` answers.
    pub fn new(inner: S, samples: Arc<dyn ShadowReads>) -> Self {
        Self { inner, samples }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for ShadowRead<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShadowRead").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Service<Read> for ShadowRead<S>
where
    S: Service<Read, Response = ReadAnswer, Error = SqlFault>,
    S::Future: Send + 'static,
{
    type Response = ReadAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, read: Read) -> Self::Future {
        let sampled =
            read.control.phase.samples() && self.samples.selects(&read.statement, read.trace_id);
        if !sampled {
            return Box::pin(self.inner.call(read));
        }
        if let Some(reason) = read.route.unsampled {
            self.samples.skipped(&read.statement, reason);
            return Box::pin(self.inner.call(read));
        }
        let pending = Pending {
            statement: read.statement.clone(),
            control: read.control,
            span: tracing::Span::current(),
            held: self.samples.memory().share(),
            samples: Arc::clone(&self.samples),
        };
        let answer = self.inner.call(read);
        Box::pin(async move {
            match answer.await {
                Ok(answer) => Ok(tee(answer, pending)),
                Err(fault) => {
                    pending.failed(&fault);
                    Err(fault)
                }
            }
        })
    }
}

/// A sample whose answer is not complete yet.
struct Pending {
    statement: BoundStatement,
    control: ControlState,
    span: tracing::Span,
    held: HeldBytes,
    samples: Arc<dyn ShadowReads>,
}

impl Pending {
    fn offer(self, observed: Observed, answered_by: Side) {
        let Self { statement, control, span, held, samples } = self;
        samples.offer(Sample { statement, observed, answered_by, held, control, span });
    }

    fn skip(self, reason: &'static str) {
        self.samples.skipped(&self.statement, reason);
    }

    /// A fault of the database is an answer, and the shadow should give the same. Any other
    /// tells of this call alone.
    fn failed(self, fault: &SqlFault) {
        if fault.kind == FaultKind::Database && fault.sqlstate != sqlstate::QUERY_CANCELED {
            // A caller hears of faults of the primary alone, unless rows came before.
            let side = fault.side.unwrap_or(self.control.phase.primary());
            self.offer(Observed::Fault(fault.clone()), side);
        } else {
            self.skip("primary_failed");
        }
    }
}

fn tee(answer: ReadAnswer, pending: Pending) -> ReadAnswer {
    let ReadAnswer { stream: AnswerStream { columns, batches }, side, .. } = answer;
    let tee = Tee {
        bytes_left: pending.samples.answer_bytes_max(),
        columns: Arc::clone(&columns),
        batches: Vec::new(),
        rows: 0,
        pending: Some(pending),
        side,
        inner: batches,
    };
    ReadAnswer { stream: AnswerStream { columns, batches: tee.boxed() }, ..answer }
}

struct Tee {
    /// Gone once the sample was offered or skipped; from then on nothing is kept.
    pending: Option<Pending>,
    bytes_left: u64,
    columns: Arc<[Column]>,
    batches: Vec<RowBatch>,
    rows: u64,
    side: Side,
    inner: BoxStream<'static, Result<RowBatch, SqlFault>>,
}

impl Tee {
    fn keep(&mut self, batch: &RowBatch) {
        let Some(pending) = &mut self.pending else { return };
        let bytes = batch.cells().len() as u64;
        let Some(left) = self.bytes_left.checked_sub(bytes) else { return self.skip("too_large") };
        if !pending.held.grow(bytes) {
            return self.skip("memory");
        }
        self.bytes_left = left;
        self.rows += u64::from(batch.row_count());
        self.batches.push(batch.clone());
    }

    fn skip(&mut self, reason: &'static str) {
        self.batches = Vec::new();
        if let Some(pending) = self.pending.take() {
            pending.skip(reason);
        }
    }

    fn complete(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let answer = Answer {
            columns: Arc::clone(&self.columns),
            batches: mem::take(&mut self.batches),
            affected_rows: self.rows,
        };
        pending.offer(Observed::Answer(answer), self.side);
    }
}

impl Stream for Tee {
    type Item = Result<RowBatch, SqlFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.as_mut().poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(batch))) => self.keep(batch),
            Poll::Ready(Some(Err(fault))) => {
                self.batches = Vec::new();
                if let Some(mut pending) = self.pending.take() {
                    // What came before the fault is not kept any more.
                    pending.held = pending.samples.memory().share();
                    pending.failed(fault);
                }
            }
            Poll::Ready(None) => self.complete(),
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Tee {
    /// The caller went away before the end: half an answer is nothing to compare.
    fn drop(&mut self) {
        self.skip("abandoned");
    }
}
