//! What a session has been admitted with: its share of the fence, what it found when it was opened,
//! whose it is, and the memory of its answers.

use std::sync::PoisonError;

use crate::domain::budget::{ByteBudget, HeldBytes};
use crate::postgres::session::Session;
use crate::postgres::session::admission::{Found, Share};

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
