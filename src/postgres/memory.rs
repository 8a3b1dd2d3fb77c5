//! Memory for rows on their way from one database to the other: so many bytes for the whole
//! process. Whoever wants more than is left waits; a row larger than all of it goes alone.
//!
//! Samples of callers' answers have a part of the same memory. Nobody waits for them, and they wait
//! for nobody: what does not fit is not compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Mutex, Notify};

use crate::domain::budget::{ByteBudget, HeldBytes};
use crate::telemetry::metrics::MemoryState;

/// The part of it that samples may have at most: the rest is never theirs, so that no copy waits
/// for a caller who reads his answer slowly.
const SAMPLES_SHARE: u64 = 2;

/// So many bytes for all of them together. Cloning shares it.
#[derive(Debug, Clone)]
pub struct RowMemory {
    all: ByteBudget,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held while memory is waited for: one after the other, as they came.
    turn: Mutex<()>,
    freed: Notify,
    /// Bytes of rows, without those of samples.
    rows: AtomicU64,
    waiting: AtomicU64,
    waits: AtomicU64,
}

/// A share, given back when dropped.
#[derive(Debug)]
pub struct HeldRows {
    /// Dropped after the rows were taken off: whoever is told looks at both.
    _held: HeldBytes,
    bytes: u64,
    shared: Arc<Shared>,
}

/// Where the configuration says nothing.
const BYTES_MAX: u64 = 64 << 20;

impl Default for RowMemory {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

// === impl RowMemory ===

impl RowMemory {
    /// So many bytes, none of them held.
    pub fn new(bytes_max: u64) -> Self {
        let (all, shared) = (ByteBudget::new(bytes_max), Arc::new(Shared::default()));
        let weak = Arc::downgrade(&shared);
        all.on_freed(move || {
            if let Some(shared) = weak.upgrade() {
                shared.freed.notify_one();
            }
        });
        Self { all, shared }
    }

    /// The part for samples, of at most so many bytes.
    pub fn for_samples(&self, bytes_max: u64) -> ByteBudget {
        self.all.part(bytes_max.min(self.all.bytes_max() / SAMPLES_SHARE))
    }

    /// A share of so many bytes; waited for in turn, so that a large one is not passed by again and
    /// again. One that is larger than all there is comes when no other rows are held.
    ///
    /// Who has a share never waits for another.
    pub async fn hold(&self, bytes: u64) -> HeldRows {
        let Self { all, shared } = self;
        let _waiting = Waiting::begin(shared);
        let _turn = shared.turn.lock().await;
        loop {
            let freed = shared.freed.notified();
            let mut held = all.share();
            let alone = shared.rows.load(Ordering::Acquire) == 0;
            let taken = held.grow(bytes);
            if taken || alone {
                if !taken {
                    held.grow_anyway(bytes);
                }
                shared.rows.fetch_add(bytes, Ordering::AcqRel);
                return HeldRows { _held: held, bytes, shared: Arc::clone(shared) };
            }
            shared.waits.fetch_add(1, Ordering::Relaxed);
            freed.await;
        }
    }

    /// What there is of it now.
    pub fn state(&self) -> MemoryState {
        MemoryState {
            held: self.all.held(),
            bytes_max: self.all.bytes_max(),
            waiting: self.shared.waiting.load(Ordering::Relaxed),
            waits: self.shared.waits.load(Ordering::Relaxed),
        }
    }
}

/// Counts one who waits for as long as it lives.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl HeldRows ===

impl HeldRows {
    /// Bytes of the share.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for HeldRows {
    fn drop(&mut self) {
        self.shared.rows.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_row_larger_than_all_memory_goes_alone_and_in_its_turn() {
        let memory = RowMemory::new(8);
        let small = memory.hold(3).await;
        let mut large = Box::pin(memory.hold(1 << 40));
        assert!((&mut large).now_or_never().is_none(), "there is not so much left");
        let mut late = Box::pin(memory.hold(1));
        assert!((&mut late).now_or_never().is_none(), "it came after the large one");
        assert_eq!(memory.state().waiting, 2);
        drop(small);
        let held = large.await;
        assert!((&mut late).now_or_never().is_none());
        drop(held);
        late.await;
        assert_eq!((memory.state().held, memory.state().waiting), (0, 0));
    }

    #[tokio::test]
    async fn samples_take_what_is_left_and_no_copy_waits_for_them() {
        let memory = RowMemory::new(100);
        let samples = memory.for_samples(1000);
        let mut sample = samples.share();
        assert!(!sample.grow(51) && sample.grow(50), "half of it at most");
        let one = memory.hold(40).await;
        let mut other = Box::pin(memory.hold(20));
        assert!((&mut other).now_or_never().is_none());
        drop(one);
        drop(other.await);
        // However long the sample is held.
        let large = memory.hold(1000).await;
        assert!(!samples.share().grow(1));
        drop(large);
        assert!(samples.share().grow(0) && samples.held() == 50);
    }
}
