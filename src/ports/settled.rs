//! Whether the shadow has what a write did.

use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;
use crate::domain::key::{OutboxMark, WriteId};

/// What the outbox says of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that it touched waits for its reconcile. It may also have touched nothing.
    Settled,
    /// Something that it touched waits.
    Waiting,
    /// It cannot be told.
    Unknown,
}

/// Looks writes up in the primary's outbox. `epoch` is the one that the asking call runs
/// under: in another, an empty outbox proves nothing.
pub trait SettledWrites: Send + Sync + 'static {
    /// Looks at once.
    fn standing(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, Standing>;
    /// Waits until it is so: drop it to stop waiting. False where it cannot be told.
    fn until_settled(&self, write: WriteId, epoch: u64) -> BoxFuture<'_, bool>;
    /// A moment after all that was committed so far; nothing where it cannot be told.
    fn present(&self, epoch: u64) -> BoxFuture<'_, Option<OutboxMark>> {
        let _ = epoch;
        Box::pin(async { None })
    }
    /// Looks at once for all writes that were committed before a moment.
    fn standing_before(&self, mark: OutboxMark, epoch: u64) -> BoxFuture<'_, Standing> {
        let _ = (mark, epoch);
        Box::pin(async { Standing::Unknown })
    }
}

/// Asks the primary's outbox about many writes at once.
pub trait OutboxLookup: Send + Sync + 'static {
    /// Those of the writes that wait for their reconcile.
    fn waiting<'a>(&'a self, writes: &'a [WriteId]) -> BoxFuture<'a, Result<Waiting, SqlFault>>;
    /// Since when anything waits.
    fn oldest(&self) -> BoxFuture<'_, Result<Oldest, SqlFault>>;
}

/// Since when anything waits, all of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    /// The epoch of the primary's control row.
    pub epoch: u64,
    /// That moment.
    pub now: OutboxMark,
    /// When the oldest of what waits was written.
    pub since: Option<OutboxMark>,
}

/// The answer, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The epoch of the primary's control row.
    pub epoch: u64,
    /// The writes that wait.
    pub writes: Vec<WriteId>,
}
