//! What the replayer and the janitor ask of the databases.

use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;

/// One batch of the outbox, done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchDone {
    /// Outbox rows that were claimed.
    pub rows: u64,
    /// Keys that they named; a whole table counts as one.
    pub keys: u64,
    /// Keys whose rows are equal now.
    pub reconciled: u64,
    /// Keys that failed, and wait for their next attempt.
    pub failed: u64,
    /// Rows of the shadow that were inserted, updated or deleted.
    pub changed: u64,
    /// Whether more is due already.
    pub more: bool,
}

/// Takes what is due out of the outbox and makes the shadow equal for it.
pub trait OutboxWork: Send + Sync + 'static {
    /// Works off one batch. An error means that a side is away, and that nothing was
    /// forgotten: the outbox has the rows as before.
    fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>>;
}

/// What the janitor found the outbox to be, and what it did about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxSize {
    /// Bytes on the primary's disk, forgotten rows included.
    pub bytes: u64,
    /// Bytes of the keys that wait; 0 where nobody had to count them.
    pub pending_bytes: u64,
    /// What is done went before its window was over.
    pub window_shrunk: bool,
    /// Keys that were folded into their tables.
    pub folded: u64,
}

/// Keeps segue's own tables small.
pub trait Upkeep: Send + Sync + 'static {
    /// Empties parts of the ring that are wholly forgotten; answers how many.
    fn truncate_ring(&self) -> BoxFuture<'_, Result<u64, SqlFault>>;
    /// Removes answers kept for idempotency keys that are past their time.
    fn expire_idempotency(&self) -> BoxFuture<'_, Result<u64, SqlFault>>;
    /// Measures the outbox. Where it is too large, what is done goes at once, and keys that wait
    /// are folded into their tables.
    fn check_size(&self) -> BoxFuture<'_, Result<OutboxSize, SqlFault>>;
}
