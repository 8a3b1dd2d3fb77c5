//! Sessions that several reads have at the same time.
//!
//! Reads of short answers are sent one behind the other on a few sessions, without waiting
//! for the answers between. That costs a server less than half of what as many sessions cost
//! it, since it finds the next statement in its buffer instead of going to sleep.
//!
//! Three rules keep callers apart:
//!
//! - **Nobody waits behind a slow statement.** [`watch`] looks every few milliseconds
//!   whether each session makes progress. One that does not takes no further calls, and those
//!   that wait behind its statement are moved, which is safe since reads change nothing. A
//!   statement that was slow twice in a row, or whose answer was long, gets a session of its
//!   own for a while.
//! - **Nobody waits for a slow caller.** Whoever has a [`Ticket`] reads his first batch at
//!   once. An answer that has more takes its session over: the others are moved.
//! - **No cancel hits another's statement.** A call that goes away leaves its statement
//!   behind. Only when nobody is left on its session, and nobody can join it any more, is a
//!   cancel sent, and the session is given back only when it has come to rest.
//!
//! A session is shared while calls are at work in it and goes back to its pool between, which
//! looks after it there.

mod heavy;
mod place;
mod set;
mod ticket;
mod watch;

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use tokio::sync::{Notify, Semaphore};

use super::stop::unless_stopped;
use crate::domain::call::CallContext;
use crate::domain::fault::SqlFault;
use crate::domain::reason::Reason;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::fault;
use place::Place;
use set::{Inner, Set};

pub(super) use heavy::Weight;
pub(super) use place::Manner;
pub(super) use ticket::Ticket;

/// Sessions that are shared, where the pool has twice as many: one for each processor, within
/// these. Fewer of them are each asked for more at a time, which costs less a call; with one,
/// everybody waits behind whatever is slow.
const SESSIONS: std::ops::RangeInclusive<usize> = 2..=4;
/// Calls at once in one of them.
const CALLS_MAX: usize = 32;

/// The shared sessions of a pool. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct SharedSessions {
    inner: Arc<Inner>,
}

/// What a call that wants to share may do now.
enum Step {
    Join(Ticket),
    Open(Opening),
    Wait(Waiting),
    Fail(SqlFault),
}

/// Counts a session that is being fetched.
struct Opening(Arc<Inner>);

/// Counts a call that waits for room.
struct Waiting(Arc<Inner>);

// === impl SharedSessions ===

impl SharedSessions {
    /// Shares sessions of a pool.
    pub(super) fn new(pool: Pool) -> Self {
        let size_max = pool.status().size_max;
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let sessions = processors.clamp(*SESSIONS.start(), *SESSIONS.end());
        let sessions_wanted = sessions.min(size_max / 2).max(1);
        let alone = Arc::new(Semaphore::new(size_max.saturating_sub(sessions_wanted).max(1)));
        let inner = Inner {
            pool,
            sessions_wanted,
            size_max,
            set: Mutex::default(),
            room: Notify::new(),
            alone,
            watched: AtomicBool::new(false),
            suspects: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A place on a shared session; nothing where the statement is known to need one of its own.
    ///
    /// # Errors
    ///
    /// Whatever keeps a session from being had in time: nothing was sent.
    pub(super) async fn join(
        &self,
        sql: &str,
        moved: bool,
        context: &CallContext,
    ) -> Result<Option<Ticket>, SqlFault> {
        let manner = {
            let mut set = self.inner.lock();
            let Some(known) = set.heavy.manner(sql) else { return Ok(None) };
            // Whoever has to do it again does not depend on others once more.
            let manner = if moved { Manner::Apart } else { known };
            // Most calls find their place at once.
            if let Some(ticket) = self.inner.find_place(&mut set, manner) {
                return Ok(Some(ticket));
            }
            manner
        };
        let side = self.inner.pool.side();
        unless_stopped(context, side, self.wait_and_join(manner)).await.map(Some)
    }

    async fn wait_and_join(&self, manner: Manner) -> Result<Ticket, SqlFault> {
        let inner = &self.inner;
        let give_up = tokio::time::Instant::now() + inner.pool.wait_max();
        let failures = inner.lock().failures;
        loop {
            let mut room = std::pin::pin!(inner.room.notified());
            room.as_mut().enable();
            match inner.step(manner, failures) {
                Step::Join(ticket) => return Ok(ticket),
                Step::Open(opening) => {
                    if let Some(ticket) = opening.begin(manner) {
                        return ticket;
                    }
                }
                Step::Wait(_waiting) => {
                    if tokio::time::timeout_at(give_up, room).await.is_err() {
                        return Err(self.no_room());
                    }
                }
                Step::Fail(fault) => return Err(fault),
            }
        }
    }

    /// A session of its own from the pool, leaving some for those that share.
    ///
    /// # Errors
    ///
    /// As [`SharedSessions::join`].
    pub(super) async fn alone(&self, context: &CallContext) -> Result<Lease, SqlFault> {
        let inner = &self.inner;
        let work = async {
            let permit = Arc::clone(&inner.alone).acquire_owned();
            let permit = tokio::time::timeout(inner.pool.wait_max(), permit).await;
            let Ok(Ok(permit)) = permit else { return Err(self.no_room()) };
            let lease = inner.pool.get_until(context.deadline).await?.with_permit(permit);
            // Only statements that leave nothing come here.
            lease.set_touched(false);
            Ok(lease)
        };
        unless_stopped(context, inner.pool.side(), work).await
    }

    /// Remembers what a statement that shared a session turned out to be.
    pub(super) fn note(&self, sql: &Arc<str>, weight: Weight, manner: Manner) {
        if weight == Weight::Light && !self.inner.suspects.load(Ordering::Relaxed) {
            return;
        }
        let mut set = self.inner.lock();
        set.heavy.note(sql, weight, manner);
        self.inner.suspects.store(!set.heavy.is_empty(), Ordering::Relaxed);
    }

    fn no_room(&self) -> SqlFault {
        let pool = &self.inner.pool;
        fault::unavailable(
            pool.side(),
            Reason::UnavailablePoolWait,
            format!(
                "no read session had room within {} ms; all {} are in use",
                pool.wait_max().as_millis(),
                pool.status().size_max,
            ),
        )
    }
}

// === impl Inner ===

impl Inner {
    /// A place whose session is about to send a piece that has room, or else the least busy
    /// one: a full piece costs all of its calls less. Where all are busy and there may be more
    /// of them, another one is made meanwhile.
    fn find_place(self: &Arc<Self>, set: &mut Set, manner: Manner) -> Option<Ticket> {
        let held = set.places.len() + set.opening;
        let usable = set.places.iter().filter(|place| place.is_usable()).count() + set.opening;
        let places = set.places.iter_mut();
        // Where none makes progress it is rather the machine that stands still.
        let place = places
            .filter(|place| place.is_usable() && place.live() < CALLS_MAX)
            .min_by_key(|place| (place.stands(), !place.lease.is_filling(), place.live()))?;
        place.lease.count_unsent();
        if place.live() > 0 && usable < self.sessions_wanted && held < self.size_max {
            set.opening += 1;
            let opening = Opening(Arc::clone(self));
            tokio::spawn(async move {
                let lease = opening.0.pool.get().await;
                opening.end(lease, |_| ())
            });
        }
        Some(Ticket::new(self, place, manner))
    }

    fn step(self: &Arc<Self>, manner: Manner, failures_seen: u64) -> Step {
        let mut set = self.lock();
        if let Some(ticket) = self.find_place(&mut set, manner) {
            return Step::Join(ticket);
        }
        if set.opening == 0 && set.places.len() < self.size_max {
            set.opening += 1;
            return Step::Open(Opening(Arc::clone(self)));
        }
        match &set.last_fault {
            Some(fault) if set.failures != failures_seen => Step::Fail(fault.clone()),
            _ => {
                set.waiting += 1;
                Step::Wait(Waiting(Arc::clone(self)))
            }
        }
    }

    /// Shares a session from now on; `first` may take a place before others do.
    fn add<T>(self: &Arc<Self>, lease: Lease, first: impl FnOnce(&mut Place) -> T) -> T {
        // Until it has come to rest, dropping it must not wait for what it runs.
        lease.set_busy(true);
        lease.set_shared(true);
        let taken = {
            let mut set = self.lock();
            let mut place = Place::new(set.next_id, lease);
            set.next_id += 1;
            let taken = first(&mut place);
            set.places.push(place);
            taken
        };
        if !self.watched.swap(true, Ordering::AcqRel) {
            watch::start(self);
        }
        taken
    }
}

impl Opening {
    /// Fetches a session. Where it is not there at once this goes on in a task, whatever
    /// becomes of the call that wants it: others wait for it as well.
    fn begin(self, manner: Manner) -> Option<Result<Ticket, SqlFault>> {
        let pool = self.0.pool.clone();
        let mut fetching = Box::pin(async move { pool.get().await });
        if let Some(lease) = fetching.as_mut().now_or_never() {
            return Some(self.end(lease, |place| Ticket::new(&self.0, place, manner)));
        }
        tokio::spawn(async move {
            let lease = fetching.await;
            self.end(lease, |_| ())
        });
        None
    }

    /// Shares the session, or tells of the failure whoever waits.
    fn end<T>(
        &self,
        lease: Result<Lease, SqlFault>,
        first: impl FnOnce(&mut Place) -> T,
    ) -> Result<T, SqlFault> {
        match lease {
            Ok(lease) => Ok(self.0.add(lease, first)),
            Err(fault) => {
                let mut set = self.0.lock();
                set.failures += 1;
                set.last_fault = Some(fault.clone());
                Err(fault)
            }
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.lock().opening -= 1;
        self.0.room.notify_waiters();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}
