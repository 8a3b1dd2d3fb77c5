//! Whether the shadow has what a write did.

use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;

/// Looks writes up in the primary's outbox. `epoch` is the one that the asking call runs
/// under: in another, an empty outbox proves nothing, and the answer is no.
pub trait SettledWrites: Send + Sync + 'static {
    /// Whether nothing that the write touched waits for its reconcile.
    fn is_settled(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, bool>;
    /// Waits until it is so: drop it to stop waiting. False where it cannot be told.
    fn until_settled(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, bool>;
}

/// Asks the primary's outbox about many writes at once.
pub trait OutboxLookup: Send + Sync + 'static {
    /// Those of the writes that wait for their reconcile.
    fn waiting<'a>(&'a self, writes: &'a [WriteId]) -> BoxFuture<'a, Result<Waiting, SqlFault>>;
}

/// The answer, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The epoch of the primary's control row.
    pub epoch: u64,
    /// The writes that wait.
    pub writes: Vec<WriteId>,
}
