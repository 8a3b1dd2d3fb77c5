//! Places where a test may end the member.

use std::fmt;
use std::sync::Arc;

use crate::postgres::reconcile::halt::Halt;

/// After the outbox rows were claimed.
pub const AFTER_CLAIM: &str = "after_claim";
/// After the keys were locked on the shadow.
pub const AFTER_LOCK: &str = "after_lock";
/// After both sides were read.
pub const AFTER_READ: &str = "after_read";
/// After the shadow was written, before its commit.
pub const AFTER_APPLY: &str = "after_apply_before_commit";
/// After the shadow's commit, before anything is forgotten.
pub const AFTER_SHADOW_COMMIT: &str = "after_shadow_commit";
/// After rows were marked as forgotten, before that is committed.
pub const BEFORE_FORGET_COMMIT: &str = "before_forget_commit";

/// All of them, in the order in which a batch passes them.
pub const ALL: [&str; 6] =
    [AFTER_CLAIM, AFTER_LOCK, AFTER_READ, AFTER_APPLY, AFTER_SHADOW_COMMIT, BEFORE_FORGET_COMMIT];

/// Whether to crash at a place; it may also end the process and never return.
pub type CrashTest = dyn Fn(&'static str) -> bool + Send + Sync;

/// The crash points of a member. By default none is armed.
#[derive(Clone, Default)]
pub struct CrashPoints(Option<Arc<CrashTest>>);

impl CrashPoints {
    /// Asks `test` at every place. Where it says yes, the member behaves as if its process
    /// had ended: its connections are closed, and nothing that would follow is done.
    pub fn armed(test: Arc<CrashTest>) -> Self {
        Self(Some(test))
    }

    /// Ends the process itself at the named place.
    pub fn abort_at(name: String) -> Self {
        Self::armed(Arc::new(move |place| {
            if place == name {
                std::process::abort();
            }
            false
        }))
    }

    // Modelled as `Action::Crash` in tests/model.
    pub(in crate::postgres::reconcile) fn pass(&self, place: &'static str) -> Result<(), Halt> {
        match &self.0 {
            Some(test) if test(place) => Err(Halt::Crash(place)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for CrashPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashPoints").field("armed", &self.0.is_some()).finish()
    }
}
