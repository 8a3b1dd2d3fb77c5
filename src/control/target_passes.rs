//! Reads that were sent to the target and are not being answered yet, by the revision of the
//! control row that they were let in under.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::ports::TargetPass;

/// Counts them. What is known of the row is read under the lock.
#[derive(Debug)]
pub(super) struct TargetPasses {
    counts: Mutex<BTreeMap<u64, u64>>,
    /// The newest revision that was asked for.
    newest: AtomicU64,
    acknowledge: Arc<Notify>,
}

struct Counted {
    passes: Arc<TargetPasses>,
    revision: u64,
}

// === impl TargetPasses ===

impl TargetPasses {
    /// Told when the last one of an older revision has ended: `acknowledge`.
    pub(super) fn new(acknowledge: Arc<Notify>) -> Self {
        Self { counts: Mutex::default(), newest: AtomicU64::new(0), acknowledge }
    }

    /// A pass, unless `revision` finds that there is none to be had.
    pub(super) fn enter(
        self: &Arc<Self>,
        revision: impl FnOnce() -> Option<u64>,
    ) -> Option<TargetPass> {
        let mut counts = self.lock();
        let revision = revision()?;
        *counts.entry(revision).or_default() += 1;
        Some(TargetPass::counted(Box::new(Counted { passes: Arc::clone(self), revision })))
    }

    /// What can be acknowledged of the revision that is known.
    pub(super) fn acknowledged(&self, known: impl FnOnce() -> u64) -> u64 {
        let counts = self.lock();
        let known = known();
        self.newest.fetch_max(known, Ordering::AcqRel);
        counts.keys().next().map_or(known, |oldest| known.min(*oldest))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.passes.lock();
        let Some(count) = counts.get_mut(&self.revision) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.revision);
            if self.revision < self.passes.newest.load(Ordering::Acquire) {
                self.passes.acknowledge.notify_one();
            }
        }
    }
}
