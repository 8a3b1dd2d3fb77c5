//! No member answers a read from the old primary once a write is let in on the new one.
//!
//! A member that has not heard of the flip goes on reading from the old primary, as long as it has
//! a lease there or has read its row within one. So the new primary's row, which lets writes through
//! there, is brought up only when every member whose lease lasts has acknowledged the flip, or a
//! lease has passed since.
//!
//! *If we crash here*, whoever brings the row up waits anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::domain::control::ControlRow;
use crate::domain::fleet::{Fleet, MemberId};
use crate::domain::side::Side;
use crate::ports::fleet::FleetStore;
use crate::postgres::fleet::FleetTable;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// For one look at the members on a side.
const LOOK_LIMIT: Duration = Duration::from_secs(1);

/// Who may still read from a side that is no longer the primary.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    fleet: Arc<FleetTable>,
    lease: Duration,
}

impl Readers {
    pub(super) fn new(fleet: Arc<FleetTable>, lease: Duration) -> Self {
        Self { fleet, lease }
    }

    /// Waits until no member can be reading from the other side as from the primary. Members that
    /// have gone on say so on the new one at once. Where the old one cannot be asked who they are,
    /// a lease is waited for.
    // Modelled as `Action::BringUp` in tests/model_cutover, where nobody reads.
    pub(super) async fn have_moved(&self, row: &ControlRow) {
        let (begun, primary) = (Instant::now(), row.state.phase.primary());
        let mut known: Option<BTreeSet<MemberId>> = None;
        loop {
            let (there, fleet) = tokio::join!(self.members(primary), self.members(primary.other()));
            known = known.or_else(|| Some(fleet?.alive().map(|member| member.id).collect()));
            let moved = there.map(|there| {
                let moved = |it: &&MemberId| {
                    there.members.iter().any(|at| at.id == **it && at.epoch >= row.state.epoch)
                };
                known.as_ref().is_some_and(|known| known.iter().all(|it| moved(&it)))
            });
            if moved == Some(true) {
                return;
            }
            // What was read of the old primary's row was read before the flip.
            if begun.elapsed() >= self.lease {
                let lease_ms = self.lease.as_millis();
                tracing::warn!(
                    lease_ms,
                    "members that may have read the old primary were waited for"
                );
                return;
            }
            sleep(LOOK).await;
        }
    }

    async fn members(&self, side: Side) -> Option<Fleet> {
        timeout(LOOK_LIMIT, self.fleet.fleet(side)).await.ok()?.ok()
    }
}
