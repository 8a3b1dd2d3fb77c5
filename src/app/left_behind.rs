//! Ends what a process has left behind in the databases that is stopped or cut off: every member
//! looks, since the one that leads may be the process.

use std::time::Duration;

use crate::app::Background;
use crate::app::databases::Databases;
use crate::config::Config;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::postgres::own_transactions::{end_in_the_way, end_left_by_lost, end_silent};
use crate::telemetry::metrics::Metrics;

/// So often in a lease.
const LOOKS: u32 = 4;

/// Looks at both sides until the sidecar stops. Each has a task of its own: a side that is away
/// does not keep the other from being looked at.
pub(super) fn watch(
    config: &Config,
    databases: &Databases,
    metrics: &Metrics,
    background: &Background,
) {
    let lease = config.control.lease;
    for side in [Side::Source, Side::Target] {
        let (databases, metrics) = (databases.clone(), metrics.clone());
        let stop = background.stop.clone();
        background.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(lease / LOOKS) => {}
                }
                let looked = tokio::select! {
                    () = stop.cancelled() => return,
                    looked = tokio::time::timeout(lease / LOOKS, look(&databases, side, lease)) => looked,
                };
                if let Ok(looked) = &looked {
                    metrics.retries().note("silent_sessions", side.as_str(), looked);
                }
                match looked {
                    Ok(Ok(ended)) => (0..ended).for_each(|_| metrics.fault("silent_ended")),
                    Ok(Err(fault)) => tracing::debug!(%fault, "silent sessions cannot be looked for"),
                    Err(_) => tracing::debug!(%side, "silent sessions cannot be looked for in time"),
                }
            }
        });
    }
}

async fn look(databases: &Databases, side: Side, lease: Duration) -> Result<usize, SqlFault> {
    let session = databases.control().of(side).get().await?;
    let silent = end_silent(&session, lease).await?;
    let left = end_left_by_lost(&session, lease).await?;
    Ok(silent + left + end_in_the_way(&session, lease).await?)
}
