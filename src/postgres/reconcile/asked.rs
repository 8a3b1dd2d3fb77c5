//! While reads are shifted, keys are not copied on their own: whoever wants one made equal asks
//! for it in the outbox, and the next snapshot that is applied has it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::fault::SqlFault;
use crate::postgres::outbox::{RowKey, ask_for, still_asked};
use crate::postgres::reconcile::sets::Large;
use crate::postgres::reconcile::{Reconciler, Report, Stopped};

/// Between two looks at whether they are done.
const LOOK: Duration = Duration::from_millis(20);

impl Reconciler {
    /// Makes the shadow equal for these keys. A key that cannot be done does not hold back the
    /// others. Where reads are shifted, it is asked for in the outbox and waited for; a key that
    /// is not done in time counts as failed, and its outbox row stays.
    pub async fn reconcile(&self, keys: BTreeSet<RowKey>) -> Report {
        let mut report = self.reconcile_here(keys.clone(), Large::InOrder).await;
        if report.stopped != Some(Stopped::Shifted) {
            return report;
        }
        report.stopped = None;
        let failed: BTreeSet<RowKey> = report.failed.iter().map(|(key, _)| key.clone()).collect();
        let left: BTreeSet<RowKey> = keys
            .into_iter()
            .filter(|key| !report.done.contains(key) && !failed.contains(key))
            .collect();
        match self.asked_for(&left).await {
            Ok(waiting) => {
                for key in left {
                    match waiting.contains(&key) {
                        true => {
                            let why = "its outbox row waits to be applied; see `segue outbox`";
                            report.failed.push((key, why.to_owned()));
                        }
                        false => {
                            report.changed += 1;
                            report.done.insert(key);
                        }
                    }
                }
            }
            Err(fault) => report.stopped = Some(Stopped::Away(Box::new(fault))),
        }
        report
    }

    /// Asks for keys; answers those that are not done in time.
    async fn asked_for(&self, keys: &BTreeSet<RowKey>) -> Result<BTreeSet<RowKey>, SqlFault> {
        let write = Uuid::new_v4();
        let client = self.primary.get().await?;
        ask_for(&client, keys, write).await?;
        let until = Instant::now() + self.params.turn_max;
        loop {
            let waiting = still_asked(&client, write).await?;
            if waiting.is_empty() || Instant::now() >= until {
                return Ok(waiting);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
