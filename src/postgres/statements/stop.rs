//! Why a call must not go on, and how its statement is stopped.
//!
//! Deadlines are kept by a timer here and a cancel request, not by `statement_timeout`: that
//! costs the server nothing for the calls that are in time, covers the wait for a session as
//! well, leaves no setting behind, and is the same on every server. Should segue die, servers
//! from 14 on notice within seconds that the client of a running statement is gone.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::call::CallContext;
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::postgres::session::{Session, fault};

/// A cancel request can overtake the statement that it is meant for; it is then repeated.
pub(super) const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// A session that has not come to rest by then is closed.
pub(super) const SETTLE_LIMIT: Duration = Duration::from_secs(10);

/// A ROLLBACK that takes longer waits for a statement, which is then cancelled.
pub(super) const ROLLBACK_GRACE: Duration = Duration::from_millis(500);

/// Why a call must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its deadline passed.
    Deadline,
    /// Its caller went away.
    Cancelled,
}

impl Stop {
    /// The fault that the caller gets.
    pub(super) fn fault(self, side: Side) -> SqlFault {
        match self {
            Self::Deadline => fault::deadline_exceeded(side, "before the statement had ended"),
            Self::Cancelled => fault::cancelled(side),
        }
    }
}

/// Waits until the call must not go on; for ever, where it has no deadline and its caller stays.
pub(super) async fn stopped(context: &CallContext) -> Stop {
    let deadline = async {
        match context.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = context.cancelled.cancelled() => Stop::Cancelled,
        () = deadline => Stop::Deadline,
    }
}

/// The result of `work`, or the fault that stopped it.
pub(super) async fn unless_stopped<T>(
    context: &CallContext,
    side: Side,
    work: impl Future<Output = Result<T, SqlFault>>,
) -> Result<T, SqlFault> {
    tokio::select! {
        biased;
        result = work => result,
        stop = stopped(context) => Err(stop.fault(side)),
    }
}

/// Runs `work` to its end. When `stop` comes first the session's statement is cancelled, and
/// the end is awaited all the same: only then is the outcome known. An error that the cancel
/// request caused becomes the stop's fault.
pub(super) async fn supervised<T>(
    session: &Session,
    work: impl Future<Output = Result<T, SqlFault>>,
    stop: impl Future<Output = Stop>,
) -> Result<T, SqlFault> {
    let mut work = pin!(work);
    let stop = tokio::select! {
        biased;
        result = &mut work => return result,
        stop = stop => stop,
    };
    let give_up = Instant::now() + SETTLE_LIMIT;
    loop {
        let cancelled = session.canceller().cancel().await;
        if let Ok(result) = tokio::time::timeout(CANCEL_AGAIN_AFTER, &mut work).await {
            return result.map_err(|found| cancelled_by(stop, found, session.side()));
        }
        if cancelled.is_err() || Instant::now() > give_up {
            return Err(SqlFault {
                outcome: Outcome::Unknown,
                message: "the statement was to be cancelled, but the server does not answer"
                    .to_owned(),
                kind: FaultKind::ConnectionLost,
                ..stop.fault(session.side())
            });
        }
    }
}

/// The server's 57014 in the words of who asked for it; any other fault as it is.
pub(super) fn cancelled_by(stop: Stop, found: SqlFault, side: Side) -> SqlFault {
    if found.sqlstate != sqlstate::QUERY_CANCELED {
        return found;
    }
    SqlFault { sqlstate: found.sqlstate, outcome: found.outcome, ..stop.fault(side) }
}

/// Ends the session's transaction.
pub(super) async fn rollback(session: &Session) -> Result<(), SqlFault> {
    let work = async { session.batch_execute("ROLLBACK").await };
    let grace = async {
        tokio::time::sleep(ROLLBACK_GRACE).await;
        Stop::Cancelled
    };
    supervised(session, work, grace).await
}
