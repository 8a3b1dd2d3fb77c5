//! What tokio-postgres reports, in segue's own terms.

use std::error::Error as _;

use tokio_postgres::error::{DbError, ErrorPosition, Severity, SqlState};

use crate::dialect::CANCELED_WITHOUT_REASON;
use crate::domain::fault::{FaultKind, Outcome, Routine, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate::{self, class};

/// A fault from an error of the driver. `sent` says whether the statement may have
/// reached the server: only a statement that surely has not is `Unavailable`.
///
/// A fault that the server reported leaves nothing applied, but for the classes that say
/// otherwise; a lost connection leaves the outcome unknown, and it is for the caller that
/// knows more to say more.
#[allow(clippy::needless_pass_by_value)]
pub fn from_error(error: tokio_postgres::Error, side: Side, sent: bool) -> SqlFault {
    match error.as_db_error() {
        Some(db) => from_db_error(db, side, sent),
        None => from_driver(&error, side, sent),
    }
}

fn from_db_error(db: &DbError, side: Side, sent: bool) -> SqlFault {
    let code = db.code().code();
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let mut fault = SqlFault::new(kind_of(code, db, sent), Reason::Database, db.message()).on(side);
    code.clone_into(&mut fault.sqlstate);
    fault.routine = Routine::of_name(db.routine());
    fault.detail = text(db.detail());
    fault.hint = text(db.hint());
    fault.schema = text(db.schema());
    fault.table = text(db.table());
    fault.column = text(db.column());
    fault.constraint = text(db.constraint());
    if let Some(ErrorPosition::Original(position)) = db.position() {
        fault.position = *position;
    }
    fault.retryable = is_retryable(code) || fault.kind == FaultKind::Unavailable;
    if code == sqlstate::STATEMENT_COMPLETION_UNKNOWN || fault.kind == FaultKind::ConnectionLost {
        fault.outcome = Outcome::Unknown;
    }
    fault
}

/// 57P01 to 57P05 and the like end the session: before the statement was sent that means
/// there is no connection, afterwards that it was lost.
fn kind_of(code: &str, db: &DbError, sent: bool) -> FaultKind {
    match code {
        sqlstate::QUERY_CANCELED if was_asked_for(db.message()) => FaultKind::Cancelled,
        sqlstate::QUERY_CANCELED => FaultKind::DeadlineExceeded,
        sqlstate::ADMIN_SHUTDOWN
        | sqlstate::CRASH_SHUTDOWN
        | sqlstate::DATABASE_DROPPED
        | sqlstate::IDLE_SESSION_TIMEOUT
            if sent =>
        {
            FaultKind::ConnectionLost
        }
        // Limits of an idle transaction and of a whole one: the session is gone as well.
        sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT | sqlstate::TRANSACTION_TIMEOUT if sent => {
            FaultKind::ConnectionLost
        }
        sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT | sqlstate::TRANSACTION_TIMEOUT => {
            FaultKind::Unavailable
        }
        // 08P01 also is how a server refuses a parameter's bytes; the session goes on then.
        _ if code.starts_with(class::CONNECTION_EXCEPTION) && !ends_the_session(db) => {
            FaultKind::Database
        }
        _ if code.starts_with(class::CONNECTION_EXCEPTION) && sent => FaultKind::ConnectionLost,
        _ if !sent
            && (code.starts_with(class::CONNECTION_EXCEPTION)
                || code.starts_with(class::SHUTDOWN)
                || code == sqlstate::TOO_MANY_CONNECTIONS) =>
        {
            FaultKind::Unavailable
        }
        _ => FaultKind::Database,
    }
}

/// Whether somebody has cancelled the statement, rather than a limit of time. Nothing but the text
/// tells that: SQLSTATE (57014) and routine (`ProcessInterrupts`) are the same for both. What segue has
/// done itself tells no more: a statement that it cancels, for a caller who has left or whose deadline
/// is over, ends with a fault of segue's own, so that whatever comes here was done by another, by
/// `pg_cancel_backend` or by a limit of the role, whose length segue does not know. In another
/// language it counts as the limit. Both are for the caller to decide upon, neither is repeated, and
/// nothing was applied: the difference is in the gRPC code alone.
fn was_asked_for(message: &str) -> bool {
    message.contains("user request") || message == CANCELED_WITHOUT_REASON
}

fn ends_the_session(db: &DbError) -> bool {
    !matches!(db.parsed_severity(), Some(Severity::Error))
}

fn is_retryable(code: &str) -> bool {
    matches!(code, sqlstate::SERIALIZATION_FAILURE | sqlstate::DEADLOCK_DETECTED)
}

fn from_driver(error: &tokio_postgres::Error, side: Side, sent: bool) -> SqlFault {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    if sent {
        SqlFault::new(
            FaultKind::ConnectionLost,
            Reason::ConnectionLost,
            format!("the connection was lost after the statement had been sent: {message}"),
        )
        .with_outcome(Outcome::Unknown)
        .on(side)
    } else {
        unavailable(side, Reason::UnavailableConnect, message)
    }
}

/// What the server calls an error; empty where it was not the server that spoke.
pub fn sqlstate_of(error: &tokio_postgres::Error) -> &str {
    error.code().map_or("", SqlState::code)
}

/// The statement was surely not sent.
pub fn unavailable(side: Side, reason: Reason, message: impl Into<String>) -> SqlFault {
    SqlFault::new(FaultKind::Unavailable, reason, message).on(side).retryable()
}

/// Whether the session behind this fault is of no more use.
pub fn ends_session(fault: &SqlFault) -> bool {
    matches!(fault.kind, FaultKind::ConnectionLost | FaultKind::Unavailable)
}

/// A read that would have written: the session is read-only, and the way out is `Execute`.
#[must_use]
pub fn as_refused_write(mut fault: SqlFault) -> SqlFault {
    if fault.sqlstate == sqlstate::READ_ONLY_SQL_TRANSACTION {
        fault.kind = FaultKind::Refused;
        fault.reason = Reason::RefusedWriteInQuery;
        fault.message = format!("a query would have written: {}", fault.message);
        "send statements that write through Execute, Batch or a transaction"
            .clone_into(&mut fault.hint);
    }
    fault
}

/// The caller's deadline passed.
pub fn deadline_exceeded(side: Side, place: &str) -> SqlFault {
    SqlFault::new(
        FaultKind::DeadlineExceeded,
        Reason::Deadline,
        format!("the call's deadline passed {place}"),
    )
    .on(side)
}

/// The caller went away.
pub fn cancelled(side: Side) -> SqlFault {
    SqlFault::new(FaultKind::Cancelled, Reason::Cancelled, "the caller cancelled the call").on(side)
}

/// A fault of something of segue's own in a session of callers, whose role lacks the right to it.
pub fn not_admitted(fault: SqlFault) -> SqlFault {
    if fault.sqlstate != sqlstate::INSUFFICIENT_PRIVILEGE {
        return fault;
    }
    let hint = "the role of callers' statements may not call segue's functions: run `segue init`";
    SqlFault {
        kind: FaultKind::Precondition,
        reason: Reason::RefusedNotAdmitted,
        hint: hint.to_owned(),
        ..fault
    }
}
