//! The control row of each database.

use futures_util::future::BoxFuture;

use crate::domain::control::{ControlRow, ControlState};
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;

/// Reads and changes `segue.control`.
pub trait ControlStore: Send + Sync + 'static {
    /// The side's row; nothing where it has none yet.
    fn read(&self, side: Side) -> BoxFuture<'_, Result<Option<ControlRow>, SqlFault>>;
    /// Makes the side's row this one if its epoch still is `from` (`None`: if it has no row).
    /// Answers whether it was. *If we crash before the answer*, the row tells what became of it.
    fn compare_and_set(
        &self,
        side: Side,
        from: Option<u64>,
        to: ControlChange,
    ) -> BoxFuture<'_, Result<bool, SqlFault>>;
}

/// What a control row is changed to. The database adds the time.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlChange {
    /// Epoch and phase.
    pub state: ControlState,
    /// As in [`ControlRow`].
    pub target_percentage: f64,
    /// Why.
    pub reason: String,
    /// Who.
    pub changed_by: String,
}
