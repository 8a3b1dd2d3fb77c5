//! What the backfill asks of the databases, and of whoever keeps its state.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::backfill::{Chunk, Copied, TablePlan, TableProgress, WorkerProgress};
use crate::domain::fault::SqlFault;
use crate::domain::key::{KeyValues, OutboxMark};
use crate::domain::key_range::KeyRange;

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This chunk, which is the caller's now.
    Chunk(Box<Chunk>),
    /// Others work on the rest, or it waits for its next attempt.
    Wait,
    /// Nothing is left.
    Done,
}

/// What a process tells of itself when it renews its lease.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Beat {
    /// What slows it down; empty where nothing does.
    pub throttled: String,
    /// The share of the time that it works, 0 to 1.
    pub share: f64,
}

/// Keeps which chunks there are, who has them, and which are done.
pub trait ChunkStore: Send + Sync + 'static {
    /// Takes in what is to be copied. What is known already stays as it is.
    fn plan<'a>(&'a self, tables: &'a [TablePlan]) -> BoxFuture<'a, Result<(), SqlFault>>;
    /// Claims a chunk, cutting more of them where there are too few.
    fn claim(&self) -> BoxFuture<'_, Result<Next, SqlFault>>;
    /// Claims the caller's chunk for another attempt; `None` where somebody else has it by now.
    fn again<'a>(&'a self, chunk: &'a Chunk) -> BoxFuture<'a, Result<Option<Chunk>, SqlFault>>;
    /// Notes a chunk as done; false where somebody else has it by now.
    fn finish<'a>(
        &'a self,
        chunk: &'a Chunk,
        copied: &'a Copied,
    ) -> BoxFuture<'a, Result<bool, SqlFault>>;
    /// Lets others have the chunk, not before `wait` is over.
    fn give_back<'a>(
        &'a self,
        chunk: &'a Chunk,
        reason: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<(), SqlFault>>;
    /// Renews the lease of this process.
    fn renew<'a>(&'a self, beat: &'a Beat) -> BoxFuture<'a, Result<(), SqlFault>>;
    /// Ends the lease.
    fn leave(&self) -> BoxFuture<'_, Result<(), SqlFault>>;
    /// How far each table is, parents before children.
    fn progress(&self) -> BoxFuture<'_, Result<Vec<TableProgress>, SqlFault>>;
    /// Who copies.
    fn workers(&self) -> BoxFuture<'_, Result<Vec<WorkerProgress>, SqlFault>>;
}

/// Cuts tables into chunks, and knows the source's clock.
pub trait KeySplitter: Send + Sync + 'static {
    /// Every `rows`-th key of a range of a table, in order, at most `bounds_max` of them; fewer
    /// are all there are.
    fn bounds<'a>(
        &'a self,
        table_id: i32,
        range: &'a KeyRange,
        rows: u64,
        bounds_max: usize,
    ) -> BoxFuture<'a, Result<Vec<KeyValues>, SqlFault>>;
    /// The source's clock.
    fn now(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>>;
}

/// Why a chunk is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyHalt {
    /// Somebody else has the chunk by now.
    Lost,
    /// The same again may go well.
    Again(String),
    /// A side is away.
    Away(Box<SqlFault>),
    /// The copy as a whole cannot go on.
    Void(String),
}

/// Told of everything that passes, so that it can be held up.
pub trait Meter: Send + Sync {
    /// So many rows and bytes are about to pass. Ready when they may.
    fn pass(&self, rows: u64, bytes: u64) -> BoxFuture<'_, ()>;
}

/// Copies a chunk.
pub trait ChunkCopier: Send + Sync + 'static {
    /// Brings the chunk's rows over, so that each is on the target as it is on the source, or
    /// has an outbox row that is not forgotten.
    fn copy<'a>(
        &'a self,
        chunk: &'a Chunk,
        meter: &'a dyn Meter,
    ) -> BoxFuture<'a, Result<Copied, CopyHalt>>;
}

/// How the source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceLook {
    /// Time of a small statement.
    pub latency: Duration,
    /// Age of the oldest key that is due; `None` where nothing is captured.
    pub outbox_age: Option<Duration>,
}

/// Looks at the source, and keeps what running chunks need there.
pub trait SourceWatch: Send + Sync + 'static {
    /// Looks. What was forgotten since `hold` is kept until the next look is overdue; `None`
    /// holds what is forgotten from now on.
    fn look(&self, hold: Option<OutboxMark>) -> BoxFuture<'_, Result<SourceLook, SqlFault>>;
    /// Keeps nothing any longer.
    fn release(&self) -> BoxFuture<'_, Result<(), SqlFault>>;
}
