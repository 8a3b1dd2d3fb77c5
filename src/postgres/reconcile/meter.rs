//! What is read of a set, counted while it comes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::postgres::reconcile::halt::Halt;

/// What was measured is an estimate: reading ends at so many times its limit.
const OVER: u64 = 2;

/// What was read so far of a set, on one side.
#[derive(Debug)]
pub struct Meter {
    read: AtomicU64,
    largest: AtomicUsize,
    bytes_max: u64,
}

// === impl Meter ===

impl Meter {
    /// Nothing was read so far, and this is the most.
    pub fn new(bytes_max: u64) -> Self {
        Self { read: AtomicU64::new(0), largest: AtomicUsize::new(0), bytes_max }
    }

    /// One of what is read whatever it has.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// Counts a row.
    ///
    /// # Errors
    ///
    /// [`Halt::Large`] where it is more than there is room for.
    pub(super) fn count(&self, bytes: usize) -> Result<(), Halt> {
        self.largest.fetch_max(bytes, Ordering::Relaxed);
        let bytes = bytes as u64;
        let all = self.read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if all > self.bytes_max.saturating_mul(OVER) { Err(Halt::Large) } else { Ok(()) }
    }

    /// Bytes of all rows so far.
    pub fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes of the largest of them.
    pub(in crate::postgres) fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    /// The limit as the server is told it.
    pub(super) fn bytes_max(&self) -> f64 {
        if self.bytes_max == u64::MAX {
            return f64::INFINITY;
        }
        // A limit needs not be told to the last byte.
        #[allow(clippy::cast_precision_loss)]
        let bytes_max = self.bytes_max as f64;
        bytes_max
    }
}
