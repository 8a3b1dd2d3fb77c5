//! The control row of each database.

use std::time::SystemTime;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::domain::control::{ControlRow, ControlState, Percentage, ReadsOff, Version};
use crate::domain::fault::SqlFault;
use crate::domain::history::{Event, Recorded};
use crate::domain::page::{Page, PageRequest};
use crate::domain::side::Side;

/// Reads and changes `segue.control`, and the history of its changes.
pub trait ControlStore: Send + Sync + 'static {
    /// The side's row; nothing where it has none yet.
    fn read(&self, side: Side) -> BoxFuture<'_, Result<Option<ControlRow>, SqlFault>>;
    /// Listens for changes of the side's row as long as that can be done, and wakes who waits:
    /// when it begins, and at each change. A change may be missed all the same, so that the row
    /// must still be read now and then. Where a side cannot tell, it listens for ever.
    fn listen<'a>(&'a self, side: Side, changed: &'a Notify)
    -> BoxFuture<'a, Result<(), SqlFault>>;
    /// Makes the side's row this one if its version still is `from` (`None`: if it has no row),
    /// and records the event with it: both or neither. Answers whether it was. *If we crash
    /// before the answer*, the row tells what became of it.
    fn compare_and_set(
        &self,
        side: Side,
        from: Option<Version>,
        to: ControlChange,
    ) -> BoxFuture<'_, Result<bool, SqlFault>>;
    /// Notes that the fleet works by the epoch, once, if the row still has it; records the event
    /// with it. Answers whether it was noted now.
    fn note_settled(
        &self,
        side: Side,
        epoch: u64,
        event: Event,
    ) -> BoxFuture<'_, Result<bool, SqlFault>>;
    /// Records an event that changes nothing: as of the side's now, or as it was recorded on
    /// the other side. An event that is there already stays as it is.
    fn record(
        &self,
        side: Side,
        event: Event,
        at: Option<SystemTime>,
    ) -> BoxFuture<'_, Result<(), SqlFault>>;
    /// The side's history, latest first, at most `limit`.
    fn history(&self, side: Side, limit: u32) -> BoxFuture<'_, Result<Vec<Recorded>, SqlFault>>;
    /// A page of it.
    fn history_page(
        &self,
        side: Side,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<Page<Recorded>, SqlFault>>;
}

/// What a control row is changed to. The database adds the times.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlChange {
    /// Epoch and phase.
    pub state: ControlState,
    /// As in [`ControlRow`].
    pub revision: u64,
    /// As in [`ControlRow`].
    pub target_percentage: Percentage,
    /// As in [`ControlRow`].
    pub held: bool,
    /// As in [`ControlRow`].
    pub reads_off: Option<ReadsOff>,
    /// Why.
    pub reason: String,
    /// Who.
    pub changed_by: String,
    /// What the history says of it; nothing where a row that was left behind is brought up.
    pub event: Option<Event>,
}

impl ControlChange {
    /// What brings a row that was left behind up to this one.
    pub fn to(row: &ControlRow) -> Self {
        Self {
            state: row.state,
            revision: row.revision,
            target_percentage: row.target_percentage,
            held: row.held,
            reads_off: row.reads_off.clone(),
            reason: row.reason.clone(),
            changed_by: row.changed_by.clone(),
            event: None,
        }
    }
}
