//! Claim, reconcile, forget: one batch of the outbox.

mod table;
mod tables;
mod traced;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tracing::Span;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::failpoint::FailPoint;
use crate::ports::reconcile::{BatchDone, OutboxWork};
use crate::postgres::outbox::backoff::Backoff;
use crate::postgres::outbox::claim::{Claim, ClaimLimits, ClaimedRows, claim};
use crate::postgres::outbox::fold::note_done;
use crate::postgres::outbox::servers::seen;
use crate::postgres::outbox::settle::{forget, forget_now};
use crate::postgres::outbox::{Outbox, RowKey};
use crate::postgres::reconcile::batch::tables::Tables;
use crate::postgres::reconcile::batch::traced::traced;
use crate::postgres::reconcile::give_back::give_back;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::place::Place;
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::sets::Large;
use crate::postgres::reconcile::unread::{self, UNCLAIM};
use crate::postgres::reconcile::{Reconciler, Report, Stopped};
use crate::postgres::session::ServerFacts;
use crate::telemetry::spans::{self, Writers};

/// READ COMMITTED: the claim sees what was committed before it, and nothing more is needed.
/// The limit on idleness frees the claims of a member that is stopped but not dead.
/// The savepoint lets a claim be taken back.
// Its end without the member's knowing is modelled as `Action::LoseClaim` in tests/model.
const BEGIN: &str = "\
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = pg_catalog; \
    SET LOCAL synchronous_commit = on; SET LOCAL idle_in_transaction_session_timeout = '90s'";
/// How often a claim's session is heard of: well within that limit.
const HEARD_OF: Duration = Duration::from_secs(20);
const SAVE: &str = "; SAVEPOINT claim";
fn begin(facts: &ServerFacts) -> String {
    format!("{BEGIN}{}{SAVE}", facts.dialect.and_follow_the_index())
}

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchParams {
    /// Keys of one batch.
    pub keys_max: usize,
    /// Outbox rows of one batch.
    pub rows_max: usize,
    /// How long failed keys wait.
    pub backoff: Backoff,
    /// How long a batch may work on a truncated table before it goes on in another one.
    pub whole_table_max: Duration,
}

impl Default for BatchParams {
    fn default() -> Self {
        Self {
            keys_max: 500,
            rows_max: 8000,
            backoff: Backoff::default(),
            whole_table_max: Duration::from_secs(30),
        }
    }
}

/// Works off the outbox, batch by batch. Any number of them may work at once.
#[derive(Debug)]
pub struct OutboxWorker {
    outbox: Outbox,
    reconciler: Arc<Reconciler>,
    params: BatchParams,
    /// Keys that a batch takes now: fewer after one that took too long.
    keys: AtomicUsize,
    /// Rows that a claim looks at now: more while many rows name few keys.
    rows: AtomicUsize,
    /// Which calls made the writes, where traces are wanted.
    writers: Arc<Writers>,
    /// Tables that are gone through in several turns.
    tables: Tables,
    /// Where the next claim begins.
    place: Place,
    /// A table had the last turn, and keys have the next.
    keys_turn: AtomicBool,
}

/// Calls that one batch's trace is linked to, at most.
const LINKS_MAX: usize = 32;

impl OutboxWorker {
    /// A worker on the outbox of the reconciler's primary.
    pub fn new(outbox: Outbox, reconciler: Arc<Reconciler>, params: BatchParams) -> Self {
        let keys = AtomicUsize::new(params.keys_max);
        let rows = AtomicUsize::new(params.keys_max);
        Self {
            outbox,
            reconciler,
            params,
            keys,
            rows,
            writers: Arc::new(Writers::new(0)),
            tables: Tables::default(),
            place: Place::default(),
            keys_turn: AtomicBool::new(false),
        }
    }

    /// Links the traces of its batches to the calls that wrote the keys.
    #[must_use]
    pub fn linked_to(self, writers: Arc<Writers>) -> Self {
        Self { writers, ..self }
    }

    /// The trace of a batch of its own. Links are a convenience, and few.
    fn span<'a>(&self, claimed: impl ExactSizeIterator<Item = &'a ClaimedRows>) -> Span {
        let keys = claimed.len();
        let writers = if self.writers.is_empty() {
            Vec::new()
        } else {
            let writes: HashSet<_> = claimed.flat_map(|rows| rows.writes.iter().copied()).collect();
            self.writers.of(writes, LINKS_MAX)
        };
        spans::reconcile(self.outbox.side().other(), keys, writers)
    }

    async fn batch(&self) -> Result<BatchDone, Halt> {
        self.reconciler.params.failpoints.pass(FailPoint::BeforeClaim).await?;
        let transaction = Transaction::open_by(self.outbox.pool(), begin).await?;
        let keys_max = self.keys.load(Ordering::Relaxed).max(1);
        let rows_now = self.rows.load(Ordering::Relaxed).max(keys_max);
        let rows_max = i64::try_from(rows_now).unwrap_or(i64::MAX);
        let whole_tables = !self.keys_turn.swap(false, Ordering::Relaxed);
        let from = self.place.from();
        let mut limits = ClaimLimits { keys_max, rows_max, whole_tables, from };
        let client = transaction.client()?;
        let begun = Instant::now();
        let mut taken = match claim(client, limits).await {
            Ok(taken) => taken,
            Err(fault) => {
                let backoff = self.params.backoff;
                return unread::give_back(&self.reconciler, transaction, fault, backoff).await;
            }
        };
        if taken.claim == Claim::Nothing && !whole_tables {
            limits.whole_tables = true;
            taken = claim(client, limits).await.map_err(Halt::Away)?;
        }
        self.place.looked(from, taken.oldest, begun.elapsed());
        let (claimed, rows) = (taken.claim, taken.rows);
        self.reconciler.params.failpoints.pass(FailPoint::AfterClaim).await?;
        let full = rows >= rows_now as u64;
        match claimed {
            Claim::Nothing => {
                transaction.end("ROLLBACK").await?;
                Ok(BatchDone::default())
            }
            Claim::Keys(keys) => {
                let shadow = self.shadow_seen(&transaction, false).await?;
                self.widen(full, keys.len(), keys_max);
                let more = full || keys.len() >= keys_max;
                self.keys_batch(transaction, shadow, &keys, rows, more).await
            }
            Claim::Table(table_id, named) => {
                // The rows behind it are others' work meanwhile.
                client.batch_execute(UNCLAIM).await?;
                Box::pin(self.table_batch(transaction, table_id, named)).await
            }
        }
    }

    /// Whom the shadow was last seen to be.
    async fn shadow_seen(
        &self,
        transaction: &Transaction,
        hold: bool,
    ) -> Result<Option<String>, Halt> {
        let side = self.outbox.side().other();
        seen(transaction.client()?, side, hold).await.map_err(Halt::Away)
    }

    async fn keys_batch(
        &self,
        transaction: Transaction,
        shadow: Option<String>,
        keys: &BTreeMap<RowKey, ClaimedRows>,
        rows: u64,
        more: bool,
    ) -> Result<BatchDone, Halt> {
        let set: BTreeSet<RowKey> = keys.keys().cloned().collect();
        let work = Box::pin(self.reconciler.reconcile_here(set, Large::Last));
        let work = traced(work, self.span(keys.values()));
        let report = kept(&transaction, work).await?;
        self.adapt(report.stopped == Some(Stopped::Late), keys.len());
        self.settle(transaction, shadow, keys, report, rows, more).await
    }

    /// Forgets what is done, gives back what failed, and leaves the rest as it was: the
    /// shadow has committed what is forgotten here.
    ///
    /// Where the shadow's server was replaced since the claim, its commit may be lost, and a
    /// recall that has passed did not see these rows as forgotten: nothing is forgotten then.
    ///
    /// If we crash before the commit, all of it is due again and reconciled again, which
    /// changes nothing.
    // Modelled as `Action::Forget` and `Action::Fail` in tests/model.
    async fn settle(
        &self,
        transaction: Transaction,
        shadow: Option<String>,
        keys: &BTreeMap<RowKey, ClaimedRows>,
        report: Report,
        rows: u64,
        more: bool,
    ) -> Result<BatchDone, Halt> {
        if report.stopped == Some(Stopped::Crash) {
            return Err(Halt::Crash("in a reconcile"));
        }
        if self.shadow_seen(&transaction, true).await? != shadow {
            transaction.end("ROLLBACK").await?;
            return Ok(BatchDone {
                rows,
                keys: keys.len() as u64,
                more: true,
                ..BatchDone::default()
            });
        }
        let client = transaction.client()?;
        let places = report.done.iter().filter_map(|key| keys.get(key));
        let places = places.flat_map(|rows| &rows.places);
        match self.outbox.keeps_window() {
            true => forget(client, places).await,
            false => forget_now(client, places).await,
        }
        .map_err(Halt::Away)?;
        for table in report.done.iter().filter(|key| key.values.is_empty()) {
            note_done(client, self.outbox.side(), table.table_id).await.map_err(Halt::Away)?;
        }
        give_back(client, keys, &report, |attempts| {
            self.params.backoff.wait(attempts, (self.reconciler.params.dice)())
        })
        .await?;
        self.reconciler.params.failpoints.pass(FailPoint::BeforeForgetCommit).await?;
        transaction.end("COMMIT").await?;
        self.reconciler.params.failpoints.pass(FailPoint::AfterForgetCommit).await?;
        if let Some(Stopped::Away(fault)) = report.stopped {
            return Err(Halt::Away(*fault));
        }
        let nothing = report.done.is_empty() && report.failed.is_empty();
        let more = match report.stopped {
            Some(Stopped::Shifted) => false,
            // The same keys would be claimed again, and left again.
            Some(Stopped::Busy) if nothing => false,
            stopped => more || stopped.is_some(),
        };
        Ok(BatchDone {
            rows,
            keys: keys.len() as u64,
            reconciled: report.done.len() as u64,
            failed: report.failed.len() as u64,
            changed: report.changed,
            more,
        })
    }

    /// A batch that took too long is followed by a smaller one; a full one by a larger.
    fn adapt(&self, late: bool, keys: usize) {
        let now = self.keys.load(Ordering::Relaxed);
        let next = if late { (keys.min(now) / 4).max(1) } else { now.saturating_mul(2) };
        self.keys.store(next.min(self.params.keys_max), Ordering::Relaxed);
    }

    /// A hot key has many rows: look at more of them while they name few keys.
    fn widen(&self, full: bool, keys: usize, keys_max: usize) {
        let now = self.rows.load(Ordering::Relaxed);
        let next = if full && keys < keys_max / 2 { now.saturating_mul(2) } else { now / 2 };
        let (least, most) = (self.params.keys_max, self.params.rows_max.max(self.params.keys_max));
        self.rows.store(next.clamp(least, most), Ordering::Relaxed);
    }
}

/// Runs a reconcile, and lets the claim's session be heard of while large rows take their time: a
/// member that is stopped is not.
async fn kept(claim: &Transaction, work: impl Future<Output = Report>) -> Result<Report, Halt> {
    let client = claim.client()?;
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(report) = tokio::time::timeout(HEARD_OF, &mut work).await {
            return Ok(report);
        }
        tokio::select! {
            report = &mut work => return Ok(report),
            // Where the claim is lost, what is done is done, and claimed again.
            _ = client.batch_execute("SELECT 1") => {}
        }
    }
}

impl OutboxWork for OutboxWorker {
    fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>> {
        Box::pin(async move {
            let batch = self.batch().await;
            if batch.is_err() {
                self.place.forget();
            }
            batch.map_err(|halt| match halt {
                Halt::Away(fault) => fault,
                other => SqlFault::new(
                    FaultKind::Internal,
                    Reason::ReconcileBatch,
                    format!("a batch of the outbox was given back: {other:?}"),
                ),
            })
        })
    }
}
