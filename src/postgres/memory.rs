//! Memory for rows on their way from one database to the other: so many bytes for the whole
//! process. Whoever wants more than is left waits; a row larger than all of it goes alone.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of one permit.
const UNIT: u64 = 1024;

/// So many bytes for all of them together. Cloning shares it.
#[derive(Debug, Clone)]
pub struct RowMemory {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// A share, given back when dropped.
#[derive(Debug)]
pub struct HeldRows {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Rows of all reconciles together. A row is there up to five times while it is written, so this
/// is a fifth of what they take.
const BYTES_MAX: u64 = 12 << 20;

impl Default for RowMemory {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

// === impl RowMemory ===

impl RowMemory {
    /// So many bytes, none of them held.
    pub fn new(bytes_max: u64) -> Self {
        let units_max = u32::try_from(bytes_max / UNIT).unwrap_or(u32::MAX).max(1);
        // Never more than the semaphore can count.
        let units_max = units_max.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    /// A share of so many bytes, or of all there are; waited for in turn, so that a large one is
    /// not passed by again and again.
    pub async fn hold(&self, bytes: u64) -> HeldRows {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.units).acquire_many_owned(units.min(self.units_max)).await;
        // The semaphore is never closed.
        HeldRows { _permit: permit.ok() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_row_larger_than_all_memory_goes_alone_and_in_its_turn() {
        let memory = RowMemory::new(8 * UNIT);
        let small = memory.hold(3 * UNIT).await;
        let mut large = Box::pin(memory.hold(1 << 40));
        assert!((&mut large).now_or_never().is_none(), "there is not so much left");
        let mut late = Box::pin(memory.hold(1));
        assert!((&mut late).now_or_never().is_none(), "it came after the large one");
        drop(small);
        let held = large.await;
        assert!((&mut late).now_or_never().is_none());
        drop(held);
        late.await;
    }
}
