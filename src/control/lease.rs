//! A member's lease by its own clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;

/// What the member has.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// On which database, and until when by our clock.
    pub(super) held: Option<(Side, Instant)>,
    pub(super) leads: bool,
    pub(super) last_fault: Option<String>,
}

// === impl Lease ===

impl Lease {
    pub(super) fn holds(&self, primary: Side, now: Instant) -> bool {
        self.held.is_some_and(|(side, until)| side == primary && now < until)
    }

    pub(super) fn check(
        &self,
        primary: Side,
        (name, lease): (&str, Duration),
    ) -> Result<(), SqlFault> {
        if self.holds(primary, Instant::now()) {
            Ok(())
        } else {
            Err(self.ended(primary, (name, lease)))
        }
    }

    pub(super) fn ended(&self, primary: Side, (name, lease): (&str, Duration)) -> SqlFault {
        let why = self.last_fault.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!(
            "this sidecar ({name}) has no lease on the {primary}, which it could not renew within \
             {lease:?}{why}"
        );
        SqlFault::new(FaultKind::Unavailable, Reason::UnavailableLease, message)
            .with_hint("nothing was applied; try again, here or at another sidecar")
            .on(primary)
            .retryable()
    }
}
