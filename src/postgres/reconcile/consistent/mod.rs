//! While reads are shifted, the shadow goes from one state that the primary had to another.
//!
//! One batch: the turn is taken on the shadow; *then* a snapshot of the primary is opened; every
//! outbox row that it has and that is not forgotten is applied from that snapshot, in one
//! transaction on the shadow; and exactly these rows are forgotten. *Claim:* after each such
//! commit the shadow's migrated rows are those of the snapshot. A key without a row that waits in
//! the snapshot is equal: whoever forgot its last row had made it equal before, and since we have
//! the turn nobody has written to it since. The others are written from the snapshot.
//!
//! What cannot be applied so (too much of it, a whole table, a key that does not go in) is done
//! key by key, in steps between which the shadow is no such state. Before the first of them,
//! reads are put off in the control row, and every member has taken that; they are let on again,
//! by a compare-and-set of that very row, after a batch that had everything.
//!
//! *If we crash anywhere before the shadow's commit*, it rolls back; *between that and the
//! forgetting*, the rows are applied again, which changes nothing; *with reads put off*, another
//! member takes over when our lease has ended.

mod attempts;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tracing::Instrument;

use crate::domain::control::ControlRow;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::failpoint::FailPoint;
use crate::ports::reconcile::{BatchDone, OutboxWork};
use crate::ports::target_reads::TargetReads;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::batch::OutboxWorker;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::sizes::COPIES;
use crate::telemetry::names;
use crate::telemetry::spans::{self, Writers};

use attempts::{Applied, Outcome};
use snapshot::Snapshot;

/// Steps go on for so long before everything that waits is looked at again.
const STEPS_MAX: Duration = Duration::from_secs(1);
/// A batch is taken to have so many bytes at least.
const BATCH_BYTES_MIN: u64 = 256 << 10;
/// A batch may take so many times as long as one of its statements.
const BATCH_DEADLINES: u32 = 4;

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct ConsistentParams {
    /// Keys of one batch. They grow with the load, up to here: what is above is done in steps,
    /// without reads.
    pub keys_max: usize,
    /// How long the server waits for a batch of which nothing is heard: less than a lease, so
    /// that a process that is stopped keeps no other member from its turn.
    pub idle_max: Duration,
}

/// Applies what waits: as whole snapshots, and in steps where that cannot be.
pub struct ConsistentWorker {
    reconciler: Arc<Reconciler>,
    /// Key by key, as in all other phases.
    steps: OutboxWorker,
    reads: Arc<dyn TargetReads>,
    params: ConsistentParams,
    writers: Arc<Writers>,
    /// One batch at a time: the turn is there for one anyway.
    alone: Mutex<()>,
    /// The last batch found tables that were not what they had been.
    stale: AtomicBool,
    /// Bytes of the rows of the last batch.
    last_bytes: AtomicU64,
}

/// What became of an attempt on everything.
enum Tried {
    Done(BatchDone),
    /// The phase does not shift reads, or not from this primary.
    OtherPhase,
    /// It has to be done in steps.
    Unfit {
        row: Box<ControlRow>,
        had_leave: bool,
        reason: String,
    },
}

impl ConsistentWorker {
    /// A worker that does `steps` where it cannot apply everything at once. Both are of the same
    /// reconciler.
    pub fn new(
        reconciler: Arc<Reconciler>,
        steps: OutboxWorker,
        reads: Arc<dyn TargetReads>,
        params: ConsistentParams,
    ) -> Self {
        let writers = Arc::new(Writers::new(0));
        Self {
            reconciler,
            steps,
            reads,
            params,
            writers,
            alone: Mutex::new(()),
            stale: AtomicBool::new(false),
            last_bytes: AtomicU64::new(0),
        }
    }

    /// Links the traces of its batches to the calls that wrote the keys.
    #[must_use]
    pub fn linked_to(self, writers: Arc<Writers>) -> Self {
        Self { writers, ..self }
    }

    /// Key by key: for the phases in which no read is on the shadow.
    pub async fn key_by_key(&self) -> Result<BatchDone, SqlFault> {
        self.steps.work().await
    }

    async fn batch(&self) -> Result<BatchDone, Halt> {
        // A connection that is cut off says nothing. Dropped, both transactions end.
        let limit = self.reconciler.params.deadline * BATCH_DEADLINES;
        let tried = tokio::time::timeout(limit, self.everything()).await;
        let tried = tried.unwrap_or_else(|_| {
            let message = format!("a batch of the outbox was not done within {limit:?}");
            let kind = FaultKind::DeadlineExceeded;
            Err(Halt::Away(SqlFault::new(kind, Reason::ReconcileLate, message)))
        });
        match tried? {
            Tried::Done(done) => Ok(done),
            Tried::OtherPhase => Ok(BatchDone::default()),
            Tried::Unfit { row, had_leave: true, .. } => {
                self.reconciler.params.leave.give(row.version());
                self.in_steps().await
            }
            Tried::Unfit { row, had_leave: false, reason } => {
                let put_off = self.reads.put_off(&row, &reason).await.map_err(Halt::Away)?;
                let Some(version) = put_off else { return Ok(BatchDone::default()) };
                self.reconciler.params.leave.give(version);
                Ok(BatchDone { more: true, ..BatchDone::default() })
            }
        }
    }

    /// Batch after batch of single keys, before everything is looked at again.
    async fn in_steps(&self) -> Result<BatchDone, Halt> {
        let until = Instant::now() + STEPS_MAX;
        let mut sum = BatchDone::default();
        loop {
            let done = self.steps.work().await.map_err(Halt::Away)?;
            sum.rows += done.rows;
            sum.keys += done.keys;
            sum.reconciled += done.reconciled;
            sum.failed += done.failed;
            sum.changed += done.changed;
            sum.more |= done.reconciled > 0;
            if !done.more || Instant::now() >= until {
                return Ok(sum);
            }
        }
    }

    /// Everything that waits, in one transaction on the shadow.
    async fn everything(&self) -> Result<Tried, Halt> {
        let reconciler = &self.reconciler;
        let (failpoints, deadline) = (&reconciler.params.failpoints, reconciler.params.deadline);
        failpoints.pass(FailPoint::BeforeClaim).await?;
        // Outside of the turn: many tables take their time to be read.
        reconciler.shapes().await?;
        // The batch is about as large as the last one. Who waits for memory has locked nothing.
        let bytes = self.last_bytes.load(Ordering::Relaxed).max(BATCH_BYTES_MIN);
        let _held = reconciler.params.memory.hold(bytes * COPIES).await;
        let idle = self.params.idle_max;
        let keys_as = reconciler.foreign_keys().await?;
        let shadow = Transaction::open_alone(&reconciler.shadow, keys_as, (deadline, idle)).await?;
        // Nobody writes by it any more, and nobody will while we have the turn.
        let leave = reconciler.params.leave.take_back();
        failpoints.pass(FailPoint::AfterLock).await?;
        let limits = (deadline, idle);
        let snapshot = Snapshot::open(&reconciler.primary, self.params.keys_max, limits).await?;
        failpoints.pass(FailPoint::AfterClaim).await?;
        let row = snapshot.row.clone();
        let had_leave = leave == Some(row.version());
        let here = row.state.phase.shifts() && row.state.phase.primary() == reconciler.primary_side;
        let unfit = snapshot.waiting.unfit.clone();
        if !here || unfit.is_some() {
            shadow.end("ROLLBACK").await?;
            snapshot.give_up().await?;
            return Ok(match (here, unfit) {
                (true, Some(reason)) => Tried::Unfit { row: Box::new(row), had_leave, reason },
                _ => Tried::OtherPhase,
            });
        }
        match self.applied(shadow, snapshot).await? {
            Ok(done) => {
                self.let_reads_on(&row, had_leave).await;
                Ok(Tried::Done(done))
            }
            Err(reason) => Ok(Tried::Unfit { row: Box::new(row), had_leave, reason }),
        }
    }

    async fn applied(
        &self,
        shadow: Transaction,
        snapshot: Snapshot,
    ) -> Result<Result<BatchDone, String>, Halt> {
        let reconciler = &self.reconciler;
        let failpoints = &reconciler.params.failpoints;
        let keys = snapshot.waiting.keys.len() as u64;
        if keys == 0 {
            shadow.end("ROLLBACK").await?;
            snapshot.give_up().await?;
            return Ok(Ok(BatchDone::default()));
        }
        let writers = self.writers.of(snapshot.waiting.writes.iter().copied(), usize::MAX);
        let to = reconciler.primary_side.other();
        let span = spans::reconcile(to, snapshot.waiting.keys.len(), writers);
        let work = reconciler.apply_all(&shadow, &snapshot.transaction, &snapshot.waiting.keys);
        let outcome = match work.instrument(span.clone()).await {
            // They are looked up anew; once.
            Err(Halt::Stale(fault)) if self.stale.swap(true, Ordering::Relaxed) => {
                Outcome::Unfit(fault.to_string())
            }
            outcome => outcome?,
        };
        self.stale.store(false, Ordering::Relaxed);
        let Applied { changed, bytes, largest } = match outcome {
            Outcome::Applied(applied) => applied,
            Outcome::Unfit(reason) => {
                span.record("otel.status_code", "ERROR");
                shadow.end("ROLLBACK").await?;
                snapshot.give_up().await?;
                return Ok(Err(reason));
            }
        };
        self.last_bytes.store(bytes, Ordering::Relaxed);
        span.record(names::ROWS_WRITTEN, changed);
        failpoints.pass(FailPoint::AfterApply).await?;
        // Modelled as `Action::Commit` in tests/model/apply.
        shadow.end_after("COMMIT", largest).await?;
        failpoints.pass(FailPoint::AfterShadowCommit).await?;
        let rows = snapshot.waiting.rows;
        failpoints.pass(FailPoint::BeforeForgetCommit).await?;
        let forgotten = match snapshot.forget(largest).await {
            // Somebody has changed one of them: they are applied again.
            Err(Halt::Again(fault)) => {
                tracing::debug!(%fault, "what was applied is not forgotten yet");
                0
            }
            forgotten => forgotten?,
        };
        failpoints.pass(FailPoint::AfterForgetCommit).await?;
        let reconciled = if forgotten > 0 { keys } else { 0 };
        let more = forgotten < rows;
        Ok(Ok(BatchDone { rows, keys, reconciled, failed: 0, changed, more }))
    }

    /// After a batch that had everything. Reads that another member has put off are that one's:
    /// it may be at its steps. Where it is lost, they are put off in our name, and the next batch
    /// lets them on.
    ///
    /// *If the row was changed since the snapshot*, they stay off, and the next batch looks again.
    async fn let_reads_on(&self, row: &ControlRow, had_leave: bool) {
        let Some(off) = &row.reads_off else { return };
        if row.settled_at.is_none() {
            return;
        }
        let done = match off.by.is_none() || had_leave {
            true => self.reads.let_on(row).await.map(drop),
            false => self.take_over(row).await,
        };
        self.reconciler.params.retries.note("reads_on", "", &done);
        if let Err(fault) = done {
            tracing::warn!(%fault, "reads of the target stay off for now");
        }
    }

    async fn take_over(&self, row: &ControlRow) -> Result<(), SqlFault> {
        let why = "another member had them off, and is silent";
        if let Some(version) = self.reads.put_off(row, why).await? {
            self.reconciler.params.leave.give(version);
        }
        Ok(())
    }
}

impl OutboxWork for ConsistentWorker {
    fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>> {
        Box::pin(async move {
            let _alone = self.alone.lock().await;
            match self.batch().await {
                Ok(done) => Ok(done),
                Err(Halt::Away(fault)) => Err(fault),
                // Another member has the turn, or had a row at the same time.
                Err(Halt::Again(fault) | Halt::Stale(fault)) => {
                    tracing::debug!(%fault, "a batch of the outbox is begun again");
                    Ok(BatchDone { more: true, ..BatchDone::default() })
                }
                Err(other) => Err(SqlFault::new(
                    FaultKind::Internal,
                    Reason::ReconcileBatch,
                    format!("a batch of the outbox was given back: {other:?}"),
                )),
            }
        })
    }
}

impl std::fmt::Debug for ConsistentWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsistentWorker").field("params", &self.params).finish_non_exhaustive()
    }
}
