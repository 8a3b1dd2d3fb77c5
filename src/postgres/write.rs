//! Writes: one statement that commits itself, or several in one transaction.
//!
//! A write runs in a task of its own, so that a caller who goes away in the middle leaves
//! no half of it. Its end is always awaited; a cancel request or a deadline decides only
//! whether the server is asked to give up.

use futures_util::FutureExt;
use tokio_util::task::TaskTracker;

use super::execute::is_stale;
use super::flight::{Holder, InFlight, stopped, supervised, unless_stopped};
use super::param::RawParam;
use super::pipeline::{self, Ready};
use super::pool::{Lease, Pool};
use super::session::Session;
use super::{batch, fault, idempotency};
use crate::domain::call::{WriteAnswer, WriteItem};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::ports::WriteRequest;
use crate::value::Parameter;

/// For the session: the next write of it announces its own.
const ANNOUNCE: &str = "SELECT pg_catalog.set_config('segue.write_id', $1, false)";

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
    let answer = attempt(pool, lease, &request).await;
    match answer {
        // Nothing was applied, and the statements have been forgotten: prepare them anew.
        Err(fault) if is_stale(&fault) && fault.outcome == Outcome::NotApplied => {
            let lease = unless_stopped(context, side, pool.get_until(context.deadline)).await?;
            lease.forget_prepared();
            attempt(pool, lease, &request).await
        }
        other => other,
    }
}

async fn attempt(
    pool: &Pool,
    lease: Lease,
    request: &WriteRequest,
) -> Result<WriteAnswer, SqlFault> {
    let flight = InFlight::new(Holder::Pooled(lease));
    let session = flight.session()?;
    let prepared = tokio::select! {
        biased;
        prepared = prepare(session, request) => prepared,
        stop = stopped(&request.context) => return Err(stop.fault(session.side())),
    };
    let ready = match prepared {
        Ok(ready) => ready,
        Err(fault) => {
            if is_stale(&fault) {
                session.forget_prepared();
            }
            flight.landed(Some(&fault));
            return Err(fault);
        }
    };
    let returns_rows = ready.iter().any(Ready::returns_rows);
    let mut ready = ready;
    match (ready.pop(), ready.is_empty()) {
        (Some(only), true) if !returns_rows && request.idempotency.is_none() => {
            let item = committing_itself(session, only, request).await;
            flight.landed(item.as_ref().err());
            let items = vec![item?];
            Ok(WriteAnswer { items, write_id: request.write_id, replayed: false })
        }
        (last, _) => {
            ready.extend(last);
            batch::run(pool, flight, ready, request).boxed().await
        }
    }
}

async fn prepare(session: &Session, request: &WriteRequest) -> Result<Vec<Ready>, SqlFault> {
    session.prepared(ANNOUNCE).await?;
    pipeline::make_ready(session, &request.statements).await
}

/// One statement without rows: announced and executed in one round trip, and committed by
/// the server. If the connection is lost here, nobody can say whether it was.
// Modelled as `Action::Commit` in tests/model.
async fn committing_itself(
    session: &Session,
    ready: Ready,
    request: &WriteRequest,
) -> Result<WriteItem, SqlFault> {
    let announce = session.prepared(ANNOUNCE).await?;
    let id = RawParam(Parameter::text(request.write_id.to_string()));
    let limits = request.context.limits;
    let work = async {
        let announced = session.execute_raw(&announce.statement, [id]);
        let executed = pipeline::execute(session, ready, limits);
        // Polled in this order, they are sent in this order, without waiting between.
        let (announced, executed) = tokio::join!(biased; announced, executed);
        if let (Err(error), Ok(_)) = (&announced, &executed) {
            tracing::warn!(%error, "a write was made that could not be announced");
        }
        executed
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
