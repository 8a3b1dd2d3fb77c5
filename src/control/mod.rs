//! Where the migration stands, and this member's part in it.
//!
//! A control row that names its own side as the primary is authoritative: every change from
//! there is made on that row first. Of two rows the higher epoch counts; of one that can be
//! read, it counts if it is authoritative.
//!
//! - [`change`]: the one place where the row is changed
//! - [`member`]: acknowledgement and lease, and what they let in
//! - [`leader`]: what one member does for all: settling, the schedule, the trigger
//! - [`figures`]: what the members measured, gathered and merged
//! - [`target_reads`]: reads put off while the target is no state of the primary
//! - [`steps`]: phases changed by an operator, behind gates

pub mod change;
#[cfg(test)]
mod fakes;
pub mod figures;
mod follow;
pub mod leader;
mod lease;
pub mod member;
mod phase;
pub mod steps;
mod target_passes;
pub mod target_reads;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::control::{ControlRow, ControlState};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::ports::ControlView;
use crate::ports::control::ControlStore;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::retries::Retries;

pub use follow::Follower;
pub use phase::{FIRST_EPOCH, PhaseChange, begin, set_phase};

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
    /// The present primary said so at this moment or later.
    seen: Arc<Mutex<Instant>>,
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
        let begun = Instant::now();
        let row = decide(first_readings(store.as_ref(), params.read_timeout).await)?;
        tracing::info!(phase = %row.state.phase, epoch = row.state.epoch, "control row read");
        let control = Self::knowing(row, begun, metrics);
        Ok((control.clone(), Follower::new(control, store, params)))
    }

    fn knowing(row: ControlRow, at: Instant, metrics: Metrics) -> Self {
        metrics.control(row.state, row.shifted());
        Self { row: watch::Sender::new(row), seen: Arc::new(Mutex::new(at)), metrics }
    }

    /// The whole row.
    pub fn row(&self) -> ControlRow {
        self.row.borrow().clone()
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<ControlRow> {
        self.row.subscribe()
    }

    /// The latest moment at which the present primary was asked and named itself.
    pub(crate) fn seen(&self) -> Instant {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a side's row said when it was asked at `asked`, unless more is known already.
    pub(crate) fn offer(&self, side: Side, row: &ControlRow, asked: Instant) {
        let own = row.state.phase.primary() == side;
        self.row.send_if_modified(|present| {
            let newer = row.version() > present.version();
            // The other side's copy has the same version, but times of its own.
            // What has settled stays so: a reading without that is only older.
            let same = row.version() == present.version()
                && own
                && *row != *present
                && (row.settled_at.is_some() || present.settled_at.is_none());
            if !newer && !same {
                return false;
            }
            self.tell(present, row);
            *present = row.clone();
            true
        });
        if own && row.state.phase.primary() == self.current().phase.primary() {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = asked.max(*seen);
        }
    }

    /// Attempts of background work.
    pub fn retries(&self) -> &Retries {
        self.metrics.retries()
    }

    fn tell(&self, present: &ControlRow, row: &ControlRow) {
        self.metrics.control(row.state, row.shifted());
        if row.state != present.state {
            tracing::info!(
                from = %present.state.phase,
                to = %row.state.phase,
                epoch = row.state.epoch,
                reason = row.reason,
                "the control row changed"
            );
        } else if row.target_percentage != present.target_percentage {
            tracing::info!(
                from = %present.target_percentage,
                to = %row.target_percentage,
                reason = row.reason,
                "the share of the target's reads changed"
            );
        }
    }
}

impl ControlView for Control {
    fn current(&self) -> ControlState {
        self.row.borrow().state
    }
}

/// A row that names its own side the primary counts, unless the other side's is of a higher epoch:
/// that one is given so long when the first is there.
const OTHER_WAIT: Duration = Duration::from_secs(1);

/// Both rows, read at the same time, so that a side that hangs does not hide the other. A side that
/// is away is not waited for where the other one is the primary.
async fn first_readings(store: &dyn ControlStore, limit: Duration) -> Readings {
    let mut source = Box::pin(timed(Side::Source, limit, store.read(Side::Source)));
    let mut target = Box::pin(timed(Side::Target, limit, store.read(Side::Target)));
    tokio::select! {
        first = &mut source => {
            let wait = wait_for_other(Side::Source, &first, limit);
            Sides { source: first, target: timed(Side::Target, wait, target).await }
        }
        first = &mut target => {
            let wait = wait_for_other(Side::Target, &first, limit);
            Sides { source: timed(Side::Source, wait, source).await, target: first }
        }
    }
}

fn wait_for_other(
    side: Side,
    first: &Result<Option<ControlRow>, SqlFault>,
    limit: Duration,
) -> Duration {
    let names_itself = matches!(first, Ok(Some(row)) if row.state.phase.primary() == side);
    if names_itself { OTHER_WAIT } else { limit }
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

async fn timed<T>(
    side: Side,
    limit: Duration,
    work: impl Future<Output = Result<T, SqlFault>>,
) -> Result<T, SqlFault> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("the control tables did not answer within {limit:?}");
        Err(SqlFault::new(FaultKind::DeadlineExceeded, Reason::ControlTimeout, message).on(side))
    })
}

fn decide(readings: Readings) -> Result<ControlRow, SqlFault> {
    match (readings.source, readings.target) {
        (Ok(Some(source)), Ok(Some(target))) => {
            Ok(if target.version() > source.version() { target } else { source })
        }
        (Ok(Some(row)), other) => alone(Side::Source, row, other),
        (other, Ok(Some(row))) => alone(Side::Target, row, other),
        (Err(fault), _) | (_, Err(fault)) => Err(fault),
        (Ok(None), Ok(None)) => Err(SqlFault::new(
            FaultKind::Precondition,
            Reason::ControlAbsent,
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
    let fault = SqlFault::new(FaultKind::Unavailable, Reason::ControlPrimaryUnreadable, message);
    Err(fault.on(primary).with_hint(format!("make the {primary} reachable, then start again")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::control::{Percentage, Phase};

    fn known(epoch: u64, phase: Phase) -> ControlRow {
        ControlRow {
            state: ControlState { epoch, phase },
            revision: epoch,
            target_percentage: Percentage::ZERO,
            held: false,
            reason: String::new(),
            changed_by: String::new(),
            changed_at: std::time::SystemTime::UNIX_EPOCH,
            phase_since: std::time::SystemTime::UNIX_EPOCH,
            settled_at: None,
            reads_off: None,
        }
    }

    fn row(epoch: u64, phase: Phase) -> Result<Option<ControlRow>, SqlFault> {
        Ok(Some(known(epoch, phase)))
    }

    #[tokio::test]
    async fn only_the_primary_says_that_it_is_the_primary() {
        let begin = Instant::now();
        let later = begin + Duration::from_secs(1);
        let control = Control::knowing(known(2, Phase::Shift), begin, Metrics::new());
        control.offer(Side::Target, &known(2, Phase::Shift), later);
        assert_eq!(control.seen(), begin, "a copy proves nothing");
        control.offer(Side::Source, &known(2, Phase::Shift), later);
        assert_eq!(control.seen(), later);
        // The flip, found on the source's row first.
        control.offer(Side::Source, &known(3, Phase::Reversed), later + Duration::from_secs(1));
        assert_eq!((control.current().epoch, control.seen()), (3, later));
        control.offer(Side::Source, &known(2, Phase::Shift), later + Duration::from_secs(2));
        assert_eq!((control.current().epoch, control.seen()), (3, later), "an old row is old");
        control.offer(Side::Target, &known(3, Phase::Reversed), later + Duration::from_secs(3));
        assert_eq!(control.seen(), later + Duration::from_secs(3));
    }

    #[tokio::test]
    async fn a_percentage_is_taken_within_its_epoch_and_an_older_one_is_not() {
        let control = Control::knowing(known(2, Phase::Shift), Instant::now(), Metrics::new());
        let shifted = ControlRow {
            revision: 3,
            target_percentage: Percentage::ALL,
            ..known(2, Phase::Shift)
        };
        control.offer(Side::Source, &shifted, Instant::now());
        assert_eq!(control.row().target_percentage, Percentage::ALL);
        control.offer(Side::Target, &known(2, Phase::Shift), Instant::now());
        assert_eq!(control.row().target_percentage, Percentage::ALL);
        assert_eq!(control.row().shifted(), Percentage::ZERO, "it has not settled");
    }

    fn away() -> Result<Option<ControlRow>, SqlFault> {
        Err(SqlFault::new(FaultKind::Unavailable, Reason::UnavailableConnect, "connection refused"))
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
