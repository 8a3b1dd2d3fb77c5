//! Writes in a transaction: several statements, `RETURNING`, or an idempotency key.
//!
//! Where nothing comes back that could pass a limit, BEGIN, the statements and COMMIT go out
//! in one round trip. Otherwise COMMIT waits for the answers: what passes a limit is rolled
//! back, and a lost connection before COMMIT leaves nothing in doubt.

use tokio::sync::watch;

use super::commit_outcome;
use super::execute::Ready;
use super::idempotency::{self, Seen};
use super::in_flight::InFlight;
use super::pipeline::{self, Progress, Ran, Step, StepKind};
use crate::domain::call::{WriteAnswer, WriteItem};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::sqlstate;
use crate::failpoint::{FailPoint, FailPoints};
use crate::ports::WriteRequest;
use crate::postgres::pool::Pool;
use crate::postgres::session::{ServerFacts, Session};
use crate::postgres::statements::stop::rollback;

/// Runs the statements of a write in one transaction.
// Modelled as `Action::Commit` in tests/model.
pub(super) async fn run(
    pool: &Pool,
    flight: InFlight,
    ready: Vec<Ready>,
    request: &WriteRequest,
) -> Result<WriteAnswer, SqlFault> {
    let result = run_in(&flight, ready, request, pool.failpoints()).await;
    let fault = match result {
        Ok((items, wrote)) => {
            flight.landed(None);
            return Ok(WriteAnswer {
                items,
                write_id: request.write_id,
                already_applied: false,
                wrote,
            });
        }
        Err(End::KeyKnown) => return replay(flight, request).await,
        Err(End::Failed(fault)) => {
            flight.landed(Some(&fault));
            return Err(fault);
        }
        Err(End::InDoubt { fault, xid }) => Doubt { fault, xid },
    };
    let facts = flight.session()?.facts().as_ref().clone();
    // The session is lost; closing it lets its server process end.
    flight.landed(Some(&fault.fault));
    resolve(pool, &facts, fault, request).await
}

/// How a transaction ended that was not committed as it should.
enum End {
    /// The idempotency key is there already.
    KeyKnown,
    /// It failed, and its fault says whether anything was applied.
    Failed(SqlFault),
    /// The connection was lost when COMMIT had been sent.
    InDoubt { fault: SqlFault, xid: Option<String> },
}

struct Doubt {
    fault: SqlFault,
    xid: Option<String>,
}

async fn run_in(
    flight: &InFlight,
    ready: Vec<Ready>,
    request: &WriteRequest,
    failpoints: &FailPoints,
) -> Result<(Vec<WriteItem>, bool), End> {
    let session = flight.session().map_err(End::Failed)?;
    let limits = request.context.limits;
    let at_once = request.idempotency.is_none() && !ready.iter().any(Ready::returns_rows);

    let mut steps: Vec<_> = pipeline::guard(session).into_iter().collect();
    // One that takes an id has written, for all that can be told afterwards.
    let asked = asks_whether_it_wrote(session, request);
    steps.push(match asked {
        true => pipeline::begin_without_xid(session, request.write_id),
        false => pipeline::begin(session, request.write_id),
    });
    if let Some(idempotency) = &request.idempotency {
        steps.push(idempotency::insert(session, idempotency));
    }
    steps.extend(ready.into_iter().map(|ready| pipeline::statement(session, ready, limits)));
    if at_once {
        steps.extend(asked.then(|| pipeline::xid(session, session.facts())).flatten());
        steps.push(pipeline::commit(session));
    }
    let ran = supervised_run(session, steps, request).await.map_err(End::Failed)?;
    let Ran { items, xid, failed, succeeded_after_failure } = ran;
    if let Some((kind, fault)) = failed {
        return Err(failure(session, kind, fault, xid, at_once, succeeded_after_failure).await);
    }
    if at_once {
        return Ok((items, !asked || xid.is_some()));
    }
    failpoints.reach(FailPoint::BeforeCommit).await;
    finish(session, items, xid, request).await
}

/// Runs the steps; a stop cancels them while that is safe.
async fn supervised_run(
    session: &Session,
    steps: Vec<Step<'_>>,
    request: &WriteRequest,
) -> Result<Ran, SqlFault> {
    let (progress, watched) = watch::channel(Progress::Beginning);
    let work = async { Ok(pipeline::run(steps, &progress).await) };
    pipeline::supervised_run(session, work, &request.context, watched).await
}

/// Keeps the first answer with its key, and commits.
async fn finish(
    session: &Session,
    items: Vec<WriteItem>,
    xid: Option<String>,
    request: &WriteRequest,
) -> Result<(Vec<WriteItem>, bool), End> {
    if let Err(fault) = within_limits(&items, request) {
        return Err(rolled_back(session, fault).await);
    }
    let mut steps = Vec::new();
    if let Some(idempotency) = &request.idempotency {
        match idempotency::keep(session, idempotency, request.write_id, &items) {
            Ok(step) => steps.push(step),
            Err(fault) => return Err(rolled_back(session, fault).await),
        }
    }
    let asked = asks_whether_it_wrote(session, request);
    steps.extend(asked.then(|| pipeline::xid(session, session.facts())).flatten());
    steps.push(pipeline::commit(session));
    let (progress, _watched) = watch::channel(Progress::Ending);
    let ran = pipeline::run(steps, &progress).await;
    let xid = xid.or(ran.xid);
    match ran.failed {
        None => Ok((items, !asked || xid.is_some())),
        Some((kind, fault)) => Err(failure(session, kind, fault, xid, true, false).await),
    }
}

/// Whether the server is asked, in the round trip of COMMIT, if the transaction has an id: of
/// statements that do not say that they write, it alone knows whether their functions did.
/// A transaction that writes by its text, or keeps a key, takes an id at once.
fn asks_whether_it_wrote(session: &Session, request: &WriteRequest) -> bool {
    !request.writes && request.idempotency.is_none() && pipeline::tells_xid(session.facts())
}

/// The limits of the whole answer; each statement kept them for itself.
fn within_limits(items: &[WriteItem], request: &WriteRequest) -> Result<(), SqlFault> {
    let limits = request.context.limits;
    let rows: u64 = items.iter().map(|item| u64::from(item.rows.row_count())).sum();
    let bytes: u64 = items.iter().map(|item| item.rows.cells().len() as u64).sum();
    if rows <= limits.rows_max && bytes <= limits.bytes_max {
        return Ok(());
    }
    let message = format!(
        "the statements return {rows} rows and {bytes} bytes, more than {} rows or {} bytes",
        limits.rows_max, limits.bytes_max
    );
    Err(SqlFault::new(FaultKind::LimitExceeded, Reason::LimitAnswer, message)
        .with_hint("return less, or raise the limit"))
}

/// What a failed step means for the transaction.
async fn failure(
    session: &Session,
    kind: StepKind,
    mut fault: SqlFault,
    xid: Option<String>,
    commit_sent: bool,
    others_succeeded: bool,
) -> End {
    if kind == StepKind::Begin && others_succeeded && !session.is_guarded() {
        // Without BEGIN each statement committed itself.
        fault.outcome = Outcome::Unknown;
        return End::Failed(fault);
    }
    if fault.kind == FaultKind::ConnectionLost {
        if commit_sent {
            return End::InDoubt { fault, xid };
        }
        fault.outcome = Outcome::NotApplied;
        fault.retryable = true;
        return End::Failed(fault);
    }
    let key_known = kind == StepKind::Key && fault.sqlstate == sqlstate::UNIQUE_VIOLATION;
    match rolled_back(session, fault).await {
        End::Failed(_) if key_known => End::KeyKnown,
        end => end,
    }
}

/// Rolls back, if need be by cancelling what still sends its rows.
async fn rolled_back(session: &Session, fault: SqlFault) -> End {
    End::Failed(match rollback(session).await {
        Ok(()) => fault,
        // Without its connection the server rolls back by itself.
        Err(_) => {
            session.poison();
            fault
        }
    })
}

/// The first answer to a key that was there already.
async fn replay(flight: InFlight, request: &WriteRequest) -> Result<WriteAnswer, SqlFault> {
    let session = flight.session()?;
    let Some(idempotency) = &request.idempotency else {
        return Err(SqlFault::new(FaultKind::Internal, Reason::Internal, "a key without a key"));
    };
    let seen = idempotency::look_up(session, idempotency).await;
    flight.landed(seen.as_ref().err());
    match seen? {
        Seen::Answer(answer) => Ok(answer),
        // The janitor has just removed it.
        Seen::Nothing => Err(SqlFault::new(
            FaultKind::Precondition,
            Reason::IdempotencyExpired,
            "the idempotency key expired while the call ran",
        )
        .retryable()),
    }
}

/// Finds out what became of a transaction in doubt.
async fn resolve(
    pool: &Pool,
    lost: &ServerFacts,
    doubt: Doubt,
    request: &WriteRequest,
) -> Result<WriteAnswer, SqlFault> {
    let Doubt { mut fault, xid } = doubt;
    let Some(idempotency) = &request.idempotency else {
        let (xid, id) = (xid.as_deref(), request.write_id);
        fault.outcome =
            commit_outcome::outcome_of(pool.connector(), lost, xid, id, &request.context).await;
        fault.retryable = fault.outcome == Outcome::NotApplied;
        return Err(fault);
    };
    let Some(after) = commit_outcome::after_lost_session(pool.connector(), lost).await else {
        return Err(fault);
    };
    match idempotency::insert_again(&after.session, idempotency).await {
        Ok(Seen::Answer(answer)) => Ok(answer),
        Ok(Seen::Nothing) => {
            fault.outcome = Outcome::NotApplied;
            fault.retryable = true;
            Err(fault)
        }
        Err(_) => Err(fault),
    }
}
