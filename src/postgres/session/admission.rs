//! What a session has from its fence: the share of an epoch's lock under which it writes, or what it
//! found when it was opened for reads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use crate::domain::budget::{ByteBudget, HeldBytes};
use crate::domain::control::ControlState;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::session::Session;

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

// === impl Session ===

impl Session {
    /// The epoch whose lock the session holds, where it writes behind the fence.
    pub(in crate::postgres) fn fenced_under(&self) -> Option<u64> {
        let share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        share.as_ref().map(|share| share.epoch)
    }

    /// Remembers that it has the lock, or has none.
    pub(in crate::postgres) fn set_share(&self, share: Option<Share>) {
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = share;
    }

    /// What the session has from its opening, where it answers reads of callers.
    pub(in crate::postgres) fn found(&self) -> Option<&Found> {
        self.found.get()
    }

    /// Remembers that, once.
    pub(in crate::postgres) fn set_found(&self, found: Found) {
        let _ = self.found.set(found);
    }

    /// The key of the member's lock that it holds, where callers write in it.
    pub(in crate::postgres) fn named(&self) -> Option<i32> {
        self.named.get().copied()
    }

    /// Remembers that, once.
    pub(in crate::postgres) fn set_named(&self, key: i32) {
        let _ = self.named.set(key);
    }

    /// A share of the memory for answers that are kept whole until they are sent.
    pub(in crate::postgres) fn answers(&self) -> HeldBytes {
        self.answers.get_or_init(ByteBudget::unlimited).share()
    }

    /// What that memory is, for all sessions of the process.
    pub(in crate::postgres) fn set_answers(&self, answers: ByteBudget) {
        let _ = self.answers.set(answers);
    }
}
