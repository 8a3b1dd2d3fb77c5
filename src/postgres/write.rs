//! Writes: one statement that commits itself, or several in one transaction.
//!
//! A write runs in a task of its own, so that a caller who goes away in the middle leaves
//! no half of it. Its end is always awaited; a cancel request or a deadline decides only
//! whether the server is asked to give up.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio_util::task::TaskTracker;

use super::execute::{Ready, is_stale, may_be_outdated};
use super::fence::cockroach;
use super::flight::{Holder, InFlight, stopped, supervised, unless_stopped};
use super::param::RawParam;
use super::pipeline;
use super::pool::{Lease, Pool};
use super::session::Session;
use super::{batch, doubt, fault, guard, idempotency};
use crate::domain::call::{WriteAnswer, WriteItem};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::ports::WriteRequest;
use crate::value::Parameter;

/// Runs a write on a session of its own, to its end.
pub(super) async fn write(
    pool: &Pool,
    tasks: &TaskTracker,
    request: WriteRequest,
) -> Result<WriteAnswer, SqlFault> {
    let side = pool.side();
    let pool = pool.clone();
    let work = tasks.spawn(async move { Box::pin(run(&pool, request)).await });
    work.await.unwrap_or_else(|error| {
        Err(SqlFault::new(FaultKind::Internal, "internal", format!("a write broke off: {error}"))
            .with_outcome(Outcome::Unknown)
            .on(side))
    })
}

async fn run(pool: &Pool, request: WriteRequest) -> Result<WriteAnswer, SqlFault> {
    let context = &request.context;
    let side = pool.side();
    if let Some(idempotency) = &request.idempotency {
        idempotency::check_key(idempotency)?;
    }
    let lease = unless_stopped(context, side, pool.get_until(context.deadline)).await?;
    match attempt(pool, lease, &request).await {
        Ok(answer) => Ok(answer),
        // Nothing was applied, and the statements have been forgotten: prepare them anew.
        Err(Failed { fault, again: true }) if fault.outcome == Outcome::NotApplied => {
            tracing::debug!(%fault, "a write is prepared anew");
            let lease = unless_stopped(context, side, pool.get_until(context.deadline)).await?;
            lease.forget_prepared();
            attempt(pool, lease, &request).await.map_err(|failed| failed.fault)
        }
        Err(Failed { fault, .. }) => Err(fault),
    }
}

/// A write that failed, and whether that may be so only because the schema has changed.
struct Failed {
    fault: SqlFault,
    again: bool,
}

impl Failed {
    fn for_good(fault: SqlFault) -> Self {
        Self { fault, again: false }
    }
}

async fn attempt(pool: &Pool, lease: Lease, request: &WriteRequest) -> Result<WriteAnswer, Failed> {
    let flight = InFlight::new(Holder::Pooled(lease));
    let session = flight.session().map_err(Failed::for_good)?;
    let were_known = request.statements.iter().any(|it| session.known(&it.sql).is_some());
    let prepared = tokio::select! {
        biased;
        prepared = prepare(session, request) => prepared,
        stop = stopped(&request.context) => {
            return Err(Failed::for_good(stop.fault(session.side())));
        }
    };
    let mut ready = match prepared {
        Ok(ready) => ready,
        Err(fault) => {
            let again = is_stale(&fault);
            flight.landed(Some(&fault));
            return Err(Failed { fault, again });
        }
    };
    let returns_rows = ready.iter().any(Ready::returns_rows);
    // Where each transaction looks at the epoch, a statement is not alone.
    let looks = cockroach::look(session).is_some();
    let answer = match (ready.pop(), ready.is_empty()) {
        (Some(only), true) if !returns_rows && !looks && request.idempotency.is_none() => {
            alone(pool, flight, only, request).await
        }
        (last, _) => {
            ready.extend(last);
            batch::run(pool, flight, ready, request).boxed().await
        }
    };
    answer.map_err(|fault| {
        let again = is_stale(&fault) || were_known && may_be_outdated(&fault);
        Failed { fault, again }
    })
}

async fn prepare(session: &Session, request: &WriteRequest) -> Result<Vec<Ready>, SqlFault> {
    session.prepared(guard::announcement(session.facts())).await?;
    pipeline::make_ready(session, &request.statements).await
}

/// One statement without rows. Where its answer is lost, its effect is looked up.
async fn alone(
    pool: &Pool,
    flight: InFlight,
    ready: Ready,
    request: &WriteRequest,
) -> Result<WriteAnswer, SqlFault> {
    let session = flight.session()?;
    let facts = Arc::clone(session.facts());
    let item = committing_itself(session, ready, request).await;
    flight.landed(item.as_ref().err());
    let mut fault = match item {
        Ok(item) => {
            let items = vec![item];
            return Ok(WriteAnswer { items, write_id: request.write_id, replayed: false });
        }
        Err(fault) => fault,
    };
    if fault.outcome == Outcome::Unknown {
        let id = request.write_id;
        fault.outcome =
            doubt::outcome_of(pool.connector(), &facts, None, id, &request.context).await;
        fault.retryable = fault.outcome == Outcome::NotApplied;
    }
    Err(fault)
}

/// Announced and executed in one round trip, and committed by the server.
// Modelled as `Action::Commit` in tests/model.
async fn committing_itself(
    session: &Session,
    ready: Ready,
    request: &WriteRequest,
) -> Result<WriteItem, SqlFault> {
    let announce = session.prepared(guard::announcement(session.facts())).await?;
    let id = RawParam(Parameter::text(request.write_id.to_string()));
    let limits = request.context.limits;
    let work = async {
        let announced = session.execute_raw(&announce.statement, [id]);
        let executed = pipeline::execute(session, ready, limits);
        // Polled in this order, they are sent in this order, without waiting between.
        let (announced, executed) = tokio::join!(biased; announced, executed);
        let Err(error) = announced else {
            session.set_guarded(false);
            return executed;
        };
        let cause = session.fault(error, true);
        match executed {
            Err(found) => Err(guard::kept_off(session, cause, &found).unwrap_or(found)),
            Ok(item) => {
                tracing::warn!(fault = %cause, "a write was made that could not be announced");
                Ok(item)
            }
        }
    };
    supervised(session, work, stopped(&request.context)).await.map_err(settle_outcome)
}

/// What the server refused was not applied.
fn settle_outcome(mut found: SqlFault) -> SqlFault {
    if fault::ends_session(&found) {
        found.outcome = Outcome::Unknown;
    }
    found
}
