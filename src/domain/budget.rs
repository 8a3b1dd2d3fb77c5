//! Memory that many share and nobody waits for.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// So many bytes for all of them together. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    shared: Arc<Shared>,
}

struct Shared {
    bytes_max: u64,
    held: AtomicU64,
    /// What is held here is held there as well.
    part_of: Option<ByteBudget>,
    /// Called after some of it has come back.
    freed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("bytes_max", &self.bytes_max)
            .field("held", &self.held)
            .field("part_of", &self.part_of)
            .finish_non_exhaustive()
    }
}

/// A share of a budget, given back when dropped.
#[derive(Debug)]
pub struct HeldBytes {
    budget: ByteBudget,
    bytes: u64,
}

// === impl ByteBudget ===

impl ByteBudget {
    /// A budget of which nothing is held.
    pub fn new(bytes_max: u64) -> Self {
        Self::of(bytes_max, None)
    }

    /// A part of it of at most so many bytes: what is held of the part is held of the whole.
    #[must_use]
    pub fn part(&self, bytes_max: u64) -> Self {
        Self::of(bytes_max, Some(self.clone()))
    }

    fn of(bytes_max: u64, part_of: Option<Self>) -> Self {
        let (held, freed) = (AtomicU64::new(0), OnceLock::new());
        Self { shared: Arc::new(Shared { bytes_max, held, part_of, freed }) }
    }

    /// Calls this whenever some of it has come back. Only the first that is given is called.
    pub fn on_freed(&self, freed: impl Fn() + Send + Sync + 'static) {
        let _ = self.shared.freed.set(Box::new(freed));
    }

    /// One that is never used up.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// A share of no bytes, which may grow.
    pub fn share(&self) -> HeldBytes {
        HeldBytes { budget: self.clone(), bytes: 0 }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> u64 {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// Bytes that there are.
    pub fn bytes_max(&self) -> u64 {
        self.shared.bytes_max
    }

    /// Bytes that may be held beside the rest of the whole.
    fn take(&self, bytes: u64) -> bool {
        let Shared { bytes_max, held, part_of, .. } = &*self.shared;
        let more = |now: u64| now.checked_add(bytes).filter(|all| all <= bytes_max);
        let taken = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if taken && part_of.as_ref().is_some_and(|whole| !whole.take(bytes)) {
            held.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        taken
    }

    fn take_anyway(&self, bytes: u64) {
        self.shared.held.fetch_add(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.shared.part_of {
            whole.take_anyway(bytes);
        }
    }

    fn give_back(&self, bytes: u64) {
        self.shared.held.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.shared.part_of {
            whole.give_back(bytes);
        }
        if let Some(freed) = self.shared.freed.get() {
            freed();
        }
    }
}

// === impl HeldBytes ===

impl HeldBytes {
    /// Takes more, unless there is not so much left; then nothing is taken.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Takes more, whatever is left: for what is there already, and must be.
    pub fn grow_anyway(&mut self, bytes: u64) {
        self.budget.take_anyway(bytes);
        self.bytes += bytes;
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_while_there_is_room_and_come_back() {
        let budget = ByteBudget::new(100);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.grow(60) && other.grow(40));
        assert!(!one.grow(1), "all of it is held");
        assert_eq!(budget.held(), 100);
        drop(one);
        assert_eq!(budget.held(), 40, "what was refused is not given back");
        assert!(other.grow(60) && !other.grow(u64::MAX));
        drop(other);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_part_is_held_of_the_whole_and_never_more_than_either() {
        let whole = ByteBudget::new(100);
        let part = whole.part(60);
        let (mut one, mut other) = (part.share(), whole.share());
        assert!(!one.grow(61) && one.grow(50));
        assert_eq!((part.held(), whole.held()), (50, 50));
        assert!(other.grow(45) && !one.grow(10), "the whole has not so much left");
        assert_eq!((part.held(), whole.held()), (50, 95));
        other.grow_anyway(100);
        assert_eq!(whole.held(), 195);
        let freed = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&freed);
        whole.on_freed(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        drop(one);
        drop(other);
        assert_eq!((part.held(), whole.held(), freed.load(Ordering::Relaxed)), (0, 0, 2));
    }
}
