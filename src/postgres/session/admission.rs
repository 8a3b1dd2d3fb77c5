//! What a session has from its fence: the share of an epoch's lock under which it writes, or what it
//! found when it was opened for reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::control::ControlState;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;

/// A session's share of the lock. Dropped with the session, whose end gives the lock up.
#[derive(Debug)]
pub(in crate::postgres) struct Share {
    pub(in crate::postgres) epoch: u64,
    pub(in crate::postgres) holders: Arc<AtomicUsize>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.holders.fetch_sub(1, Ordering::AcqRel);
    }
}

pub(in crate::postgres) fn not_primary(side: Side, known: ControlState) -> SqlFault {
    let message = format!("the {} is the primary since epoch {}", side.other(), known.epoch);
    SqlFault::new(FaultKind::Unavailable, Reason::FenceNotPrimary, message).on(side).retryable()
}

/// What a session for reads has from its opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) struct Found {
    /// Names its member.
    pub(in crate::postgres) key: i32,
    /// What its side's control row said then, where it had one.
    pub(in crate::postgres) state: Option<ControlState>,
}

// === impl Found ===

impl Found {
    /// Whether the session may answer a read that was admitted under this state: not where a later
    /// one names another primary. What the member has heard since does not count: the read may
    /// have been asked for after a write on the new primary was acknowledged, and admitted before
    /// the member heard of it.
    ///
    /// # Errors
    ///
    /// A fault that says that the primary is to be looked up again; nothing was sent.
    pub(in crate::postgres) fn admits(
        &self,
        side: Side,
        admitted: Option<ControlState>,
    ) -> Result<(), SqlFault> {
        let (Some(found), Some(admitted)) = (self.state, admitted) else { return Ok(()) };
        let other = found.phase.primary() != admitted.phase.primary();
        match found.epoch > admitted.epoch && other {
            true => Err(not_primary(side, found)),
            false => Ok(()),
        }
    }
}
