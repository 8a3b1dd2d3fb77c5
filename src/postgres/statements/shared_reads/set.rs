//! The shared sessions of a pool as their calls and the watch see them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};

use super::heavy::Heavy;
use super::place::Place;
use crate::domain::fault::SqlFault;
use crate::postgres::pool::Pool;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) pool: Pool,
    pub(super) sessions_wanted: usize,
    pub(super) size_max: usize,
    pub(super) set: Mutex<Set>,
    /// Told when a call that waits may find room.
    pub(super) room: Notify,
    /// Calls that have a session to themselves: they leave some for those that share.
    pub(super) alone: Arc<Semaphore>,
    pub(super) watched: AtomicBool,
    /// Something is remembered of some statement.
    pub(super) suspects: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) places: Vec<Place>,
    pub(super) next_id: u64,
    /// Sessions being fetched from the pool.
    pub(super) opening: usize,
    pub(super) waiting: usize,
    /// Times that none could be had, and why the last time.
    pub(super) failures: u64,
    pub(super) last_fault: Option<SqlFault>,
    pub(super) heavy: Heavy,
}

// === impl Inner ===

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those that wait that there may be room.
    pub(super) fn made_room(&self, set: &Set) {
        if set.waiting > 0 {
            self.room.notify_waiters();
        }
    }
}
