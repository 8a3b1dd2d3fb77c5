//! Transactions that span calls.
//!
//! Each has a session to itself. One call at a time may be in it; a second one at the same
//! moment is refused rather than queued, because which of them would run first is nothing
//! that its caller could have meant. After an error it can only be rolled back, to a
//! savepoint or as a whole, and COMMIT then is a fault and never an Ok.
//!
//! *If we crash here*, the servers roll back what was open.

mod end;
mod held;
mod registry;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::execute::{Ready, is_stale, was_seen};
use super::in_flight::{Holder, InFlight};
use super::pipeline::{self, Progress, begin_sql};
use super::read::read_in;
use super::stop::{stopped, supervised, unless_stopped};
use crate::domain::call::{
    BoundStatement, CallContext, Committed, Isolation, TransactionId, TransactionOptions,
    WriteAnswer,
};
use crate::domain::consistency::Token;
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::reason::Reason;
use crate::ports::{AnswerStream, ReadRequest, Transactions};
use crate::postgres::fence::mark;
use crate::postgres::pool::Pool;
use crate::postgres::session::guard::access_of;
use crate::postgres::session::{ServerFacts, fault};
use held::Open;
use registry::Registry;

pub(super) use held::Held;

/// How exactly the limits of time are kept.
const REAP_INTERVAL: Duration = Duration::from_millis(100);

/// What transactions need.
#[derive(Debug, Clone)]
pub struct Params {
    /// Sessions of the primary for writes.
    pub writes: Pool,
    /// Transactions that may be open at a time; each takes one of these sessions. Fewer than
    /// there are, or other writes may find none.
    pub open_max: usize,
    /// Statements and COMMITs run here, so that a shutdown can wait for them.
    pub tasks: TaskTracker,
}

/// The transactions of one sidecar. Clones share them.
#[derive(Debug, Clone)]
pub struct PostgresTransactions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    writes: Pool,
    tasks: TaskTracker,
    open_max: usize,
    permits: Arc<Semaphore>,
    registry: Mutex<Registry>,
}

// === impl PostgresTransactions ===

impl PostgresTransactions {
    /// No transaction is open yet. [`PostgresTransactions::run`] must run for the limits of
    /// time to be kept.
    pub fn new(params: Params) -> Self {
        let Params { writes, open_max, tasks } = params;
        let permits = Arc::new(Semaphore::new(open_max));
        let registry = Mutex::default();
        Self { shared: Arc::new(Shared { writes, tasks, open_max, permits, registry }) }
    }

    /// Transactions that are open now.
    pub fn open_count(&self) -> usize {
        self.shared.registry().len()
    }

    /// Rolls back what has passed its limits, until `stop`; then everything.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(REAP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.reap(),
            }
        }
        self.shared.permits.close();
        let held = self.shared.registry().end_all("was rolled back: segue is shutting down");
        futures_util::future::join_all(held.into_iter().map(held::roll_back)).await;
    }

    fn reap(&self) {
        let (held, overdue) = self.shared.registry().expired(Instant::now());
        for held in held {
            self.shared.tasks.spawn(held::roll_back(held));
        }
        for open in overdue {
            self.shared.tasks.spawn(async move {
                // Where the request does not arrive, the next round sends another.
                let _ = open.session().canceller().cancel().await;
            });
        }
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place among the open ones, waited for as long as for a session.
    async fn permit(&self) -> Result<OwnedSemaphorePermit, SqlFault> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        match tokio::time::timeout(self.writes.wait_max(), permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => {
                let message = "segue is shutting down";
                Err(fault::unavailable(self.writes.side(), Reason::UnavailableShutdown, message))
            }
            Err(_) => {
                let message = format!("{} transactions are open, as many as may be", self.open_max);
                Err(SqlFault::new(FaultKind::LimitExceeded, Reason::LimitTransactions, message)
                    .with_hint("end transactions sooner, or raise transactions.open_max")
                    .on(self.writes.side())
                    .retryable())
            }
        }
    }

    async fn begin(
        &self,
        options: TransactionOptions,
        write_id: WriteId,
        context: CallContext,
    ) -> Result<TransactionId, SqlFault> {
        let side = self.writes.side();
        let permit = unless_stopped(&context, side, self.permit()).await?;
        let lease = self.writes.get_until(context.deadline);
        let lease = unless_stopped(&context, side, lease).await?;
        let flight = InFlight::new(Holder::Pooled(lease));
        let session = flight.session()?;
        let mut sql = begin_sql(&modes(options, session.facts()), write_id);
        if let Some(look) = mark::look(session) {
            sql = format!("{sql}; {look}");
        }
        let work = async { session.batch_execute(&sql).await };
        let begun = supervised(session, work, stopped(&context)).await;
        if let Err(mut fault) = begun {
            // Nothing was done in it.
            fault.outcome = Outcome::NotApplied;
            session.poison();
            flight.landed(Some(&fault));
            return Err(fault);
        }
        let Some(Holder::Pooled(lease)) = flight.into_holder() else {
            return Err(SqlFault::new(
                FaultKind::Internal,
                Reason::Internal,
                "the session is gone",
            ));
        };
        let id = TransactionId(rand::random());
        let TransactionOptions { idle_max, total_max, .. } = options;
        self.registry().insert(id, Open::new(lease, write_id, idle_max, total_max, permit));
        Ok(id)
    }

    async fn read(
        &self,
        id: TransactionId,
        request: ReadRequest,
    ) -> Result<AnswerStream, SqlFault> {
        let held = self.registry().hold(id)?;
        let ReadRequest { statement, context } = request;
        read_in(Holder::Transaction(held), &self.tasks, &statement, context).await
    }

    /// Runs in a task of its own, as all writes do.
    async fn in_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, SqlFault>> + Send + 'static,
    ) -> Result<T, SqlFault> {
        self.tasks.spawn(work).await.unwrap_or_else(|error| {
            let message = format!("a call in a transaction broke off: {error}");
            Err(SqlFault::new(FaultKind::Internal, Reason::Internal, message)
                .with_outcome(Outcome::Unknown)
                .on(self.writes.side()))
        })
    }
}

/// The modes of BEGIN.
fn modes(options: TransactionOptions, facts: &ServerFacts) -> String {
    let wanted = match options.isolation {
        None => "",
        Some(Isolation::ReadCommitted) => " ISOLATION LEVEL READ COMMITTED",
        Some(Isolation::RepeatableRead) => " ISOLATION LEVEL REPEATABLE READ",
        Some(Isolation::Serializable) => " ISOLATION LEVEL SERIALIZABLE",
    };
    let isolation = facts.dialect.writers_isolation().unwrap_or(wanted);
    let access = if options.read_only { " READ ONLY" } else { access_of(facts) };
    format!("{isolation}{access}")
}

/// Runs statements in a transaction, in one round trip once they are prepared.
async fn write(
    held: Held,
    statements: Vec<BoundStatement>,
    context: CallContext,
) -> Result<WriteAnswer, SqlFault> {
    let write_id = held.open().write_id;
    let mut flight = InFlight::new(Holder::Transaction(held));
    let session = flight.session()?;
    let ready = tokio::select! {
        biased;
        ready = pipeline::make_ready(session, &statements) => ready,
        stop = stopped(&context) => return Err(stop.fault(session.side())),
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(fault) => {
            // What the server has not seen does not make the transaction fail.
            flight.landed(was_seen(&fault).then_some(&fault));
            return Err(fault);
        }
    };
    let ran = run_supervised(session, ready, &context).await;
    if let (Ok(ran), Some(held)) = (&ran, flight.held()) {
        held.set_xid(ran.xid.clone());
        if ran.failed.is_none() || ran.succeeded_after_failure {
            held.recover();
        }
    }
    match ran {
        Ok(pipeline::Ran { items, failed: None, .. }) => {
            flight.landed(None);
            Ok(WriteAnswer { items, write_id, already_applied: false, wrote: true })
        }
        Ok(pipeline::Ran { failed: Some((_, mut fault)), succeeded_after_failure, .. }) => {
            // COMMIT was not sent, so nothing is applied that COMMIT does not apply.
            fault.outcome = Outcome::NotApplied;
            if is_stale(&fault) {
                // In a transaction nothing can be prepared anew: all of it is run again.
                if let Ok(session) = flight.session() {
                    session.forget_prepared();
                }
                fault = fault.retryable();
            }
            flight.landed((!succeeded_after_failure).then_some(&fault));
            Err(fault)
        }
        Err(mut fault) => {
            fault.outcome = Outcome::NotApplied;
            session_lost(&flight);
            flight.landed(Some(&fault));
            Err(fault)
        }
    }
}

fn session_lost(flight: &InFlight) {
    if let Ok(session) = flight.session() {
        session.poison();
    }
}

async fn run_supervised(
    session: &crate::postgres::session::Session,
    ready: Vec<Ready>,
    context: &CallContext,
) -> Result<pipeline::Ran, SqlFault> {
    let limits = context.limits;
    let mut steps: Vec<_> =
        ready.into_iter().map(|ready| pipeline::statement(session, ready, limits)).collect();
    steps.extend(pipeline::xid(session, session.facts()));
    let (progress, watched) = watch::channel(Progress::Running);
    let work = async { Ok(pipeline::run(steps, &progress).await) };
    pipeline::supervised_run(session, work, context, watched).await
}

impl Transactions for PostgresTransactions {
    fn begin(
        &self,
        options: TransactionOptions,
        write_id: WriteId,
        context: CallContext,
    ) -> BoxFuture<'_, Result<TransactionId, SqlFault>> {
        self.shared.begin(options, write_id, context).boxed()
    }

    fn read(
        &self,
        id: TransactionId,
        request: ReadRequest,
    ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        self.shared.read(id, request).boxed()
    }

    fn write(
        &self,
        id: TransactionId,
        statements: Vec<BoundStatement>,
        context: CallContext,
    ) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>> {
        async move {
            let held = self.shared.registry().hold(id)?;
            self.shared.in_task(write(held, statements, context)).await
        }
        .boxed()
    }

    fn commit(
        &self,
        id: TransactionId,
        context: CallContext,
    ) -> BoxFuture<'_, Result<Committed, SqlFault>> {
        async move {
            let held = self.shared.registry().hold_to_end(id, "has ended: COMMIT was called")?;
            let (pool, write_id) = (self.shared.writes.clone(), held.open().write_id);
            let ended =
                self.shared.in_task(async move { end::commit(&pool, held, &context).await });
            ended.await.map_err(|fault| {
                let in_doubt = fault.outcome != Outcome::NotApplied;
                SqlFault { must_see: in_doubt.then(|| Box::new(Token::of(write_id))), ..fault }
            })
        }
        .boxed()
    }

    fn rollback(&self, id: TransactionId) -> BoxFuture<'_, Result<(), SqlFault>> {
        async move {
            let held = self.shared.registry().hold_to_end(id, "was rolled back")?;
            self.shared
                .in_task(async move {
                    held::roll_back(held).await;
                    Ok(())
                })
                .await
        }
        .boxed()
    }

    fn abandon(&self, id: TransactionId) -> BoxFuture<'_, ()> {
        async move {
            let held = self.shared.registry().abandon(id, "was rolled back: a call in it failed");
            let Some(held) = held else { return };
            let work = async move {
                held::roll_back(held).await;
                Ok(())
            };
            if let Err(fault) = self.shared.in_task(work).await {
                tracing::debug!(%fault, "a transaction was not rolled back");
            }
        }
        .boxed()
    }
}
