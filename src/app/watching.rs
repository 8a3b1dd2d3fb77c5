//! The member that leads looks every few seconds whether capture was off on either side.

use std::sync::Arc;
use std::time::Duration;

use crate::app::Background;
use crate::app::databases::Databases;
use crate::app::fleet::Fleet;
use crate::config::Config;
use crate::postgres::drift::{CaptureWatch, Look};
use crate::telemetry::metrics::Metrics;

/// Between two looks, unless capture is looked at more often anyway.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Starts it.
pub(super) fn start(
    config: &Config,
    databases: &Databases,
    fleet: &Fleet,
    metrics: &Metrics,
    background: &Background,
) {
    let watch = CaptureWatch::new(databases.own(), Arc::new(fleet.control.clone()));
    let (membership, metrics) = (fleet.membership.clone(), metrics.clone());
    let every = LOOK_EVERY.min(config.outbox.capture_check_interval);
    let stop = background.stop.clone();
    background.tasks.spawn(async move {
        let looks = async {
            loop {
                if membership.leads() {
                    match watch.look(Look::Routine).await {
                        Ok(noticed) => noticed.iter().for_each(|_| metrics.fault("capture_off")),
                        // A side that is away is told of elsewhere.
                        Err(fault) => tracing::debug!(%fault, "capture could not be looked at"),
                    }
                }
                tokio::time::sleep(every).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = looks => {}
        }
    });
}
