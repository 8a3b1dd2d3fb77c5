//! What the operators' calls ask of the world.

use futures_util::future::BoxFuture;

use crate::domain::backfill::BackfillProgress;
use crate::domain::fault::SqlFault;
use crate::domain::status::{
    OutboxEntry, OutboxStatus, SamplingStatus, StatusReport, VerifyStatus,
};
use crate::domain::table::TableName;

/// Everything an operator asks for first, in one look.
pub trait StatusSource: Send + Sync + 'static {
    /// The status now. What cannot be found out stands in its warnings.
    fn status(&self) -> BoxFuture<'_, StatusReport>;
}

/// The outbox, seen by an operator.
pub trait OutboxAdmin: Send + Sync + 'static {
    /// Its figures.
    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, SqlFault>>;
    /// Waiting rows, oldest first, at most `limit`.
    fn list(
        &self,
        limit: u32,
        stuck_only: bool,
    ) -> BoxFuture<'_, Result<Vec<OutboxEntry>, SqlFault>>;
    /// Makes waiting rows due now: of one table of the primary, or of all. Answers how many.
    fn replay(&self, table: Option<TableName>) -> BoxFuture<'_, Result<u64, SqlFault>>;
}

/// The copy of the history, seen by an operator.
pub trait BackfillAdmin: Send + Sync + 'static {
    /// How far it is; empty where none was begun.
    fn progress(&self) -> BoxFuture<'_, Result<BackfillProgress, SqlFault>>;
}

/// What verify has proven, seen by an operator.
pub trait ProofStatus: Send + Sync + 'static {
    /// How much, and how long ago.
    fn status(&self) -> BoxFuture<'_, Result<VerifyStatus, SqlFault>>;
}

/// The sampling of reads, which can be changed while segue runs.
pub trait SamplingControl: Send + Sync + 'static {
    /// Rate and counts.
    fn status(&self) -> SamplingStatus;
    /// Sets the rate, 0 to 1, and answers what it was.
    fn set_rate(&self, rate: f64) -> f64;
}
