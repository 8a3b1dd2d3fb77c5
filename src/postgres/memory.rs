//! Memory for rows on their way from one database to the other: so many bytes for the whole
//! process. Whoever wants more than is left waits. Large shares wait among themselves, and small ones
//! always have some room beside them: a row larger than all of it goes alone among the large, and
//! holds nothing small up.
//!
//! Samples of callers' answers have a part of the same memory. Nobody waits for them, and they wait
//! for nobody: what does not fit is not compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Mutex, Notify};

use crate::domain::budget::{ByteBudget, HeldBytes};
use crate::telemetry::metrics::MemoryState;

/// The part of it that samples may have at most: the rest is never theirs, so that no copy waits
/// for a caller who reads his answer slowly.
const SAMPLES_SHARE: u64 = 2;
/// Bytes that small shares have whatever large ones hold: those of a set of rows that reconcile carries
/// in one go.
const BESIDE: u64 = 16 << 20;
/// The part of all memory that this is at most.
const BESIDE_SHARE: u64 = 2;

/// So many bytes for all of them together. Cloning shares it.
#[derive(Debug, Clone)]
pub struct RowMemory {
    all: ByteBudget,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Bytes that shares of at most so many always have.
    beside: u64,
    small: Lane,
    large: Lane,
    freed: Notify,
    waiting: AtomicU64,
    waits: AtomicU64,
}

/// Shares of one kind. They come one after the other, so that none is passed by again and again.
#[derive(Debug, Default)]
struct Lane {
    /// Held while memory is waited for.
    turn: Mutex<()>,
    /// Bytes of rows, without those of samples.
    held: AtomicU64,
    /// Somebody has the turn and waits.
    waits: AtomicBool,
}

/// A share, given back when dropped.
#[derive(Debug)]
pub struct HeldRows {
    /// Dropped after the rows were taken off: whoever is told looks at both.
    _held: HeldBytes,
    bytes: u64,
    is_large: bool,
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
        let all = ByteBudget::new(bytes_max);
        let shared = Arc::new(Shared {
            beside: BESIDE.min(bytes_max / BESIDE_SHARE),
            small: Lane::default(),
            large: Lane::default(),
            freed: Notify::new(),
            waiting: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&shared);
        all.on_freed(move || {
            if let Some(shared) = weak.upgrade() {
                shared.freed.notify_waiters();
            }
        });
        Self { all, shared }
    }

    /// The part for samples, of at most so many bytes.
    pub fn for_samples(&self, bytes_max: u64) -> ByteBudget {
        self.all.part(bytes_max.min(self.all.bytes_max() / SAMPLES_SHARE))
    }

    /// A share of so many bytes; waited for in turn. One for which there is no room beside the small
    /// ones comes when no other large one is held, and what it holds is above the limit.
    ///
    /// Who has a share never waits for another.
    pub async fn hold(&self, bytes: u64) -> HeldRows {
        let shared = &self.shared;
        let _waiting = Waiting::begin(shared);
        let is_large = bytes > shared.beside;
        let lane = shared.lane(is_large);
        let _turn = lane.turn.lock().await;
        let _waits = Waits(lane, &shared.freed);
        loop {
            let freed = shared.freed.notified();
            let taken = if is_large { self.take_large(bytes) } else { self.take_small(bytes) };
            if let Some(held) = taken {
                lane.held.fetch_add(bytes, Ordering::AcqRel);
                return HeldRows { _held: held, bytes, is_large, shared: Arc::clone(shared) };
            }
            lane.waits.store(true, Ordering::Release);
            shared.waits.fetch_add(1, Ordering::Relaxed);
            freed.await;
        }
    }

    /// The first bytes are always there; the others while no large one waits for them.
    fn take_small(&self, bytes: u64) -> Option<HeldBytes> {
        let Self { all, shared } = self;
        let mut held = all.share();
        if shared.small.held.load(Ordering::Acquire) + bytes <= shared.beside {
            if !held.grow(bytes) {
                held.grow_anyway(bytes);
            }
            return Some(held);
        }
        (!shared.large.waits.load(Ordering::Acquire) && held.grow(bytes)).then_some(held)
    }

    fn take_large(&self, bytes: u64) -> Option<HeldBytes> {
        let Self { all, shared } = self;
        let mut held = all.share();
        let others = shared.large.held.load(Ordering::Acquire);
        if others.saturating_add(bytes) <= all.bytes_max() - shared.beside && held.grow(bytes) {
            return Some(held);
        }
        if others == 0 && shared.small.held.load(Ordering::Acquire) <= shared.beside {
            held.grow_anyway(bytes);
            return Some(held);
        }
        None
    }

    /// Whether a share of so many bytes is larger than all there is.
    pub fn is_above(&self, bytes: u64) -> bool {
        bytes > self.all.bytes_max()
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

// === impl Shared ===

impl Shared {
    fn lane(&self, is_large: bool) -> &Lane {
        if is_large { &self.large } else { &self.small }
    }
}

/// Says that nobody waits any longer when it is dropped.
struct Waits<'a>(&'a Lane, &'a Notify);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if self.0.waits.swap(false, Ordering::AcqRel) {
            // Small ones may have waited for it.
            self.1.notify_waiters();
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
        self.shared.lane(self.is_large).held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_row_larger_than_all_memory_goes_alone_among_the_large_and_beside_the_small() {
        let memory = RowMemory::new(8);
        let first = memory.hold(5).await;
        let mut large = Box::pin(memory.hold(1 << 40));
        assert!((&mut large).now_or_never().is_none(), "a large one is held");
        let small = memory.hold(3).await;
        let other = memory.hold(1).await;
        let mut late = Box::pin(memory.hold(2));
        assert!((&mut late).now_or_never().is_none(), "a large one waits for what is left");
        let mut behind = Box::pin(memory.hold(5));
        assert!((&mut behind).now_or_never().is_none(), "it came after the large one");
        assert_eq!(memory.state().waiting, 3);
        drop(first);
        let held = large.await;
        assert!((&mut behind).now_or_never().is_none(), "one that large is held");
        assert!((&mut late).now_or_never().is_none(), "so there is no more than their room");
        drop(small);
        drop(late.await);
        drop(other);
        drop(held);
        behind.await;
        assert_eq!((memory.state().held, memory.state().waiting), (0, 0));
    }

    #[tokio::test]
    async fn small_shares_never_wait_for_a_large_one_for_good_nor_it_for_them() {
        let memory = RowMemory::new(8);
        let (one, other) = (memory.hold(4).await, memory.hold(4).await);
        let mut large = Box::pin(memory.hold(100));
        assert!((&mut large).now_or_never().is_none(), "small ones hold more than their room");
        // However many more come, they have no more than their room while it waits.
        let mut more = Box::pin(memory.hold(4));
        assert!((&mut more).now_or_never().is_none());
        drop(one);
        assert!((&mut more).now_or_never().is_none());
        let held = large.await;
        drop(other);
        drop((more.await, held));
        assert_eq!(memory.state().held, 0);
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
