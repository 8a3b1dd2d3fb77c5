//! Reads on the target, put off by whoever applies to it, and let on again.
//!
//! Every change is a compare-and-set of the row that the applier saw in its snapshot, so that
//! whoever has read an older one changes nothing. *If we crash with reads put off*, another member
//! takes them over in its own name when our lease has ended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::control::change::with_reads;
use crate::control::{Control, timed};
use crate::domain::control::{ControlRow, ReadsOff, Version};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::reason::Reason;
use crate::ports::control::{ControlChange, ControlStore};
use crate::ports::fleet::FleetStore;
use crate::ports::target_reads::TargetReads;

/// Between two looks at whether the fleet has taken it.
const LOOK: Duration = Duration::from_millis(10);
/// Who changes what nobody asked for.
const WHO: &str = "segue";

/// How reads are put off.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// In whose name.
    pub member: MemberId,
    /// How long a database may take to answer.
    pub timeout: Duration,
    /// How long members are waited for: a lease, and some time for the last renewal.
    pub patience: Duration,
}

/// Puts reads off by the control row.
pub struct FleetReads {
    params: Params,
    control: Control,
    store: Arc<dyn ControlStore>,
    fleet: Arc<dyn FleetStore>,
}

// === impl FleetReads ===

impl FleetReads {
    /// Changes these rows, and asks these members.
    pub fn new(
        params: Params,
        control: Control,
        store: Arc<dyn ControlStore>,
        fleet: Arc<dyn FleetStore>,
    ) -> Self {
        Self { params, control, store, fleet }
    }

    async fn off(&self, row: &ControlRow, reason: &str) -> Result<Option<Version>, SqlFault> {
        let (side, limit) = (row.state.phase.primary(), self.params.timeout);
        let other = row.reads_off.as_ref().and_then(|off| off.by);
        if let Some(other) = other.filter(|other| *other != self.params.member) {
            let fleet = timed(side, limit, self.fleet.fleet(side)).await?;
            if fleet.alive().any(|member| member.id == other) {
                return Ok(None);
            }
        }
        let off = ReadsOff { reason: reason.to_owned(), by: Some(self.params.member) };
        let to = with_reads(row, Some(off), reason, WHO);
        let Some(version) = self.change(row, to).await? else { return Ok(None) };
        tracing::warn!(reason, "no read goes to the target until it is a state of the primary");
        self.control.metrics.shift_changed("reads_off");
        let until = Instant::now() + self.params.patience;
        loop {
            let fleet = timed(side, limit, self.fleet.fleet(side)).await?;
            let taken = fleet.has_taken(version.revision);
            if taken.is_yes() {
                return Ok(Some(version));
            }
            if Instant::now() >= until {
                let message = format!(
                    "reads of the target are not off yet: {}",
                    taken.waits_for().join("; ")
                );
                return Err(SqlFault::new(FaultKind::Unavailable, Reason::ShiftReadsOff, message)
                    .on(side)
                    .retryable());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn on(&self, row: &ControlRow) -> Result<bool, SqlFault> {
        let reason = "the target is a state of the primary again";
        let changed = self.change(row, with_reads(row, None, reason, WHO)).await?;
        if changed.is_some() {
            tracing::info!("the target is a state of the primary, and reads may go to it");
            self.control.metrics.shift_changed("reads_on");
        }
        Ok(changed.is_some())
    }

    async fn change(
        &self,
        row: &ControlRow,
        to: ControlChange,
    ) -> Result<Option<Version>, SqlFault> {
        let (side, limit) = (row.state.phase.primary(), self.params.timeout);
        let version = Version { epoch: to.state.epoch, revision: to.revision };
        let set = self.store.compare_and_set(side, Some(row.version()), to);
        if !timed(side, limit, set).await? {
            return Ok(None);
        }
        // This member hears of it at once.
        let asked = Instant::now();
        if let Some(row) = timed(side, limit, self.store.read(side)).await? {
            self.control.offer(side, &row, asked);
        }
        Ok(Some(version))
    }
}

impl TargetReads for FleetReads {
    fn put_off<'a>(
        &'a self,
        row: &'a ControlRow,
        reason: &'a str,
    ) -> BoxFuture<'a, Result<Option<Version>, SqlFault>> {
        self.off(row, reason).boxed()
    }

    fn let_on<'a>(&'a self, row: &'a ControlRow) -> BoxFuture<'a, Result<bool, SqlFault>> {
        self.on(row).boxed()
    }
}

impl std::fmt::Debug for FleetReads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetReads").field("params", &self.params).finish_non_exhaustive()
    }
}
