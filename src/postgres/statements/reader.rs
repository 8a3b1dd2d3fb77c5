//! The rows of one answer on their way from the driver.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::time::Sleep;
use tokio_postgres::RowStream;

use super::collect::Collector;
use super::in_flight::InFlight;
use super::shared_reads::Ticket;
use super::stop::{Stop, stopped};
use crate::domain::answer::RowBatch;
use crate::domain::call::CallContext;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::Side;
use crate::postgres::session::fault;

/// Rows that have come are not kept back longer for those that have not.
const FLUSH_AFTER: Duration = Duration::from_millis(25);
/// The rows of one answer as a stream of batches. While it has its flight the statement may
/// be running.
pub(super) struct Reader {
    rows: Pin<Box<RowStream>>,
    context: CallContext,
    /// Made when it is first waited for: most answers are there at once.
    stop: Option<BoxFuture<'static, Stop>>,
    flush: Option<Pin<Box<Sleep>>>,
    collector: Collector,
    flight: Option<InFlight>,
    /// Others had to wait for the statement.
    slow: bool,
}

impl Stream for Reader {
    type Item = Result<RowBatch, SqlFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.flight.is_none() {
            return Poll::Ready(None);
        }
        loop {
            match this.rows.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(row))) => {
                    if let Err(fault) = this.collector.push(&row) {
                        // The statement still runs: dropping the flight cancels it.
                        this.flight = None;
                        return Poll::Ready(Some(Err(fault)));
                    }
                    if this.collector.is_full() {
                        this.flush = None;
                        return Poll::Ready(Some(Ok(this.collector.take())));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(this.fail(error)))),
                Poll::Ready(None) => {
                    if let Some(flight) = this.flight.take() {
                        this.slow = flight.landed(None);
                    }
                    let last = this.collector.take();
                    return Poll::Ready((last.row_count() > 0).then_some(Ok(last)));
                }
                Poll::Pending => return this.poll_waiting(cx),
            }
        }
    }
}

impl Reader {
    /// Reads an answer of so many columns.
    pub(super) fn new(
        rows: RowStream,
        width: usize,
        context: CallContext,
        side: Side,
        flight: InFlight,
    ) -> Self {
        Self {
            rows: Box::pin(rows),
            collector: Collector::new(width, context.limits, side),
            context,
            stop: None,
            flush: None,
            flight: Some(flight),
            slow: false,
        }
    }

    pub(super) fn side(&self) -> Side {
        self.collector.side()
    }

    /// Whether others had to wait for the statement, as far as is known.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    /// The statement may be running.
    pub(super) fn goes_on(&self) -> bool {
        self.flight.is_some()
    }

    /// The first batch; nothing where the call must be made elsewhere.
    pub(super) async fn first(&mut self) -> Option<Option<Result<RowBatch, SqlFault>>> {
        poll_fn(|cx| {
            if let Poll::Ready(first) = self.poll_next_unpin(cx) {
                return Poll::Ready(Some(first));
            }
            match self.ticket() {
                Some(ticket) => ticket.poll_move(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Its place, where it shares a session and may be running.
    pub(super) fn ticket(&self) -> Option<&Ticket> {
        self.flight.as_ref().and_then(InFlight::ticket)
    }

    /// Whether what is still to come may wait for somebody else's answer.
    pub(super) fn depends(&self) -> bool {
        self.ticket().is_some_and(Ticket::depends)
    }

    /// Waits until the call must not go on.
    pub(super) fn stop(&mut self) -> &mut BoxFuture<'static, Stop> {
        let context = &self.context;
        self.stop.get_or_insert_with(|| {
            let context = context.clone();
            async move { stopped(&context).await }.boxed()
        })
    }

    fn fail(&mut self, error: tokio_postgres::Error) -> SqlFault {
        let Some(flight) = self.flight.take() else {
            return fault::from_error(error, self.collector.side(), true);
        };
        let fault = match flight.session() {
            Ok(session) => read_lost(session.fault(error, true)),
            Err(fault) => fault,
        };
        self.slow = flight.landed(Some(&fault));
        fault::as_refused_write(fault)
    }

    /// No row is there: the call may have to stop, or what has come is handed over.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<RowBatch, SqlFault>>> {
        if let Poll::Ready(stop) = self.stop().poll_unpin(cx) {
            self.flight = None;
            return Poll::Ready(Some(Err(stop.fault(self.collector.side()))));
        }
        // Where it depends it is rather moved than cut in two.
        if self.collector.row_count() == 0 || self.depends() {
            return Poll::Pending;
        }
        let flush = self.flush.get_or_insert_with(|| Box::pin(tokio::time::sleep(FLUSH_AFTER)));
        if flush.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.flush = None;
        Poll::Ready(Some(Ok(self.collector.take())))
    }
}

/// A read changes nothing, so a lost connection leaves nothing in doubt and it may be made
/// again.
pub(super) fn read_lost(mut fault: SqlFault) -> SqlFault {
    if fault.kind == FaultKind::ConnectionLost {
        fault.outcome = crate::domain::fault::Outcome::NotApplied;
        fault.retryable = true;
    }
    fault
}
