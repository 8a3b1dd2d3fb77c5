//! The source, read-only for applications once the target is the primary, and writable for them
//! again after the way back. Whoever changes the primary does it, and the leader where they were
//! lost before it.

use std::time::Duration;

use futures_util::FutureExt;

use crate::app::{Background, databases::Databases, fleet::Fleet};
use crate::config::Config;
use crate::control::Control;
use crate::control::member::Membership;
use crate::domain::control::{ControlRow, Phase};
use crate::domain::fault::SqlFault;
use crate::jobs::janitor;
use crate::postgres::cutover::read_only::{self, Made};
use crate::postgres::pool::Pool;
use crate::telemetry::metrics::Metrics;

/// Between two looks of the leader.
const LOOK: Duration = Duration::from_secs(2);

/// The roles, and the database that they are made read-only in.
#[derive(Debug, Clone)]
pub(in crate::app) struct ReadOnly {
    roles: Vec<String>,
    source: Pool,
}

// === impl ReadOnly ===

impl ReadOnly {
    pub(in crate::app) fn new(config: &Config, databases: &Databases) -> Self {
        Self { roles: config.cutover.read_only_roles.clone(), source: databases.own().source }
    }

    /// Whether it could be done.
    pub(in crate::app) async fn check(&self) -> Result<(), SqlFault> {
        if self.roles.is_empty() {
            return Ok(());
        }
        read_only::check(&*self.source.get().await?, &self.roles).await
    }

    /// Does what the row asks for.
    pub(in crate::app) async fn follow(&self, row: &ControlRow) -> Result<Made, SqlFault> {
        let wanted = match row.state.phase {
            Phase::Reversed | Phase::TargetOnly => true,
            Phase::Shift => false,
            // Before it nothing has been made read-only.
            _ => return Ok(Made::default()),
        };
        if self.roles.is_empty() {
            return Ok(Made::default());
        }
        let source = self.source.get().await?;
        let made = read_only::apply(&source, &self.roles, wanted, row.changed_at).await?;
        if made != Made::default() {
            tracing::info!(
                roles = made.roles,
                ended = made.ended,
                read_only = wanted,
                "roles of applications on the source were changed"
            );
        }
        Ok(made)
    }

    /// Does it at intervals as well, where this member leads.
    pub(in crate::app) fn watch(&self, fleet: &Fleet, metrics: &Metrics, background: &Background) {
        if self.roles.is_empty() {
            return;
        }
        let (this, control) = (self.clone(), fleet.control.clone());
        let membership = fleet.membership.clone();
        let look = move || led(this.clone(), control.clone(), membership.clone()).boxed();
        let (retries, stop) = (metrics.retries().clone(), background.stop.clone());
        background.tasks.spawn(janitor::repeat("read_only", LOOK, look, retries, stop));
    }
}

async fn led(this: ReadOnly, control: Control, membership: Membership) -> Result<u64, SqlFault> {
    if !membership.leads() {
        return Ok(0);
    }
    let made = this.follow(&control.row()).await?;
    Ok(made.roles + made.ended)
}
