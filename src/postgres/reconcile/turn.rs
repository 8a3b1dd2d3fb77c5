//! Whose turn it is to write to the shadow while reads are shifted.
//!
//! Reconciles of keys share a lock on the shadow for their transactions; the one that applies
//! whole snapshots of the primary has it alone. Who shares it looks, under the lock, at the
//! control row in the snapshot of the primary that it copies: in a phase that shifts reads it may
//! write only where this process has leave for steps, which is given while no member reads there.
//!
//! The server ends either: the lock goes with its transaction, whose idle time is limited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::control::{Phase, Version};
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::session::Transaction;

const LOOK: &str = "SELECT epoch, revision, phase FROM segue.control WHERE id = 1";

/// What the control row says in the snapshot of the primary that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    version: Version,
    shifts: bool,
}

/// Looks in an open transaction. A side without a row, or with one that cannot be read, shifts
/// nothing: `check_follows` has looked at the other one.
pub(super) async fn look(primary: &Transaction) -> Result<Option<Seen>, Halt> {
    let client = primary.client()?;
    let look = client.prepared(LOOK).await.map_err(of_fault)?;
    let row = client.query_opt(&look.statement, &[]).await?;
    Ok(row.and_then(|row| {
        let epoch = row.try_get::<_, i64>(0).ok()?.unsigned_abs();
        let revision = row.try_get::<_, i64>(1).ok()?.unsigned_abs();
        let phase: Phase = row.try_get::<_, String>(2).ok()?.parse().ok()?;
        Some(Seen { version: Version { epoch, revision }, shifts: phase.shifts() })
    }))
}

/// Leave to write to the shadow in steps, in this process, as long as the control row is of this
/// version: its reads are off, and every member has taken that. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Leave(Arc<Mutex<Option<Version>>>);

// === impl Leave ===

impl Leave {
    pub(super) fn give(&self, version: Version) {
        *self.lock() = Some(version);
    }

    /// Takes it back. Who holds the turn alone knows that nobody writes by it any more.
    pub(super) fn take_back(&self) -> Option<Version> {
        self.lock().take()
    }

    /// Whether keys may be written on their own.
    pub(super) fn covers(&self, seen: Option<Seen>) -> bool {
        seen.is_none_or(|seen| !seen.shifts || *self.lock() == Some(seen.version))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Version>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_shift_steps_need_leave_for_the_very_row_that_is_seen() {
        let version = |revision| Version { epoch: 4, revision };
        let seen = |revision, shifts| Some(Seen { version: version(revision), shifts });
        let leave = Leave::default();
        assert!(leave.covers(None) && leave.covers(seen(1, false)) && !leave.covers(seen(1, true)));
        leave.give(version(2));
        assert!(leave.covers(seen(2, true)) && !leave.covers(seen(3, true)));
        assert_eq!(leave.clone().take_back(), Some(version(2)));
        assert!(!leave.covers(seen(2, true)));
    }
}
