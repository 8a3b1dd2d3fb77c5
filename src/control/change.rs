//! The one place where `segue.control` is changed.
//!
//! Every change is a compare-and-set of the row that counts, with its event in the same
//! statement. The other database's row follows: a member that reads both goes by the higher
//! epoch, so nothing waits for that.

use uuid::Uuid;

use crate::domain::control::{ControlRow, ControlState, Percentage, Phase, ReadsOff, Version};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::history::{Event, EventKind, Figures, Standing};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::ports::control::{ControlChange, ControlStore};

/// Events that are carried over to a side that was left behind.
const EVENTS_MAX: u32 = 1_000;

/// What to change the row to, and what the history is to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The phase; the epoch rises where it is another.
    pub phase: Phase,
    /// The share of the target's reads.
    pub percentage: Percentage,
    /// Whether the schedule waits for an operator.
    pub held: bool,
    /// A gate was overridden.
    pub forced: bool,
    /// Who.
    pub changed_by: String,
    /// Why.
    pub reason: String,
    /// The figures that it was decided by.
    pub figures: Figures,
}

// === impl Change ===

impl Change {
    /// Another phase, with no read on the target.
    pub fn phase(phase: Phase, changed_by: &str, reason: &str) -> Self {
        Self {
            phase,
            percentage: Percentage::ZERO,
            held: false,
            forced: false,
            changed_by: changed_by.to_owned(),
            reason: reason.to_owned(),
            figures: Figures::default(),
        }
    }

    /// The row that this makes of the present one, and the event.
    pub(crate) fn row_after(self, present: &ControlRow) -> ControlChange {
        let moved = self.phase != present.state.phase;
        let epoch = present.state.epoch + u64::from(moved);
        let event = Event {
            id: Uuid::new_v4().as_u128(),
            kind: if moved { EventKind::Phase } else { EventKind::Percentage },
            from: standing(present),
            to: Standing { phase: self.phase, percentage: self.percentage },
            epoch,
            forced: self.forced,
            changed_by: self.changed_by.clone(),
            reason: self.reason.clone(),
            figures: self.figures,
        };
        let reads_off = match moved {
            true => (self.phase == Phase::Shift).then(ReadsOff::at_the_beginning),
            false => present.reads_off.clone(),
        };
        ControlChange {
            reads_off,
            state: ControlState { epoch, phase: self.phase },
            revision: present.revision + 1,
            target_percentage: self.percentage,
            held: self.held,
            reason: self.reason,
            changed_by: self.changed_by,
            event: Some(event),
        }
    }
}

/// Changes the row that counts, if it still is `present`. Answers the version that stands.
///
/// *If we crash after it*, the change is made and recorded, and the leader brings the other
/// side's row up.
///
/// # Errors
///
/// A fault where the row cannot be written, or somebody else was faster.
pub async fn change(
    store: &dyn ControlStore,
    present: &ControlRow,
    change: Change,
) -> Result<Version, SqlFault> {
    let side = present.state.phase.primary();
    if change.phase.primary() != side {
        let message = format!(
            "from {} to {} another database becomes the primary, which takes a cutover",
            present.state.phase, change.phase
        );
        return Err(SqlFault::new(FaultKind::Refused, Reason::RefusedOwnCommand, message)
            .with_hint("run `segue cutover` or `segue rollback`"));
    }
    let to = change.row_after(present);
    let version = Version { epoch: to.state.epoch, revision: to.revision };
    if store.compare_and_set(side, Some(present.version()), to).await? {
        return Ok(version);
    }
    Err(somebody_was_faster(side))
}

/// The row with reads put off, or put back on, by whoever applies to the target; the share itself
/// and the schedule stay as they are.
pub(super) fn with_reads(
    present: &ControlRow,
    reads_off: Option<ReadsOff>,
    reason: &str,
    by: &str,
) -> ControlChange {
    let share = |off: bool| if off { Percentage::ZERO } else { present.target_percentage };
    let at = |percentage| Standing { phase: present.state.phase, percentage };
    let event = Event {
        id: Uuid::new_v4().as_u128(),
        kind: EventKind::Percentage,
        from: at(share(present.reads_off.is_some())),
        to: at(share(reads_off.is_some())),
        epoch: present.state.epoch,
        forced: false,
        changed_by: by.to_owned(),
        reason: reason.to_owned(),
        figures: Figures::default(),
    };
    let revision = present.revision + 1;
    ControlChange { reads_off, revision, event: Some(event), ..ControlChange::to(present) }
}

/// Brings a side's row up to one that counts, and its history with it. A row that is as new
/// stays as it is. Answers whether there was something to do.
///
/// # Errors
///
/// Whatever a database says.
pub async fn bring_up(
    store: &dyn ControlStore,
    side: Side,
    row: &ControlRow,
) -> Result<bool, SqlFault> {
    let found = store.read(side).await?.map(|row| row.version());
    if found.is_some_and(|found| found >= row.version()) {
        return Ok(false);
    }
    // The events first: a row that is up to date says that they are there.
    for recorded in store.history(side.other(), EVENTS_MAX).await? {
        store.record(side, recorded.event, Some(recorded.at)).await?;
    }
    store.compare_and_set(side, found, ControlChange::to(row)).await
}

pub(super) fn standing(row: &ControlRow) -> Standing {
    Standing { phase: row.state.phase, percentage: row.target_percentage }
}

pub(super) fn somebody_was_faster(side: Side) -> SqlFault {
    let message = "someone else changed the control row at the same time";
    SqlFault::new(FaultKind::Precondition, Reason::ControlChanged, message)
        .on(side)
        .with_hint("look at `segue status`, then try again")
}
