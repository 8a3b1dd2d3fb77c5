//! Where the migration stands: the control rows of both databases, followed by polling.
//!
//! A row that names its own side as the primary is authoritative: every change from there is
//! made on that row first. Of two rows the higher epoch counts; of one that can be read, it
//! counts if it is authoritative.

mod phase;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::domain::control::{ControlRow, ControlState};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::{Side, Sides};
use crate::ports::ControlView;
use crate::ports::control::ControlStore;
use crate::telemetry::metrics::Metrics;

pub use phase::{PhaseChange, set_phase};

/// How the control rows are followed.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// How often they are read.
    pub poll_interval: Duration,
    /// How long one reading may take.
    pub read_timeout: Duration,
}

/// The control row that counts, as this member knows it. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Control {
    row: watch::Sender<ControlRow>,
}

/// Keeps a [`Control`] up to date.
pub struct Follower {
    control: Control,
    store: Arc<dyn ControlStore>,
    params: Params,
    metrics: Metrics,
}

type Readings = Sides<Result<Option<ControlRow>, SqlFault>>;

// === impl Control ===

impl Control {
    /// Reads where the migration stands. Without knowing that, nothing can be served.
    ///
    /// # Errors
    ///
    /// A fault with the way out where no row can be read that counts.
    pub async fn start(
        params: Params,
        store: Arc<dyn ControlStore>,
        metrics: Metrics,
    ) -> Result<(Self, Follower), SqlFault> {
        let row = decide(readings(store.as_ref(), params.read_timeout).await)?;
        tracing::info!(phase = %row.state.phase, epoch = row.state.epoch, "control row read");
        metrics.control(row.state);
        let control = Self { row: watch::Sender::new(row) };
        let follower = Follower { control: control.clone(), store, params, metrics };
        Ok((control, follower))
    }

    /// The whole row.
    pub fn row(&self) -> ControlRow {
        self.row.borrow().clone()
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<ControlRow> {
        self.row.subscribe()
    }
}

impl ControlView for Control {
    fn current(&self) -> ControlState {
        self.row.borrow().state
    }
}

// === impl Follower ===

impl Follower {
    /// Polls until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.params.poll_interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut readable = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            readable = self.look(readable).await;
        }
    }

    /// Reads once. A row that cannot be read later leaves the last state in force: without
    /// leases there is nobody who could have taken the primary away from this member.
    async fn look(&self, was_readable: bool) -> bool {
        match decide(readings(self.store.as_ref(), self.params.read_timeout).await) {
            Ok(row) => {
                self.take(row);
                true
            }
            Err(fault) => {
                self.metrics.fault("control_unreadable");
                if was_readable {
                    tracing::warn!(%fault, "the control row cannot be read; the last state stays");
                }
                false
            }
        }
    }

    fn take(&self, row: ControlRow) {
        let metrics = &self.metrics;
        self.control.row.send_if_modified(|present| {
            if row.state.epoch <= present.state.epoch {
                // An older reading, or the other side's copy that lags behind.
                return false;
            }
            tracing::info!(
                from = %present.state.phase,
                to = %row.state.phase,
                epoch = row.state.epoch,
                reason = row.reason,
                "the control row changed"
            );
            metrics.control(row.state);
            *present = row;
            true
        });
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("params", &self.params).finish_non_exhaustive()
    }
}

/// Both rows, read at the same time, so that a side that hangs does not hide the other.
async fn readings(store: &dyn ControlStore, limit: Duration) -> Readings {
    let read = |side| async move {
        tokio::time::timeout(limit, store.read(side)).await.unwrap_or_else(|_| {
            let message = format!("reading segue.control took longer than {limit:?}");
            Err(SqlFault::new(FaultKind::DeadlineExceeded, "control.timeout", message).on(side))
        })
    };
    let (source, target) = tokio::join!(read(Side::Source), read(Side::Target));
    Sides { source, target }
}

/// The row that counts, read once: for commands, which do not follow it.
///
/// # Errors
///
/// A fault where no row can be read, or none that counts.
pub async fn read_once(store: &dyn ControlStore) -> Result<ControlRow, SqlFault> {
    let source = store.read(Side::Source).await;
    let target = store.read(Side::Target).await;
    decide(Sides { source, target })
}

fn decide(readings: Readings) -> Result<ControlRow, SqlFault> {
    match (readings.source, readings.target) {
        (Ok(Some(source)), Ok(Some(target))) => {
            Ok(if target.state.epoch > source.state.epoch { target } else { source })
        }
        (Ok(Some(row)), other) => alone(Side::Source, row, other),
        (other, Ok(Some(row))) => alone(Side::Target, row, other),
        (Err(fault), _) | (_, Err(fault)) => Err(fault),
        (Ok(None), Ok(None)) => Err(SqlFault::new(
            FaultKind::Precondition,
            "control.absent",
            "segue.control has no row on either side",
        )
        .with_hint("run `segue init` first")),
    }
}

fn alone(
    side: Side,
    row: ControlRow,
    other: Result<Option<ControlRow>, SqlFault>,
) -> Result<ControlRow, SqlFault> {
    if row.state.phase.primary() == side {
        return Ok(row);
    }
    let why = match other {
        Err(fault) => fault.to_string(),
        Ok(_) => "it has no row".to_owned(),
    };
    let primary = side.other();
    let message = format!(
        "the {side}'s control row says {}, so the {primary}'s counts, and it cannot be read: {why}",
        row.state.phase
    );
    let fault = SqlFault::new(FaultKind::Unavailable, "control.primary_unreadable", message);
    Err(fault.on(primary).with_hint(format!("make the {primary} reachable, then start again")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::control::Phase;

    fn row(epoch: u64, phase: Phase) -> Result<Option<ControlRow>, SqlFault> {
        Ok(Some(ControlRow {
            state: ControlState { epoch, phase },
            target_percentage: 0.0,
            reason: String::new(),
            changed_by: String::new(),
            changed_at: std::time::SystemTime::UNIX_EPOCH,
        }))
    }

    fn away() -> Result<Option<ControlRow>, SqlFault> {
        Err(SqlFault::new(FaultKind::Unavailable, "away", "connection refused"))
    }

    #[test]
    fn the_row_that_counts() {
        use Phase::{DualWrite, Reversed, ShadowRead};
        for (source, target, expected) in [
            (row(2, ShadowRead), row(1, DualWrite), Some(2)),
            (row(2, ShadowRead), row(3, Reversed), Some(3)),
            (row(2, ShadowRead), away(), Some(2)),
            (row(2, ShadowRead), Ok(None), Some(2)),
            (away(), row(3, Reversed), Some(3)),
            // The source may have moved on; what the target has is a copy.
            (away(), row(2, ShadowRead), None),
            (row(3, Reversed), away(), None),
            (away(), away(), None),
            (Ok(None), Ok(None), None),
            (away(), Ok(None), None),
        ] {
            let case = format!("{source:?} {target:?}");
            let decided = decide(Sides { source, target });
            assert_eq!(decided.ok().map(|row| row.state.epoch), expected, "{case}");
        }
    }
}
