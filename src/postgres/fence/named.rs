//! Sessions in which callers write: whose they are.
//!
//! What a caller has locked stays locked for as long as its transaction is open, and a sidecar that
//! is stopped in the middle of one neither ends it nor lets go of the connection. So each session
//! holds a shared advisory lock whose key names its member; nobody takes that lock exclusively.
//! Members end those of a member whose lease is over
//! ([`end_left_by_lost`](crate::postgres::own_transactions::end_left_by_lost)).

use super::WRITERS;
use super::look::first;
use super::readers::Owner;
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::session::Session;

/// Names a pool's sessions. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Writers {
    side: Side,
    owner: Owner,
}

// === impl Writers ===

impl Writers {
    pub(super) fn new(side: Side, owner: Owner) -> Self {
        Self { side, owner }
    }

    /// Whether a session is named. Where no member serves, nobody asks.
    pub(in crate::postgres) fn has(&self, session: &Session) -> bool {
        session.named().is_some() || self.owner.key().is_none()
    }

    /// Takes the member's lock.
    ///
    /// # Errors
    ///
    /// What the database reports. The session is not to be used then.
    pub(in crate::postgres) async fn name(&self, session: &Session) -> Result<(), SqlFault> {
        let Some(key) = self.owner.key() else { return Ok(()) };
        if session.dialect().has_advisory_locks() {
            let lock = session.dialect().try_share((WRITERS, key));
            let locked = session.repeatable().simple_query(&lock).await;
            let locked = locked.map_err(|it| SqlFault { outcome: Outcome::NotApplied, ..it })?;
            if first(&locked, 0).as_deref() != Some("t") {
                // Nobody but an application that takes segue's locks holds it exclusively.
                let message = "another session holds the lock that names this sidecar's sessions";
                let kind = FaultKind::Unavailable;
                return Err(SqlFault::new(kind, Reason::UnavailableReadLock, message)
                    .with_hint("nothing was sent; try again")
                    .on(self.side)
                    .retryable());
            }
        }
        session.set_named(key);
        Ok(())
    }
}
