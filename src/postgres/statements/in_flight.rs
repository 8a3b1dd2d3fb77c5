//! A statement in flight, and what becomes of its session when nobody waits for it any more.

use std::ops::Deref;
use std::time::Duration;

use super::rest;
use super::shared_reads::Ticket;
use super::transactions::Held;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::postgres::pool::{Lease, give_back};
use crate::postgres::session::{Session, fault};
use crate::postgres::statements::rest::come_to_rest;

/// A dropped answer in a transaction is read to its end for so long before it is cancelled,
/// because cancelling it makes the whole transaction fail.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

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
async fn settle(holder: Holder) {
    match holder {
        Holder::Pooled(lease) => rest::settle(lease).await,
        // Never brought here.
        Holder::Shared(_) => {}
        Holder::Transaction(mut held) => {
            let rested = come_to_rest(held.session(), DRAIN_GRACE).await;
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
