//! Writes: one statement that commits itself, or several in one transaction.
//!
//! A write runs in a task of its own, so that a caller who goes away in the middle leaves
//! no half of it. Its end is always awaited; a cancel request or a deadline decides only
//! whether the server is asked to give up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::task::TaskTracker;

use super::execute::{Ready, is_stale, may_be_outdated};
use super::in_flight::{Holder, InFlight};
use super::stop::{stopped, supervised, unless_stopped};
use super::{batch, commit_outcome, idempotency, pipeline};
use crate::domain::call::{WriteAnswer, WriteItem};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::reason::Reason;
use crate::domain::sqlstate;
use crate::failpoint::FailPoint;
use crate::ports::WriteRequest;
use crate::postgres::fence::mark;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::param::RawParam;
use crate::postgres::session::{Session, fault, guard, sync_batching};
use crate::value::Parameter;

/// CockroachDB makes a statement again by itself that met another transaction, where nothing stands
/// before it. With the look at the epoch there something does: so it is made again from here, so
/// many times at most.
const CONFLICTS_MAX: u32 = 20;
/// Before the first of them, times one to four.
const CONFLICT_WAIT: Duration = Duration::from_millis(1);

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
        Err(SqlFault::new(
            FaultKind::Internal,
            Reason::Internal,
            format!("a write broke off: {error}"),
        )
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
    let mut conflicts = 0;
    loop {
        let lease = unless_stopped(context, side, pool.get_until(context.deadline)).await?;
        let made_again = lease.dialect().asks_for_retries();
        let answer = prepared_anew(pool, lease, &request).await;
        let Err(fault) = &answer else {
            // If we crash here, the caller is not told of what is done. It is in the outbox.
            pool.failpoints().reach(FailPoint::BeforeAnswer).await;
            return answer;
        };
        let conflict = fault.sqlstate == sqlstate::SERIALIZATION_FAILURE
            && fault.outcome == Outcome::NotApplied;
        if !(made_again && conflict) || conflicts == CONFLICTS_MAX {
            return answer;
        }
        conflicts += 1;
        let wait = CONFLICT_WAIT * conflicts * rand::random_range(1..=4);
        tracing::debug!(%fault, conflicts, "a write met another one, and is made again");
        let waited = async {
            tokio::time::sleep(wait).await;
            Ok(())
        };
        unless_stopped(context, side, waited).await?;
    }
}

async fn prepared_anew(
    pool: &Pool,
    lease: Lease,
    request: &WriteRequest,
) -> Result<WriteAnswer, SqlFault> {
    let context = &request.context;
    match attempt(pool, lease, request).await {
        Ok(answer) => Ok(answer),
        // Nothing was applied, and the statements have been forgotten: prepare them anew.
        Err(Failed { fault, again: true }) if fault.outcome == Outcome::NotApplied => {
            tracing::debug!(%fault, "a write is prepared again");
            let lease = pool.get_until(context.deadline);
            let lease = unless_stopped(context, pool.side(), lease).await?;
            lease.forget_prepared();
            attempt(pool, lease, request).await.map_err(|failed| failed.fault)
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
    let were_known = ready.iter().any(|it| it.was_known);
    let returns_rows = ready.iter().any(Ready::returns_rows);
    // Where each transaction looks at the epoch, a statement is not alone.
    let looks = mark::look(session).is_some();
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
    if session.announced().is_none() {
        // Without a word on whose the first write is, it would be nobody's.
        guard::put_on(session).await?;
    }
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
    let done = committing_itself(session, ready, request).await;
    flight.landed(done.as_ref().err());
    let mut fault = match done {
        Ok((item, write_id)) => {
            // It was over before it could be asked: it may have written, whatever it looks like.
            let (items, wrote) = (vec![item], true);
            return Ok(WriteAnswer { items, write_id, already_applied: false, wrote });
        }
        Err(fault) => fault,
    };
    if fault.outcome == Outcome::Unknown {
        let id = request.write_id;
        fault.outcome =
            commit_outcome::outcome_of(pool.connector(), &facts, None, id, &request.context).await;
        fault.retryable = fault.outcome == Outcome::NotApplied;
    }
    Err(fault)
}

/// Announced and executed in one round trip, and committed by the server: in one piece where
/// that may be, so that both stand or fall. The id is the one that its outbox rows have.
// Modelled as `Action::Commit` in tests/model.
async fn committing_itself(
    session: &Session,
    ready: Ready,
    request: &WriteRequest,
) -> Result<(WriteItem, WriteId), SqlFault> {
    let announce = session.prepared(guard::announcement(session.facts())).await?;
    let id = RawParam(Parameter::text(request.write_id.to_string()));
    let limits = request.context.limits;
    // A guard is not taken off in the transaction that it has made read-only.
    let together = if session.is_guarded() { None } else { session.together() };
    let work = async {
        let announced = session.execute_raw(&announce.statement, [id]);
        let executed = pipeline::execute(session, ready, limits);
        // Polled in this order, they are sent in this order, without waiting between.
        let (announced, executed) = tokio::join!(biased; announced, executed);
        let Err(cause) = announced else {
            session.set_guarded(false);
            // In one piece with a write that failed, the announcement is undone.
            let stands = executed.is_ok() || together.is_none();
            session.set_announced(stands.then_some(request.write_id));
            return executed.map(|item| (item, request.write_id));
        };
        // Whatever kept it from announcing may do so again.
        session.poison();
        match executed {
            Err(found) if found.sqlstate == sync_batching::SKIPPED => {
                Err(SqlFault { outcome: Outcome::NotApplied, retryable: true, ..cause })
            }
            Err(found) => Err(guard::kept_off(session, cause, &found).unwrap_or(found)),
            Ok(item) => unannounced(session, cause, item),
        }
    };
    supervised(session, work, stopped(&request.context)).await.map_err(settle_outcome)
}

/// A write whose announcement alone failed: an operator may have cancelled just that. Its rows
/// are in the outbox under the session's previous write, and so that is what the answer names:
/// whoever waits for it waits for both.
fn unannounced(
    session: &Session,
    cause: SqlFault,
    item: WriteItem,
) -> Result<(WriteItem, WriteId), SqlFault> {
    let Some(previous) = session.announced() else {
        // A session that has announced nothing yet is guarded, and lets no such write through.
        return Err(cause.with_outcome(Outcome::Applied));
    };
    tracing::warn!(fault = %cause, %previous, "a write could not be announced; its rows have the previous id");
    Ok((item, previous))
}

/// What the server refused was not applied.
fn settle_outcome(mut found: SqlFault) -> SqlFault {
    if fault::ends_session(&found) {
        found.outcome = Outcome::Unknown;
    }
    found
}
