//! This sidecar's place in the fleet: follows the control row, keeps the lease, leads.

use std::sync::Arc;
use std::time::Duration;

use crate::app::databases::Databases;
use crate::app::operations::phase_hooks::Hooks;
use crate::app::{Background, params};
use crate::config::Config;
use crate::control::Control;
use crate::control::leader::{self, Leader};
use crate::control::member::Membership;
use crate::control::steps::{self, Steps};
use crate::control::target_reads::FleetReads;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::ports::admin::OutboxAdmin;
use crate::ports::control::ControlStore;
use crate::ports::target_reads::TargetReads;
use crate::postgres::control::ControlTable;
use crate::postgres::control::members::FleetTable;
use crate::postgres::control::mismatches::MismatchTable;
use crate::postgres::control::older_writers::FenceTable;
use crate::postgres::evidence::CopyEvidence;
use crate::postgres::foreign_writes::ForeignNotes;
use crate::telemetry::metrics::Metrics;

/// For one reading of a control row out of its turn.
const REFRESH_LIMIT: Duration = Duration::from_secs(1);
/// For the figures of backfill and of verify; the status waits a little longer for all of it.
const EVIDENCE_LIMIT: Duration = Duration::from_secs(2);

/// The member and what it knows.
pub(super) struct Fleet {
    pub(super) control: Control,
    pub(super) membership: Membership,
    pub(super) store: Arc<ControlTable>,
    pub(super) table: Arc<FleetTable>,
}

/// Reads where the migration stands, registers with its primary, and keeps both up.
pub(super) async fn join(
    config: &Config,
    databases: &Databases,
    background: &Background,
    metrics: &Metrics,
) -> Result<Fleet, SqlFault> {
    let store = Arc::new(ControlTable::new(databases.control()));
    let table = Arc::new(FleetTable::new(databases.control()));
    let following = params::control(config);
    let (control, follower) =
        Control::start(following, Arc::<ControlTable>::clone(&store), metrics.clone()).await?;
    let fleet = Arc::<FleetTable>::clone(&table);
    let membership = Membership::join(params::member(config), control.clone(), fleet).await?;
    background.tasks.spawn(follower.run(background.stop.clone()));
    background.tasks.spawn(membership.clone().run(background.stop.clone()));
    Ok(Fleet { control, membership, store, table })
}

/// Reads both control rows at once.
#[derive(Debug, Clone)]
pub(super) struct Refresher {
    control: Control,
    store: Arc<ControlTable>,
}

impl Refresher {
    /// Reads, and takes what is newer. A side that cannot be read is read another time.
    pub(super) async fn refresh(&self) {
        let read = |side| async move {
            let asked = tokio::time::Instant::now();
            let read = tokio::time::timeout(REFRESH_LIMIT, self.store.read(side)).await;
            if let Ok(Ok(Some(row))) = read {
                self.control.offer(side, &row, asked);
            }
        };
        tokio::join!(read(Side::Source), read(Side::Target));
    }
}

impl Fleet {
    pub(super) fn refresher(&self) -> Refresher {
        Refresher { control: self.control.clone(), store: Arc::clone(&self.store) }
    }

    /// Puts reads of the target off in this member's name.
    pub(super) fn target_reads(&self, config: &Config) -> Arc<dyn TargetReads> {
        let params = params::target_reads(config, self.membership.id());
        let (store, fleet) = (Arc::clone(&self.store), Arc::clone(&self.table));
        Arc::new(FleetReads::new(params, self.control.clone(), store, fleet))
    }

    /// Starts what the member does when it leads, and gives what operators change phases by.
    pub(super) fn lead(
        &self,
        config: &Config,
        databases: &Databases,
        background: &Background,
        outbox: &Arc<dyn OutboxAdmin>,
    ) -> Steps {
        let leader = Leader::new(
            params::leader(config),
            leader::Parts {
                control: self.control.clone(),
                membership: self.membership.clone(),
                store: Arc::<ControlTable>::clone(&self.store),
                fleet: Arc::<FleetTable>::clone(&self.table),
                older: Arc::new(FenceTable::new(databases.control())),
                outbox: Arc::clone(outbox),
                foreign: Arc::new(self.foreign(databases)),
            },
        );
        background.tasks.spawn(leader.run(background.stop.clone()));
        let view = Arc::new(self.control.clone());
        let evidence =
            CopyEvidence::new(databases.own(), view, EVIDENCE_LIMIT, config.proof_ages.clone());
        Steps::new(
            params::steps(config),
            steps::Parts {
                control: self.control.clone(),
                store: Arc::<ControlTable>::clone(&self.store),
                fleet: Arc::<FleetTable>::clone(&self.table),
                older: Arc::new(FenceTable::new(databases.control())),
                hooks: Arc::new(Hooks::new(config, databases)),
                progress: Arc::new(evidence),
                mismatches: Arc::new(MismatchTable::new(databases.own().source)),
                outbox: Arc::clone(outbox),
                foreign: Arc::new(self.foreign(databases)),
            },
        )
    }

    /// Writes on the side that follows that are not segue's.
    pub(super) fn foreign(&self, databases: &Databases) -> ForeignNotes {
        ForeignNotes::new(databases.own(), Arc::new(self.control.clone()))
    }
}
