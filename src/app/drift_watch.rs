//! The member that leads looks every few seconds whether capture was off on either side, and every
//! second whether somebody else writes on the side that follows.

use std::sync::Arc;
use std::time::Duration;

use crate::app::Background;
use crate::app::databases::Databases;
use crate::app::fleet::Fleet;
use crate::config::Config;
use crate::control::member::Membership;
use crate::domain::side::Side;
use crate::ports::ControlView;
use crate::postgres::drift::{CaptureWatch, Look};
use crate::telemetry::metrics::Metrics;

/// Between two looks, unless capture is looked at more often anyway.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Between two looks at notes of writes that are not segue's: the rows that they name differ until
/// then.
const NOTES_EVERY: Duration = Duration::from_secs(1);
/// Looks after which the list is read for the scrape, whoever leads.
const LIST_EVERY: u32 = 5;

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
    fold_notes(databases, fleet, (&membership, &metrics), background);
    background.tasks.spawn(async move {
        let looks = async {
            loop {
                if membership.leads() {
                    let looked = watch.look(Look::Routine).await;
                    metrics.retries().note("capture_watch", "", &looked);
                    match looked {
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

/// Hands notes of writes that are not segue's over to the outbox, and keeps the list of who made
/// them for the scrape.
fn fold_notes(
    databases: &Databases,
    fleet: &Fleet,
    (membership, metrics): (&Membership, &Metrics),
    background: &Background,
) {
    let notes = fleet.foreign(databases);
    let (membership, metrics, control) =
        (membership.clone(), metrics.clone(), fleet.control.clone());
    let stop = background.stop.clone();
    background.tasks.spawn(async move {
        let folds = async {
            for tick in 0_u32.. {
                tokio::time::sleep(NOTES_EVERY).await;
                let mut folded = 0;
                if membership.leads() {
                    let taken = notes.fold().await;
                    metrics.retries().note("foreign_notes", "", &taken);
                    match taken {
                        Ok(notes) => folded = notes,
                        // A side that is away is told of elsewhere.
                        Err(fault) => tracing::debug!(%fault, "notes could not be taken"),
                    }
                }
                if folded > 0 {
                    metrics.fault("foreign_writes");
                }
                let is_due = folded > 0 || tick % LIST_EVERY == 0;
                if is_due
                    && control.current().phase.primary() == Side::Source
                    && let Ok(found) = notes.look(false).await
                {
                    metrics.foreign(&found);
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = folds => {}
        }
    });
}
