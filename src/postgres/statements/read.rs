//! Reads: rows from the wire into packed batches.
//!
//! An answer that fits one batch is read before anything is returned, and its session is
//! back in its pool by then. A longer one is read by a task of its own that stays at most
//! two batches ahead of whoever takes them; the driver in turn stops reading from the server
//! when nobody takes its rows.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio_postgres::RowStream;
use tokio_util::task::TaskTracker;

use super::execute::{Ready, is_stale, may_be_outdated, was_seen};
use super::in_flight::{Holder, InFlight};
use super::reader::{Reader, read_lost};
use super::shared_reads::{Manner, SharedSessions, Weight};
use super::stop::{stopped, unless_stopped};
use crate::domain::answer::RowBatch;
use crate::domain::call::{BoundStatement, CallContext};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::pg_type::Column;
use crate::domain::reason::Reason;
use crate::ports::{AnswerStream, ReadRequest, SessionSetting};
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::{Prepared, Session, fault, sync_batching};

/// Batches that wait for whoever takes them.
const BATCHES_AHEAD: usize = 1;

/// Times that a read is moved to another shared session before it gets one of its own.
const MOVES_MAX: usize = 2;

/// Where reads outside transactions get their sessions: one to themselves, or a place on a
/// shared one.
#[derive(Debug, Clone)]
pub struct ReadConnections {
    pool: Pool,
    shared: SharedSessions,
}

// === impl ReadConnections ===

impl ReadConnections {
    /// Reads over the sessions of a pool.
    pub fn new(pool: Pool) -> Self {
        Self { shared: SharedSessions::new(pool.clone()), pool }
    }

    /// The pool, for gauges.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) async fn lease(&self, deadline: Option<Instant>) -> Result<Lease, SqlFault> {
        self.pool.get_until(deadline).await
    }
}

/// Runs a read on a session of its own.
pub(super) async fn read(
    connections: &ReadConnections,
    tasks: &TaskTracker,
    request: ReadRequest,
) -> Result<AnswerStream, SqlFault> {
    let ReadRequest { statement, context } = request;
    let side = connections.pool.side();
    let lease = connections.lease(context.deadline);
    let lease = unless_stopped(&context, side, lease).await?;
    read_in(Holder::Pooled(lease), tasks, &statement, context).await
}

/// Runs a read under settings, in a session that nobody gets afterwards: statements that it has
/// prepared were read under them as well.
pub(super) async fn read_under(
    connections: &ReadConnections,
    tasks: &TaskTracker,
    request: ReadRequest,
    settings: Vec<SessionSetting>,
) -> Result<AnswerStream, SqlFault> {
    const SET: &str = "SELECT pg_catalog.set_config(s.name, s.value, false) \
        FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), \
            pg_catalog.unnest($2::pg_catalog.text[])) AS s (name, value)";
    let ReadRequest { mut statement, context } = request;
    let side = connections.pool.side();
    let lease = unless_stopped(&context, side, connections.lease(context.deadline)).await?;
    let (names, values): (Vec<String>, Vec<String>) = settings.into_iter().unzip();
    lease.poison();
    unless_stopped(&context, side, lease.query(SET, &[&names, &values])).await?;
    // Another text than any that the session may have prepared before.
    statement.sql = format!(" {}", statement.sql).into();
    read_in(Holder::Pooled(lease), tasks, &statement, context).await
}

/// Runs a read where others are at work as well, unless it is known to take long.
pub(super) async fn read_shared(
    connections: &ReadConnections,
    tasks: &TaskTracker,
    request: ReadRequest,
) -> Result<AnswerStream, SqlFault> {
    let ReadRequest { statement, context } = request;
    let shared = &connections.shared;
    for moves in 0..=MOVES_MAX {
        let Some(ticket) = shared.join(&statement.sql, moves > 0, &context).await? else { break };
        let manner = ticket.manner();
        let (flight, started) = begin_in(Holder::Shared(ticket), &statement, &context).await;
        if matches!(started, Err(Start::Skipped)) {
            flight.landed(None);
            continue;
        }
        let Finished { answer, weight } = finish_in(flight, started, tasks, &context).await;
        match weight {
            // What it had to wait for has nothing to do with it.
            Weight::Waited if manner == Manner::Apart => {}
            weight => shared.note(&statement.sql, weight, manner),
        }
        if let Some(answer) = answer {
            return answer;
        }
    }
    let lease = shared.alone(&context).await?;
    read_in(Holder::Pooled(lease), tasks, &statement, context).await
}

/// Runs a read in a session that somebody lends.
pub(super) async fn read_in(
    holder: Holder,
    tasks: &TaskTracker,
    statement: &BoundStatement,
    context: CallContext,
) -> Result<AnswerStream, SqlFault> {
    let (flight, started) = begin_in(holder, statement, &context).await;
    let finished = finish_in(flight, started, tasks, &context).await;
    finished.answer.unwrap_or_else(|| Err(moved()))
}

async fn begin_in(
    holder: Holder,
    statement: &BoundStatement,
    context: &CallContext,
) -> (InFlight, Result<Started, Start>) {
    let once_more = !matches!(holder, Holder::Transaction(_));
    let flight = InFlight::new(holder);
    let started = unless_stopped_in(&flight, context, statement, once_more).await;
    (flight, started)
}

/// What a read came to.
struct Finished {
    /// Nothing where it must be made elsewhere.
    answer: Option<Result<AnswerStream, SqlFault>>,
    /// What the statement turned out to be.
    weight: Weight,
}

impl Finished {
    fn failed(fault: SqlFault, weight: Weight) -> Self {
        Self { answer: Some(Err(fault)), weight }
    }

    fn moved(weight: Weight) -> Self {
        Self { answer: None, weight }
    }
}

async fn finish_in(
    flight: InFlight,
    started: Result<Started, Start>,
    tasks: &TaskTracker,
    context: &CallContext,
) -> Finished {
    let (prepared, rows) = match started {
        Ok(started) => started,
        // What was stopped has taken its time.
        Err(Start::Stopped(fault)) => return Finished::failed(fault, Weight::Slow),
        Err(Start::Moved | Start::Skipped) => return Finished::moved(Weight::Waited),
        Err(Start::Failed(fault)) => {
            let slow = flight.landed(Some(&fault));
            return Finished::failed(fault::as_refused_write(fault), weight(slow));
        }
        Err(Start::NotSent(fault)) => {
            flight.landed(None);
            return Finished::failed(fault, Weight::Light);
        }
    };
    let side = match flight.session() {
        Ok(session) => session.side(),
        Err(fault) => return Finished::failed(fault, Weight::Light),
    };
    let columns = Arc::clone(&prepared.columns);
    let mut reader = Reader::new(rows, columns.len(), context.clone(), side, flight);
    let first = match reader.first().await.map(Option::transpose) {
        Some(Ok(first)) => first,
        Some(Err(fault)) => return Finished::failed(fault, weight(reader.is_slow())),
        None => return Finished::moved(Weight::Waited),
    };
    // Nobody has any of it yet, and its end may wait for somebody else's.
    if reader.depends() {
        return Finished::moved(Weight::Long);
    }
    let weight = if reader.goes_on() { Weight::Long } else { weight(reader.is_slow()) };
    Finished { answer: Some(Ok(answer(reader, first, columns, tasks))), weight }
}

fn weight(slow: bool) -> Weight {
    if slow { Weight::Slow } else { Weight::Light }
}

fn moved() -> SqlFault {
    SqlFault::new(FaultKind::Internal, Reason::Internal, "a read was moved that has no other place")
}

/// The answer: whole where it is short, and else read on in a task of its own.
fn answer(
    mut reader: Reader,
    first: Option<RowBatch>,
    columns: Arc<[Column]>,
    tasks: &TaskTracker,
) -> AnswerStream {
    let side = reader.side();
    if !reader.goes_on() {
        let batches = stream::iter(first.map(Ok)).boxed();
        return AnswerStream { columns, batches };
    }
    if let Some(ticket) = reader.ticket() {
        ticket.take_over();
    }
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
    tasks.spawn(async move {
        let mut next = first.map(Ok);
        while let Some(batch) = next {
            let room = tokio::select! {
                biased;
                room = sender.reserve() => room,
                // A session is not kept for somebody who takes no rows.
                stop = reader.stop() => {
                    drop(reader);
                    // It is told when it comes back for more.
                    let _ = sender.send(Err(stop.fault(side))).await;
                    return;
                }
            };
            // Whoever took the batches has gone; dropping the reader cancels the rest.
            let Ok(room) = room else { return };
            room.send(batch);
            next = tokio::select! {
                () = sender.closed() => return,
                batch = reader.next() => batch,
            };
        }
    });
    let batches = tokio_stream::wrappers::ReceiverStream::new(receiver).boxed();
    AnswerStream { columns, batches }
}

type Started = (Arc<Prepared>, RowStream);

enum Start {
    /// It waits behind a statement that takes long, and is to be made elsewhere.
    Moved,
    /// It was in one piece with one that failed, and did not run.
    Skipped,
    /// The call must not go on; what runs is cancelled.
    Stopped(SqlFault),
    /// The server refused.
    Failed(SqlFault),
    /// The call is wrong, the server never saw it.
    NotSent(SqlFault),
}

async fn unless_stopped_in(
    flight: &InFlight,
    context: &CallContext,
    statement: &BoundStatement,
    once_more: bool,
) -> Result<(Arc<Prepared>, RowStream), Start> {
    let session = flight.session().map_err(Start::NotSent)?;
    if let Some(found) = session.found() {
        found.admits(session.side(), context.admitted).map_err(Start::NotSent)?;
    }
    let told_to_move = poll_fn(|cx| match flight.ticket() {
        Some(ticket) => ticket.poll_move(cx),
        None => Poll::Pending,
    });
    tokio::select! {
        biased;
        started = start(session, statement, once_more) => started,
        stop = stopped(context) => Err(Start::Stopped(stop.fault(session.side()))),
        () = told_to_move => Err(Start::Moved),
    }
}

async fn start(
    session: &Session,
    statement: &BoundStatement,
    once_more: bool,
) -> Result<(Arc<Prepared>, RowStream), Start> {
    let mut tries_left = usize::from(once_more);
    loop {
        let ready = Ready::make(session, statement).await.map_err(|fault| {
            if was_seen(&fault) { Start::Failed(fault) } else { Start::NotSent(fault) }
        })?;
        let Ready { prepared, params, was_known } = ready;
        match session.driver().query_raw(&prepared.statement, params).await {
            Ok(rows) => return Ok((prepared, rows)),
            Err(error) => {
                let fault = session.fault(error, true);
                if fault.sqlstate == sync_batching::SKIPPED {
                    return Err(Start::Skipped);
                }
                let outdated = was_known && may_be_outdated(&fault);
                if !outdated && !is_stale(&fault) {
                    return Err(Start::Failed(read_lost(fault)));
                }
                session.forget_prepared();
                if tries_left == 0 {
                    let stale = is_stale(&fault);
                    return Err(Start::Failed(if stale { fault.retryable() } else { fault }));
                }
                tries_left -= 1;
            }
        }
    }
}
