//! Places where a test may end the process, or a member in it.
//!
//! Each stands for an *if we crash here*. A test in `tests/durability` ends the process itself
//! at every one of them, under load; those of a batch are also passed by members in a test's
//! own process (`tests/reconcile`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A write has run, its keys are in the outbox, and its COMMIT has not been sent. A statement
/// that commits itself has no such moment.
pub const BEFORE_COMMIT: &str = "before_commit";
/// A write is committed, and its caller has not been told.
pub const BEFORE_ANSWER: &str = "before_answer";
/// A worker was woken or its time had come, and nothing is claimed: callers have their answers.
pub const BEFORE_CLAIM: &str = "before_claim";
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
/// After that commit.
pub const AFTER_FORGET_COMMIT: &str = "after_forget_commit";

/// Those of a caller's write: capture and answer.
pub const OF_A_WRITE: [&str; 2] = [BEFORE_COMMIT, BEFORE_ANSWER];

/// Those of a batch, in the order in which it passes them: reconcile and forget.
pub const OF_A_BATCH: [&str; 8] = [
    BEFORE_CLAIM,
    AFTER_CLAIM,
    AFTER_LOCK,
    AFTER_READ,
    AFTER_APPLY,
    AFTER_SHADOW_COMMIT,
    BEFORE_FORGET_COMMIT,
    AFTER_FORGET_COMMIT,
];

/// Whether to crash at a place; it may also end the process and never return.
pub type CrashTest = dyn Fn(&'static str) -> bool + Send + Sync;

/// The crash points of a process. By default none is armed.
#[derive(Clone, Default)]
pub struct CrashPoints(Option<Arc<CrashTest>>);

impl CrashPoints {
    /// Asks `test` at every place. Where it says yes, a member behaves as if its process
    /// had ended: its connections are closed, and nothing that would follow is done.
    pub fn armed(test: Arc<CrashTest>) -> Self {
        Self(Some(test))
    }

    /// Ends the process itself, as by `kill -9`: `place`, or `place:7` for the seventh time that
    /// it is passed. `None` where there is no such place.
    pub fn abort_at(given: &str) -> Option<Self> {
        let (name, time) = given.split_once(':').unwrap_or((given, "1"));
        let time: u64 = time.parse().ok()?;
        let wanted = OF_A_WRITE.iter().chain(&OF_A_BATCH).copied().find(|place| *place == name)?;
        let passed = AtomicU64::new(0);
        Some(Self::armed(Arc::new(move |place| {
            if place == wanted && passed.fetch_add(1, Ordering::Relaxed) + 1 == time {
                tracing::error!(place, "the crash that a test asked for");
                std::process::abort();
            }
            false
        })))
    }

    // Modelled as `Action::Crash` in tests/model.
    pub(in crate::postgres) fn pass(&self, place: &'static str) -> Result<(), Crashed> {
        match &self.0 {
            Some(test) if test(place) => Err(Crashed(place)),
            _ => Ok(()),
        }
    }

    /// As [`CrashPoints::pass`], where only the process itself can end.
    pub(in crate::postgres) fn reach(&self, place: &'static str) {
        // A test that would rather have a member lost has none to lose here.
        let _ = self.pass(place);
    }
}

/// A test wants the member to be lost at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) struct Crashed(pub(in crate::postgres) &'static str);

impl fmt::Debug for CrashPoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashPoints").field("armed", &self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_places_can_be_asked_for() {
        assert!(CrashPoints::abort_at("after_lock").is_some());
        assert!(CrashPoints::abort_at("before_answer:12").is_some());
        assert!(CrashPoints::abort_at("after_lok").is_none());
        assert!(CrashPoints::abort_at("after_lock:soon").is_none());
    }

    #[test]
    fn what_is_not_armed_lets_everything_pass() {
        for place in OF_A_WRITE.into_iter().chain(OF_A_BATCH) {
            assert_eq!(CrashPoints::default().pass(place), Ok(()));
            let armed = CrashPoints::armed(Arc::new(move |at| at == place));
            assert_eq!(armed.pass(place), Err(Crashed(place)));
        }
    }
}
