//! Everything an operator asks for first, gathered from where it is known.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::control::Control;
use crate::domain::status::{OutboxStatus, StatusReport};
use crate::domain::verdict::Verdict;
use crate::jobs::shadow_reads::ShadowReader;
use crate::ports::admin::{OutboxAdmin, SamplingControl, StatusSource};
use crate::telemetry::metrics::Metrics;

/// Age of the oldest waiting key from which an operator should look.
const OLD_S: f64 = 60.0;
/// Share of the outbox's limit from which an operator should look.
const FULL: f64 = 0.5;

/// Asks all of it.
pub(super) struct StatusOfAll {
    control: Control,
    metrics: Metrics,
    outbox: Arc<dyn OutboxAdmin>,
    samples: ShadowReader,
}

// === impl StatusOfAll ===

impl StatusOfAll {
    pub(super) fn new(
        control: Control,
        metrics: Metrics,
        outbox: Arc<dyn OutboxAdmin>,
        samples: ShadowReader,
    ) -> Self {
        Self { control, metrics, outbox, samples }
    }

    async fn look(&self) -> StatusReport {
        let mut warnings = Vec::new();
        let outbox = self.outbox.status().await.unwrap_or_else(|fault| {
            warnings.push(format!("the outbox cannot be read: {fault}"));
            OutboxStatus::default()
        });
        let row = self.control.row();
        let seen = self.metrics.snapshot();
        warn_of_outbox(&outbox, &mut warnings);
        let data = seen.verdicts.get(&Verdict::Data).copied().unwrap_or_default();
        if data > 0 {
            warnings.push(format!(
                "{data} samples found different data on the two sides; see `segue mismatches`"
            ));
        }
        StatusReport {
            control: row.state,
            phase_since: Some(row.changed_at),
            phase_reason: row.reason,
            outbox,
            sampling: self.samples.status(),
            verdicts: seen.verdicts,
            reads: seen.reads,
            writes: seen.writes,
            at: SystemTime::now(),
            warnings,
        }
    }
}

impl StatusSource for StatusOfAll {
    fn status(&self) -> BoxFuture<'_, StatusReport> {
        self.look().boxed()
    }
}

fn warn_of_outbox(outbox: &OutboxStatus, warnings: &mut Vec<String>) {
    if outbox.stuck > 0 {
        warnings.push(format!(
            "{} outbox rows are stuck; see `segue outbox --stuck` for the reasons",
            outbox.stuck
        ));
    }
    #[allow(clippy::cast_precision_loss)]
    let share = outbox.bytes as f64 / outbox.bytes_max.max(1) as f64;
    if share >= FULL {
        let percent = share * 100.0;
        warnings.push(format!(
            "the outbox fills {percent:.0} % of outbox.max_bytes; at 100 % the copy is given up"
        ));
    }
    if outbox.oldest_age_s >= OLD_S {
        warnings.push(format!(
            "the oldest waiting key is {:.0} s old; is the shadow reachable?",
            outbox.oldest_age_s
        ));
    }
}
