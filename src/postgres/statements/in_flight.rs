//! A statement in flight, and what becomes of its session when nobody waits for it any more.
//!
//! Deadlines are kept by a timer here and a cancel request, not by `statement_timeout`: that
//! costs the server nothing for the calls that are in time, covers the wait for a session as
//! well, leaves no setting behind, and is the same on every server. Should segue die, servers
//! from 14 on notice within seconds that the client of a running statement is gone.

use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::shared_reads::Ticket;
use super::transactions::Held;
use crate::domain::call::CallContext;
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::postgres::pool::Lease;
use crate::postgres::pool::reset::give_back;
use crate::postgres::session::Session;
use crate::postgres::session::fault;

/// A cancel request can overtake the statement that it is meant for; it is then repeated.
const CANCEL_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// A session that has not come to rest by then is closed.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// A dropped answer in a transaction is read to its end for so long before it is cancelled,
/// because cancelling it makes the whole transaction fail.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

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
fn cancelled_by(stop: Stop, found: SqlFault, side: Side) -> SqlFault {
    if found.sqlstate != sqlstate::QUERY_CANCELED {
        return found;
    }
    SqlFault { sqlstate: found.sqlstate, outcome: found.outcome, ..stop.fault(side) }
}

/// Whoever lends the session of a statement in flight.
#[derive(Debug)]
pub(super) enum Holder {
    /// A pool.
    Pooled(Lease),
    /// An open transaction, which takes no other call meanwhile.
    Transaction(Held),
    /// The shared sessions, where others may be at work as well.
    Shared(Ticket),
}

impl Deref for Holder {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            Self::Pooled(lease) => lease,
            Self::Transaction(held) => held.session(),
            Self::Shared(ticket) => ticket,
        }
    }
}

/// A session in which a statement may be running. Dropped before [`InFlight::landed`], it
/// cancels the statement and gives the session back only after that has truly ended.
#[derive(Debug)]
pub(super) struct InFlight {
    holder: Option<Holder>,
}

// === impl InFlight ===

impl InFlight {
    pub(super) fn new(holder: Holder) -> Self {
        // A shared one is busy already.
        if !matches!(holder, Holder::Shared(_)) {
            holder.set_busy(true);
        }
        Self { holder: Some(holder) }
    }

    /// Takes the session out as it is: a transaction has begun in it.
    pub(super) fn into_holder(mut self) -> Option<Holder> {
        self.holder.take()
    }

    /// The transaction, where one lends the session.
    pub(super) fn held(&mut self) -> Option<&mut Held> {
        match &mut self.holder {
            Some(Holder::Transaction(held)) => Some(held),
            _ => None,
        }
    }

    /// The place on a shared session, where it is one.
    pub(super) fn ticket(&self) -> Option<&Ticket> {
        match &self.holder {
            Some(Holder::Shared(ticket)) => Some(ticket),
            _ => None,
        }
    }

    /// The session; `None` only after it has been given back.
    pub(super) fn session(&self) -> Result<&Session, SqlFault> {
        self.holder.as_deref().ok_or_else(|| {
            SqlFault::new(
                FaultKind::Internal,
                Reason::Internal,
                "the session was given back already",
            )
        })
    }

    /// Nothing runs any more: the session goes back, or is closed where the fault ended it.
    /// A transaction in which something failed is marked so. Answers whether others had to
    /// wait for the statement.
    pub(super) fn landed(mut self, fault: Option<&SqlFault>) -> bool {
        match self.holder.take() {
            Some(Holder::Pooled(lease)) => {
                if fault.is_some_and(fault::ends_session) {
                    lease.discard();
                } else {
                    give_back(lease);
                }
            }
            // The session stays busy until the transaction has ended.
            Some(Holder::Transaction(mut held)) => {
                if let Some(fault) = fault {
                    held.fail(fault);
                }
            }
            Some(Holder::Shared(ticket)) => return ticket.finish(fault),
            None => {}
        }
        false
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let holder = match self.holder.take() {
            // Its statement is seen to once the others on the session have left.
            None | Some(Holder::Shared(_)) => return,
            Some(holder) => holder,
        };
        // Without a runtime everything ends anyway, and a busy session closes when dropped.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(settle(holder));
        }
    }
}

/// Brings a session to rest. It stays busy, and so is closed by whoever drops it, until its
/// last statement has ended.
pub(super) async fn settle(holder: Holder) {
    let grace = match &holder {
        Holder::Pooled(_) | Holder::Shared(_) => Duration::ZERO,
        Holder::Transaction(_) => DRAIN_GRACE,
    };
    let rested = come_to_rest(&holder, grace).await;
    match holder {
        Holder::Pooled(lease) if rested => give_back(lease),
        Holder::Pooled(lease) => lease.discard(),
        // Never brought here.
        Holder::Shared(_) => {}
        Holder::Transaction(mut held) => {
            // What the dropped statement came to is known only to the server; a failed
            // transaction refuses any statement.
            let asked = held.session().simple_query("SELECT 1").await;
            if let Err(fault) = asked {
                held.fail(&fault);
            }
            if !rested {
                held.session().poison();
            }
        }
    }
}

async fn come_to_rest(session: &Session, grace: Duration) -> bool {
    let mut rest = pin!(session.driver().check_connection());
    if !grace.is_zero()
        && let Ok(answer) = tokio::time::timeout(grace, &mut rest).await
    {
        return answer.is_ok();
    }
    let give_up = Instant::now() + SETTLE_LIMIT;
    while Instant::now() < give_up {
        let cancelled = session.canceller().cancel().await;
        if let Ok(answer) = tokio::time::timeout(CANCEL_AGAIN_AFTER, &mut rest).await {
            return answer.is_ok();
        }
        if cancelled.is_err() {
            break;
        }
    }
    false
}
