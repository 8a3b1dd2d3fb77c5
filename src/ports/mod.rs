//! What the stack asks of the world, as traits.
//!
//! `postgres` and `jobs` implement them; rooms are tested against fakes of them.

pub mod admin;
pub mod backfill;
pub mod control;
pub mod fleet;
pub mod operations;
pub mod reconcile;
pub mod relations;
pub mod settled;
pub mod target_reads;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::domain::answer::{Observed, RowBatch};
use crate::domain::budget::{ByteBudget, HeldBytes};
use crate::domain::call::{
    BoundStatement, CallContext, Committed, Idempotency, TransactionId, TransactionOptions,
    WriteAnswer,
};
use crate::domain::control::{ControlState, Percentage};
use crate::domain::fault::SqlFault;
use crate::domain::gate::Findings;
use crate::domain::key::{OutboxMark, RowsOfTable, WriteId};
use crate::domain::mismatch::{Mismatch, Resolution};
use crate::domain::pg_type::{Column, PgType};
use crate::domain::side::Side;
use crate::domain::table::TableRef;

/// An answer that is still coming. The stream's end is the answer's end; an error
/// item means that what came before is not the whole.
pub struct AnswerStream {
    /// Columns by position.
    pub columns: Arc<[Column]>,
    /// Batches of bounded size.
    pub batches: BoxStream<'static, Result<RowBatch, SqlFault>>,
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerStream").field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// One read outside a transaction. Runs read-only.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// What to run.
    pub statement: BoundStatement,
    /// Deadline, limits and the rest.
    pub context: CallContext,
}

/// One write of one or more statements: all or none.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// What to run, in order.
    pub statements: Vec<BoundStatement>,
    /// Whether any of them says that it writes. Of others the database is asked.
    pub writes: bool,
    /// Announced to the database in the same round trip.
    pub write_id: WriteId,
    /// Where the caller gave a key.
    pub idempotency: Option<Idempotency>,
    /// Deadline, limits and the rest.
    pub context: CallContext,
}

/// Types of a statement as one side prepares it.
#[derive(Debug, Clone)]
pub struct Description {
    /// In the order of `$1`, `$2`, ….
    pub parameters: Vec<Arc<PgType>>,
    /// The result's columns.
    pub columns: Arc<[Column]>,
}

/// A setting of a session and its value, as `set_config` takes them.
pub type SessionSetting = (String, String);

/// Statements outside transactions, on one side.
pub trait Database: Send + Sync + 'static {
    /// Which one it is.
    fn side(&self) -> Side;
    /// Runs a read on a read-only connection.
    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<AnswerStream, SqlFault>>;
    /// As [`Database::read`], for a statement that leaves nothing behind in its connection, so
    /// that it may have it together with those of other callers.
    fn read_shared(&self, request: ReadRequest) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        self.read(request)
    }
    /// As [`Database::read`], under these settings, in a session that ends with it.
    ///
    /// # Errors
    ///
    /// Also where the server does not take a setting.
    fn read_under(
        &self,
        request: ReadRequest,
        settings: Vec<SessionSetting>,
    ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>>;
    /// Runs a write. It goes on to its end, or to its cancellation, though the future be dropped.
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>>;
    /// Prepares a statement and tells its types.
    fn describe<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Description, SqlFault>>;
}

/// Transactions that span calls, on the primary.
pub trait Transactions: Send + Sync + 'static {
    /// Opens one and announces its write.
    fn begin(
        &self,
        options: TransactionOptions,
        write_id: WriteId,
        context: CallContext,
    ) -> BoxFuture<'_, Result<TransactionId, SqlFault>>;
    /// Runs a read in it. The transaction takes no other call until the stream has ended.
    fn read(
        &self,
        id: TransactionId,
        request: ReadRequest,
    ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>>;
    /// Runs statements in it; the request's `write_id` is that of the transaction's begin.
    fn write(
        &self,
        id: TransactionId,
        statements: Vec<BoundStatement>,
        context: CallContext,
    ) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>>;
    /// Commits it.
    fn commit(
        &self,
        id: TransactionId,
        context: CallContext,
    ) -> BoxFuture<'_, Result<Committed, SqlFault>>;
    /// Rolls it back.
    fn rollback(&self, id: TransactionId) -> BoxFuture<'_, Result<(), SqlFault>>;
    /// Rolls it back where nobody goes on with it: now, or with the call that is still in it.
    fn abandon(&self, id: TransactionId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(fault) = self.rollback(id).await {
                tracing::debug!(%fault, "a transaction was not rolled back");
            }
        })
    }
}

/// Where the migration stands, as this member knows it, and whether it may act by that.
pub trait ControlView: Send + Sync + 'static {
    /// The present state.
    fn current(&self) -> ControlState;
    /// Asked once for each read: the state that it runs under, and the share of reads that the
    /// target answers.
    ///
    /// # Errors
    ///
    /// `Unavailable` where the member has not heard of the primary for so long that another
    /// database may be the primary by now.
    fn admit_read(&self) -> Result<(ControlState, Percentage), SqlFault> {
        Ok((self.current(), Percentage::ZERO))
    }
    /// Asked when a read is about to be sent to the target: whether it still may be, by what the
    /// member knows now. The pass is kept until the target has begun to answer, which it does
    /// from one snapshot: what comes after the passes of a state are given back cannot be seen by
    /// a read of that state.
    fn admit_target_read(&self, under: ControlState) -> Option<TargetPass> {
        let _ = under;
        Some(TargetPass::free())
    }
    /// Asked once for each write and each begin and end of a transaction: the state that it
    /// runs under. New work may be made to wait here, until the deadline at most.
    ///
    /// # Errors
    ///
    /// `Unavailable`, not applied, where the member may not write.
    fn admit_write(
        &self,
        entering: Entering,
        deadline: Option<Instant>,
    ) -> BoxFuture<'_, Result<WritePass, SqlFault>> {
        let _ = (entering, deadline);
        let pass = WritePass::free(self.current());
        Box::pin(async move { Ok(pass) })
    }
}

/// What asks to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entering {
    /// A write or a transaction that has not begun: it can wait.
    New,
    /// A statement or the end of an open transaction: making it wait would only prolong it.
    Continuing,
}

/// A read that may be sent to the target. While it is held, this member does not acknowledge a
/// later state of the share.
pub struct TargetPass {
    _held: Option<Box<dyn Any + Send + Sync>>,
}

// === impl TargetPass ===

impl TargetPass {
    /// A pass that nobody counts.
    pub fn free() -> Self {
        Self { _held: None }
    }

    /// A pass that `held` is dropped with.
    pub fn counted(held: Box<dyn Any + Send + Sync>) -> Self {
        Self { _held: Some(held) }
    }
}

impl std::fmt::Debug for TargetPass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TargetPass")
    }
}

/// A write that was let in. While one is held, its epoch is not over for the member; clones
/// share it.
#[derive(Clone)]
pub struct WritePass {
    /// The state that the write runs under.
    pub control: ControlState,
    _held: Option<Arc<dyn Any + Send + Sync>>,
}

// === impl WritePass ===

impl WritePass {
    /// A pass that nobody counts.
    pub fn free(control: ControlState) -> Self {
        Self { control, _held: None }
    }

    /// A pass that `held` is dropped with.
    pub fn counted(control: ControlState, held: Arc<dyn Any + Send + Sync>) -> Self {
        Self { control, _held: Some(held) }
    }
}

impl std::fmt::Debug for WritePass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WritePass").field("control", &self.control).finish_non_exhaustive()
    }
}

/// Tells the reconciler that the outbox has new rows.
pub trait ReconcileWaker: Send + Sync + 'static {
    /// Never waits and never fails: the outbox has the rows in any case.
    fn wake(&self);
}

/// A read to be run on the shadow and compared.
#[derive(Debug)]
pub struct Sample {
    /// What the caller asked.
    pub statement: BoundStatement,
    /// What the caller was answered.
    pub observed: Observed,
    /// By which side.
    pub answered_by: Side,
    /// The memory that the answer takes.
    pub held: HeldBytes,
    /// The answer came from a database in this state.
    pub control: ControlState,
    /// The caller's span, to which the comparison's trace is linked.
    pub span: tracing::Span,
}

/// Decides which reads are sampled, and takes the samples.
pub trait ShadowReads: Send + Sync + 'static {
    /// Whether this read is sampled. `trace_id` keeps the reads of one trace together.
    fn selects(&self, statement: &BoundStatement, trace_id: Option<u128>) -> bool;
    /// Bytes of an answer above which a sample is skipped.
    fn answer_bytes_max(&self) -> u64;
    /// The memory that the answers of all samples may take while they are kept.
    fn memory(&self) -> ByteBudget {
        ByteBudget::unlimited()
    }
    /// Takes a sample without waiting; what there is no room for is dropped and counted.
    fn offer(&self, sample: Sample);
    /// Counts a sample that could not be taken.
    fn skipped(&self, statement: &BoundStatement, reason: &'static str);
}

/// Asks whether reconciles are still due for tables.
pub trait PendingKeys: Send + Sync + 'static {
    /// The present moment by the primary's clock.
    fn mark(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>>;
    /// Whether the primary's outbox has rows from before the mark that are not forgotten, for
    /// any of these tables. A table without a schema stands for every table of that name.
    fn pending<'a>(
        &'a self,
        tables: &'a [TableRef],
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>>;
    /// Whether the primary's outbox has such rows for any of these rows, or for their table as a
    /// whole; nothing where their keys cannot be told.
    fn pending_rows<'a>(
        &'a self,
        rows: &'a RowsOfTable,
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<Option<bool>, SqlFault>> {
        let _ = (rows, before);
        Box::pin(async { Ok(None) })
    }
    /// Whether nothing was written to any of these tables since the mark, and no reconcile of
    /// them ended since. To be asked where nothing was pending at the mark.
    fn quiet<'a>(
        &'a self,
        tables: &'a [TableRef],
        since: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>>;
}

/// The fleet's one list of judged samples.
pub trait MismatchStore: Send + Sync + 'static {
    /// Adds gathered samples to the list: all or none.
    fn add<'a>(&'a self, gathered: &'a [Mismatch]) -> BoxFuture<'a, Result<(), SqlFault>>;
    /// The list of what is open, findings first, most frequent first.
    fn list(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Mismatch>, SqlFault>>;
    /// What was found in the latest `window`, in all samples of the fleet.
    fn findings(&self, window: Duration) -> BoxFuture<'_, Result<Findings, SqlFault>>;
    /// Takes entries off the list, recorded with who and why. Answers how many.
    fn resolve(&self, resolution: Resolution) -> BoxFuture<'_, Result<u64, SqlFault>>;
}
