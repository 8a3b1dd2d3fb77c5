//! Whether an operation may still be cancelled, and whether it is to be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::operation::Cancellation;
use crate::domain::reason::Reason;

/// Shared by who runs an operation and who may cancel it.
#[derive(Debug, Clone, Default)]
pub(super) struct Halt {
    state: Arc<Mutex<State>>,
    token: CancellationToken,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    Asked(Cancellation),
    /// Nothing can be undone any more.
    Closed,
}

// === impl Halt ===

impl Halt {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to cancel. Answers false where it is too late; the first who asks is kept.
    pub(super) fn ask(&self, cancellation: Cancellation) -> bool {
        let mut state = self.state();
        match *state {
            State::Closed => false,
            State::Asked(_) => true,
            State::Open => {
                *state = State::Asked(cancellation);
                self.token.cancel();
                true
            }
        }
    }

    /// From now on it is too late. Answers false where it is to be cancelled.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state();
        if matches!(*state, State::Asked(_)) {
            return false;
        }
        *state = State::Closed;
        true
    }

    /// Who asked to cancel it.
    pub(super) fn asked(&self) -> Option<Cancellation> {
        match &*self.state() {
            State::Asked(cancellation) => Some(cancellation.clone()),
            State::Open | State::Closed => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open)
    }

    /// Cancelled where the operation is to be, and where its sidecar stops.
    pub(super) fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Goes on only where it is not to be cancelled.
    ///
    /// # Errors
    ///
    /// `Cancelled`, with who asked.
    pub(super) fn unless_asked(&self) -> Result<(), SqlFault> {
        match self.asked() {
            None => Ok(()),
            Some(Cancellation { actor, reason, .. }) => {
                let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                let message = format!("cancelled by {actor}{why}");
                Err(SqlFault::new(FaultKind::Cancelled, Reason::OperationCancelled, message))
            }
        }
    }
}
