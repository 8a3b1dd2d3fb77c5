//! How a pool opens, checks and lays by its sessions.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};

use crate::domain::fault::SqlFault;
use crate::postgres::fence::{self, Fence, Readers, Writers};
use crate::postgres::pool::reset::{self, Resets};
use crate::postgres::session::Session;
use crate::postgres::session::connect::Connector;
use crate::postgres::session::guard::is_in_transaction;
use crate::postgres::session::settings::{Purpose, SessionLimits};

/// A session that has rested longer is asked whether it still lives.
pub(super) const REST_MAX: Duration = Duration::from_secs(30);

/// For that question.
pub(super) const RECYCLE_LIMIT: Duration = Duration::from_secs(5);

/// Opens and checks the sessions of a pool.
pub(super) struct Sessions {
    pub(super) connector: Connector,
    pub(super) purpose: Purpose,
    pub(super) limits: SessionLimits,
    pub(super) fence: Option<Fence>,
    /// Where callers' reads are answered.
    pub(super) readers: Option<Readers>,
    /// Where callers write.
    pub(super) writers: Option<Writers>,
    /// Open sessions without a lock, fewer than the pool has room for.
    pub(super) spare: Mutex<Spare>,
    pub(super) resets: Arc<Resets>,
}

// They come boxed, and go boxed.
#[allow(clippy::vec_box)]
pub(super) type Spare = Vec<Box<Session>>;

impl Sessions {
    pub(super) async fn connect(&self) -> Result<Box<Session>, SqlFault> {
        Box::pin(self.connector.connect_with(self.purpose, self.limits)).await.map(Box::new)
    }

    /// What callers run may leave something behind; who knows that it does not says so.
    fn lend(&self, session: &Session) {
        session.set_touched(self.purpose != Purpose::Own);
    }

    /// Has it show whose it is, where callers write in it and it does not yet.
    async fn name(&self, session: &Session) -> Result<(), SqlFault> {
        match &self.writers {
            Some(writers) if !writers.has(session) => writers.name(session).await,
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session without a lock for later; one that cannot give its lock up is closed.
    pub(super) async fn lay_by(&self, session: Box<Session>) {
        if !session.is_clean() {
            return;
        }
        session.set_busy(true);
        let left = tokio::time::timeout(RECYCLE_LIMIT, fence::leave(&session)).await;
        if matches!(left, Ok(Ok(()))) {
            session.set_busy(false);
            self.spare().push(session);
        }
    }

    /// One that was laid by, or a new one.
    async fn spare_or_new(&self) -> Result<Box<Session>, SqlFault> {
        loop {
            let Some(session) = self.spare().pop() else { return self.connect().await };
            if session.is_clean() {
                return Ok(session);
            }
        }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

impl Manager for Sessions {
    // Sessions are large, and move with every loan.
    type Type = Box<Session>;
    type Error = SqlFault;

    async fn create(&self) -> Result<Box<Session>, SqlFault> {
        let Some(fence) = &self.fence else {
            let session = self.connect().await?;
            session.set_busy(true);
            if let Some(readers) = &self.readers {
                readers.enter(&session).await?;
            }
            self.name(&session).await?;
            session.set_busy(false);
            self.lend(&session);
            return Ok(session);
        };
        fence.check_side()?;
        let session = self.spare_or_new().await?;
        session.set_busy(true);
        self.name(&session).await?;
        fence.enter(&session).await?;
        self.lend(&session);
        session.set_busy(false);
        Ok(session)
    }

    async fn recycle(
        &self,
        session: &mut Box<Session>,
        metrics: &Metrics,
    ) -> RecycleResult<SqlFault> {
        if !session.is_clean() {
            return Err(RecycleError::message("the session is closed, in use or changed"));
        }
        // Until it is known to be at rest, dropping it must not wait for what it runs.
        session.set_busy(true);
        // Whoever gives one back has it reset; one that was dropped otherwise is reset here.
        if session.is_touched() && !Box::pin(reset::to_first_state(session)).await {
            return Err(RecycleError::message("the session could not be reset"));
        }
        if self.purpose == Purpose::Own {
            // Its users speak to the driver themselves, so only the server knows whether
            // they left a transaction open.
            if is_in_transaction(session).await {
                return Err(RecycleError::message("the session was left in a transaction"));
            }
        } else if metrics.last_used() > REST_MAX {
            let alive = session.driver().check_connection().await;
            alive.map_err(|error| session.fault(error, false))?;
        }
        self.name(session).await?;
        if let Some(fence) = &self.fence
            && !fence.is_current(session)
        {
            fence.check_side()?;
            fence.enter(session).await?;
        }
        if let Some(readers) = &self.readers
            && !readers.has(session)
        {
            readers.enter(session).await?;
        }
        self.lend(session);
        session.set_busy(false);
        Ok(())
    }
}
