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

/// What the janitor found the outbox to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxSize {
    /// Within its limit.
    Within {
        /// Bytes on the primary's disk.
        bytes: u64,
    },
    /// It had passed its limit, and the copy was given up.
    GivenUp {
        /// Bytes on the primary's disk at that moment.
        bytes: u64,
    },
}

/// Keeps segue's own tables small.
pub trait Upkeep: Send + Sync + 'static {
    /// Empties parts of the ring that are wholly forgotten; answers how many.
    fn truncate_ring(&self) -> BoxFuture<'_, Result<u64, SqlFault>>;
    /// Removes answers kept for idempotency keys that are past their time.
    fn expire_idempotency(&self) -> BoxFuture<'_, Result<u64, SqlFault>>;
    /// Measures the outbox, and gives the copy up where it is too large.
    fn check_size(&self) -> BoxFuture<'_, Result<OutboxSize, SqlFault>>;
}
