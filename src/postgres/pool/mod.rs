//! Sessions kept open, a pool for each purpose.
//!
//! A pool never hands over a session in which something still runs, nor what a caller has left in
//! one: it is reset, or closed and replaced. A pool behind a fence hands over only
//! sessions that hold the lock of the member's present epoch.

pub(in crate::postgres) mod reset;
mod sessions;

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool::Runtime;
use deadpool::managed::{Object, PoolError, TimeoutType, Timeouts};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::fence::{Fence, Readers, Writers};
use super::session::connect::Connector;
use super::session::settings::{Purpose, SessionLimits};
use super::session::{Session, fault};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::failpoint::FailPoints;
use crate::postgres::pool::reset::to_first_state;
use crate::postgres::pool::sessions::RECYCLE_LIMIT;
use reset::Running;
use sessions::Sessions;

/// What a pool needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// What its sessions are for.
    pub purpose: Purpose,
    /// Sessions at most.
    pub size_max: usize,
    /// How long a caller waits for one.
    pub wait_max: Duration,
    /// Limits that the server enforces on its sessions.
    pub limits: SessionLimits,
}

impl Params {
    /// A pool of so many sessions, with the usual limits.
    pub fn new(purpose: Purpose, size_max: usize, wait_max: Duration) -> Self {
        Self { purpose, size_max, wait_max, limits: SessionLimits::for_purpose(purpose) }
    }
}

/// A pool of sessions. Clones share it.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool::managed::Pool<Sessions>,
    side: Side,
    purpose: Purpose,
    wait_max: Duration,
    failpoints: FailPoints,
}

/// How often a fenced pool looks for sessions at rest that hold the lock of another epoch.
const RENEW_INTERVAL: Duration = Duration::from_millis(50);

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let status = self.inner.status();
        f.debug_struct("Pool")
            .field("side", &self.side)
            .field("purpose", &self.purpose)
            .field("size", &status.size)
            .field("waiting", &status.waiting)
            .finish_non_exhaustive()
    }
}

/// How a pool stands, for gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// Sessions that may be open.
    pub size_max: usize,
    /// Sessions that are open.
    pub open: usize,
    /// Of these, at rest.
    pub idle: usize,
    /// Callers that wait.
    pub waiting: usize,
}

// === impl Pool ===

impl Pool {
    /// A pool; sessions are opened when they are first needed.
    ///
    /// # Errors
    ///
    /// `Internal` outside a runtime.
    pub fn new(connector: Connector, params: Params) -> Result<Self, SqlFault> {
        Self::build(connector, params, (None, None, None))
    }

    /// A pool whose sessions answer reads of callers, and show whose they are.
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    pub fn of_readers(
        connector: Connector,
        params: Params,
        readers: Readers,
    ) -> Result<Self, SqlFault> {
        Self::build(connector, params, (None, Some(readers), None))
    }

    /// A pool whose sessions write for callers, behind a fence. [`Pool::keep_current`] must run
    /// for those at rest to follow it.
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    pub fn fenced(connector: Connector, params: Params, fence: Fence) -> Result<Self, SqlFault> {
        let writers = fence.writers();
        Self::build(connector, params, (Some(fence), None, Some(writers)))
    }

    /// A pool whose sessions write for callers without a fence, and show whose they are.
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    pub fn of_writers(
        connector: Connector,
        params: Params,
        writers: Writers,
    ) -> Result<Self, SqlFault> {
        Self::build(connector, params, (None, None, Some(writers)))
    }

    fn build(
        connector: Connector,
        params: Params,
        (fence, readers, writers): (Option<Fence>, Option<Readers>, Option<Writers>),
    ) -> Result<Self, SqlFault> {
        let side = connector.side();
        let Params { purpose, size_max, wait_max, limits } = params;
        let timeouts =
            Timeouts { wait: Some(wait_max), create: None, recycle: Some(RECYCLE_LIMIT) };
        let spare = Mutex::default();
        let resets = Arc::default();
        let sessions =
            Sessions { connector, purpose, limits, fence, readers, writers, spare, resets };
        let inner = deadpool::managed::Pool::builder(sessions)
            .max_size(size_max.max(1))
            .timeouts(timeouts)
            .queue_mode(deadpool::managed::QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| {
                SqlFault::new(FaultKind::Internal, Reason::PoolBuild, error.to_string()).on(side)
            })?;
        Ok(Self { inner, side, purpose, wait_max, failpoints: FailPoints::default() })
    }

    /// With places where tests end or stop the process while it writes on one of these sessions.
    #[must_use]
    pub fn with_failpoints(self, failpoints: FailPoints) -> Self {
        Self { failpoints, ..self }
    }

    pub(in crate::postgres) fn failpoints(&self) -> &FailPoints {
        &self.failpoints
    }

    /// Which database its sessions are with.
    pub fn side(&self) -> Side {
        self.side
    }

    /// How long a caller waits for a session.
    pub fn wait_max(&self) -> Duration {
        self.wait_max
    }

    /// Opens sessions like the pool's.
    pub fn connector(&self) -> &Connector {
        &self.inner.manager().connector
    }

    /// A session, waited for no longer than the pool's limit.
    ///
    /// # Errors
    ///
    /// `Unavailable`: no statement was sent.
    pub async fn get(&self) -> Result<Lease, SqlFault> {
        self.get_until(None).await
    }

    /// A session, waited for no longer than the pool's limit and until the deadline.
    ///
    /// # Errors
    ///
    /// `Unavailable`, or `DeadlineExceeded` where the deadline came first.
    pub async fn get_until(&self, deadline: Option<Instant>) -> Result<Lease, SqlFault> {
        let Some(deadline) = deadline else {
            return self.lend().await.map_err(|error| self.fault(error));
        };
        let deadline = tokio::time::Instant::from_std(deadline);
        match tokio::time::timeout_at(deadline, self.lend()).await {
            Ok(got) => got.map_err(|error| self.fault(error)),
            Err(_) => Err(fault::deadline_exceeded(
                self.side,
                &format!("before a {} session was free", self.purpose.as_str()),
            )),
        }
    }

    async fn lend(&self) -> Result<Lease, PoolError<SqlFault>> {
        if self.inner.status().available == 0 {
            Box::pin(self.inner.manager().resets.one_ended()).await;
        }
        self.inner.get().await.map(Lease::new)
    }

    /// Lets sessions at rest give up the lock of an epoch that the member has left, at once
    /// and as they come back, until `stop`. They keep their connections for later.
    pub async fn keep_current(&self, stop: CancellationToken) {
        let Some(fence) = &self.inner.manager().fence else { return };
        let mut changes = fence.changes();
        let mut ticks = tokio::time::interval(RENEW_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                _ = changes.changed() => {}
            }
            let left = self.inner.retain(|session, _| fence.is_current(session)).removed;
            for session in left {
                self.inner.manager().lay_by(session).await;
            }
        }
    }

    /// Opens sessions ahead of their use, until `wanted` are open or at hand.
    ///
    /// # Errors
    ///
    /// `Unavailable` where one cannot be opened.
    pub async fn warm_up(&self, wanted: usize) -> Result<(), SqlFault> {
        let manager = self.inner.manager();
        let wanted = wanted.min(self.inner.status().max_size);
        while self.inner.status().size + manager.spare().len() < wanted {
            let session = manager.connect().await?;
            manager.spare().push(session);
        }
        Ok(())
    }

    /// How the pool stands.
    pub fn status(&self) -> PoolStatus {
        let status = self.inner.status();
        PoolStatus {
            size_max: status.max_size,
            open: status.size,
            idle: status.available,
            waiting: status.waiting,
        }
    }

    /// Hands out no more sessions.
    pub fn close(&self) {
        self.inner.close();
    }

    fn fault(&self, error: PoolError<SqlFault>) -> SqlFault {
        let purpose = self.purpose.as_str();
        match error {
            PoolError::Backend(fault) => fault,
            PoolError::Timeout(TimeoutType::Wait) => fault::unavailable(
                self.side,
                Reason::UnavailablePoolWait,
                format!(
                    "no {purpose} session was free within {} ms; all {} are in use",
                    self.wait_max.as_millis(),
                    self.inner.status().max_size,
                ),
            ),
            PoolError::Closed => {
                fault::unavailable(self.side, Reason::UnavailableShutdown, "segue is shutting down")
            }
            other => fault::unavailable(self.side, Reason::UnavailablePool, other.to_string()),
        }
    }
}

/// A session on loan; it goes back when dropped.
#[derive(Debug)]
pub struct Lease {
    object: Object<Sessions>,
    /// Of whoever counts leases of a kind.
    _permit: Option<OwnedSemaphorePermit>,
}

// === impl Lease ===

impl Lease {
    fn new(object: Object<Sessions>) -> Self {
        Self { object, _permit: None }
    }

    /// Gives the permit back with the session.
    pub(super) fn with_permit(self, permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(permit), ..self }
    }

    /// Counts a reset of the session, for who waits for one.
    pub(super) fn resetting(&self) -> Running {
        let pool = Object::pool(&self.object);
        Running::begin(pool.map(|pool| Arc::clone(&pool.manager().resets)))
    }

    /// Takes the session out of its pool and closes it.
    pub fn discard(self) {
        let session = Object::take(self.object);
        session.set_busy(true);
    }

    /// The same, and waits until the session's buffers are gone.
    pub(super) async fn close(self) {
        Object::take(self.object).close().await;
    }
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.object
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.object
    }
}

/// Gives a session back to its pool, and resets it before where it needs that; this does not wait
/// for it.
pub(in crate::postgres) fn give_back(lease: Lease) {
    if !lease.is_touched() || !lease.is_fit() {
        lease.set_busy(false);
        return;
    }
    // Until it is reset, dropping it closes it.
    lease.set_busy(true);
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let running = lease.resetting();
    runtime.spawn(async move {
        match to_first_state(&lease).await {
            true => {
                lease.set_busy(false);
                drop(lease);
            }
            false => lease.discard(),
        }
        drop(running);
    });
}
