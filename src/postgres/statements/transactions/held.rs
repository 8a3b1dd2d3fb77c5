//! An open transaction, and the one call that has it at a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::postgres::pool::Lease;
use crate::postgres::pool::reset::{self, Running};
use crate::postgres::session::Session;
use crate::postgres::statements::stop::rollback;

/// A transaction that spans calls. Its session goes back to the pool with the last `Arc`,
/// and is closed there unless the transaction has ended.
#[derive(Debug)]
pub(super) struct Open {
    lease: Lease,
    pub(super) write_id: WriteId,
    pub(super) idle_max: Duration,
    pub(super) total_max: Duration,
    pub(super) ends_at: Instant,
    _permit: OwnedSemaphorePermit,
    in_use: AtomicBool,
    /// Nobody goes on with it: whoever has it now rolls it back afterwards.
    abandoned: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_used: Instant,
    /// Why the transaction can only be rolled back.
    failed: Option<String>,
    /// Its id, once it has written.
    xid: Option<String>,
}

// === impl Open ===

impl Open {
    pub(super) fn new(
        lease: Lease,
        write_id: WriteId,
        idle_max: Duration,
        total_max: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let now = Instant::now();
        let state = State { last_used: now, failed: None, xid: None };
        Self {
            lease,
            write_id,
            idle_max,
            total_max,
            ends_at: now + total_max,
            _permit: permit,
            in_use: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.lease
    }

    /// Nobody goes on with it. Said before it is taken hold of, so that a call which has it sees it
    /// when it is done.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    /// Whoever has it now rolls it back anyway.
    pub(super) fn taken_over(&self) {
        self.abandoned.store(false, Ordering::SeqCst);
    }

    /// Counts the reset of its session.
    pub(super) fn resetting(&self) -> Running {
        self.lease.resetting()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it is rolled back if no call comes: `None` while a call has it.
    pub(super) fn expires_idle_at(&self) -> Option<Instant> {
        let in_use = self.in_use.load(Ordering::Acquire);
        (!in_use).then(|| self.state().last_used + self.idle_max)
    }
}

/// The call's hold on a transaction, given back when dropped.
#[derive(Debug)]
pub(in crate::postgres) struct Held {
    open: Arc<Open>,
}

// === impl Held ===

impl Held {
    /// Takes hold, unless another call has it.
    pub(super) fn take(open: &Arc<Open>) -> Option<Self> {
        let was_in_use = open.in_use.swap(true, Ordering::SeqCst);
        (!was_in_use).then(|| Self { open: Arc::clone(open) })
    }

    pub(in crate::postgres) fn session(&self) -> &Session {
        &self.open.lease
    }

    /// The transaction can only be rolled back, to a savepoint or as a whole.
    pub(in crate::postgres) fn fail(&mut self, fault: &SqlFault) {
        self.open.state().failed = Some(fault.to_string());
    }

    /// A statement succeeded: in a failed transaction that can only have been
    /// `ROLLBACK TO SAVEPOINT`.
    pub(in crate::postgres) fn recover(&mut self) {
        self.open.state().failed = None;
    }

    pub(super) fn failed(&self) -> Option<String> {
        self.open.state().failed.clone()
    }

    pub(super) fn xid(&self) -> Option<String> {
        self.open.state().xid.clone()
    }

    pub(super) fn set_xid(&mut self, xid: Option<String>) {
        if xid.is_some() {
            self.open.state().xid = xid;
        }
    }

    pub(super) fn open(&self) -> &Open {
        &self.open
    }

    pub(super) fn is(&self, open: &Arc<Open>) -> bool {
        Arc::ptr_eq(&self.open, open)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.state().last_used = Instant::now();
        self.open.in_use.store(false, Ordering::SeqCst);
        // Without a runtime everything ends anyway.
        if self.open.abandoned.swap(false, Ordering::SeqCst)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            match Self::take(&self.open) {
                Some(held) => drop(runtime.spawn(roll_back(held))),
                // Whoever has it now is to see it.
                None => self.open.abandon(),
            }
        }
    }
}

/// Rolls back; a session in which that fails is closed, which rolls back as well.
// Modelled as `Action::Rollback` in tests/model.
pub(super) async fn roll_back(held: Held) {
    match rollback(held.session()).await {
        Ok(()) => leave(held),
        Err(_) => held.session().poison(),
    }
}

/// Nothing is open any more: the session goes back when it has been reset, which nobody waits for.
pub(super) fn leave(held: Held) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let running = held.open().resetting();
    runtime.spawn(async move {
        if reset::to_first_state(held.session()).await {
            held.session().set_busy(false);
        }
        drop(held);
        drop(running);
    });
}
