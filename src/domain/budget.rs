//! Memory that many share and nobody waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes for all of them together. Cloning shares it.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes_max: u64,
    held: AtomicU64,
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
        Self { shared: Arc::new(Shared { bytes_max, held: AtomicU64::new(0) }) }
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
}

// === impl HeldBytes ===

impl HeldBytes {
    /// Takes more, unless there is not so much left; then nothing is taken.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let Shared { bytes_max, held } = &*self.budget.shared;
        let more = |now: u64| now.checked_add(bytes).filter(|all| all <= bytes_max);
        let taken = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.budget.shared.held.fetch_sub(self.bytes, Ordering::Relaxed);
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
}
