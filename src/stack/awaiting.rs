//! In the phases that shift reads, a write's answer waits until the shadow has what it did.
//!
//! Not for long: then the answer goes out with a token that names the write, and a read that
//! brings the token is answered by the primary until the write has settled. *If we crash
//! here*, the caller has no answer, and the write's rows wait in the outbox as ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::consistency::Token;
use crate::domain::control::ControlState;
use crate::domain::fault::{Outcome, SqlFault};
use crate::domain::key::WriteId;
use crate::ports::settled::{SettledWrites, Standing};
use crate::stack::breaker::{self, Breaker, Permit};
use crate::stack::consistency::GLANCE;
use crate::telemetry::metrics::Metrics;

/// The longest wait, and when to stop waiting for a sick shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// How long one answer waits.
    pub wait: Duration,
    /// When waits are left out.
    pub breaker: breaker::Params,
}

/// Waits for the shadow. Cloning shares what is known of it.
#[derive(Clone)]
pub struct Awaiting {
    settled: Arc<dyn SettledWrites>,
    wait: Duration,
    breaker: Arc<Breaker>,
    metrics: Metrics,
}

// === impl Awaiting ===

impl Awaiting {
    /// Waits by these.
    pub fn new(settled: Arc<dyn SettledWrites>, params: Params, metrics: Metrics) -> Self {
        let breaker = Arc::new(Breaker::new(params.breaker));
        Self { settled, wait: params.wait, breaker, metrics }
    }

    /// The token that the answer to a committed write needs, after the wait.
    ///
    /// A write that touched no row of the outbox gets none: the caller would take it for newer
    /// than the one that he has, and it would be taken for settled at once. So where nobody
    /// waits for the shadow the outbox is still asked, and where it cannot be told, a write that
    /// by its answer `met_no_row` has no token. Where its triggers wrote, the outbox knows.
    pub(super) async fn token(
        &self,
        control: ControlState,
        write: WriteId,
        met_no_row: bool,
        deadline: Option<Instant>,
    ) -> Option<WriteId> {
        if !control.phase.shifts() {
            return None;
        }
        // Half of what is left: the answer has to get to the caller as well.
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()) / 2);
        let wait = left.map_or(self.wait, |left| left.min(self.wait));
        let until = tokio::time::Instant::now() + wait;
        if met_no_row && self.look(write, control, wait).await != Standing::Waiting {
            return None;
        }
        if self.breaker.permit() != Permit::Go {
            if self.look(write, control, wait.min(GLANCE)).await == Standing::Settled {
                return None;
            }
            self.metrics.shift_unsettled("breaker");
            return Some(write);
        }
        let settled = self.settled.until_settled(write, control.epoch);
        if tokio::time::timeout_at(until, settled).await == Ok(true) {
            self.breaker.succeeded();
            return None;
        }
        // A hurried caller says nothing of the shadow.
        if wait == self.wait {
            self.breaker.failed();
        }
        self.metrics.shift_unsettled("wait");
        Some(write)
    }

    async fn look(&self, write: WriteId, control: ControlState, limit: Duration) -> Standing {
        let looked = self.settled.standing(write, control.epoch);
        tokio::time::timeout(limit, looked).await.unwrap_or(Standing::Unknown)
    }

    /// A write that nobody can say the outcome of: who looks for it afterwards must look on the
    /// primary, and gets the token for that with the fault.
    pub(super) fn in_doubt(
        &self,
        control: ControlState,
        write: WriteId,
        fault: SqlFault,
    ) -> SqlFault {
        let needed = control.phase.shifts() && fault.outcome != Outcome::NotApplied;
        SqlFault { must_see: needed.then(|| Box::new(Token::of(write))), ..fault }
    }
}

impl std::fmt::Debug for Awaiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Awaiting").field("wait", &self.wait).finish_non_exhaustive()
    }
}
