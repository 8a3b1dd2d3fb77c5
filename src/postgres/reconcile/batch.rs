//! Claim, reconcile, forget: one batch of the outbox.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::ports::reconcile::{BatchDone, OutboxWork};
use crate::postgres::outbox::backoff::Backoff;
use crate::postgres::outbox::claim::{Claim, ClaimLimits, ClaimedRows, claim};
use crate::postgres::outbox::settle::{fail, forget};
use crate::postgres::outbox::{Outbox, RowKey};
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::{Reconciler, Report, Stopped, crash};

/// READ COMMITTED: the claim sees what was committed before it, and nothing more is needed.
/// The limit on idleness frees the claims of a member that is stopped but not dead.
// Its end without the member's knowing is modelled as `Action::LoseClaim` in tests/model.
const BEGIN: &str = "\
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = pg_catalog; \
    SET LOCAL synchronous_commit = on; SET LOCAL idle_in_transaction_session_timeout = '90s'";

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
}

/// What a batch has to write into the outbox.
type Failures<'a> = BTreeMap<(&'a str, u32), Vec<&'a ClaimedRows>>;

impl OutboxWorker {
    /// A worker on the outbox of the reconciler's primary.
    pub fn new(outbox: Outbox, reconciler: Arc<Reconciler>, params: BatchParams) -> Self {
        let keys = AtomicUsize::new(params.keys_max);
        let rows = AtomicUsize::new(params.keys_max);
        Self { outbox, reconciler, params, keys, rows }
    }

    async fn batch(&self) -> Result<BatchDone, Halt> {
        let transaction = Transaction::open(self.outbox.pool(), BEGIN).await?;
        let keys_max = self.keys.load(Ordering::Relaxed).max(1);
        let rows_now = self.rows.load(Ordering::Relaxed).max(keys_max);
        let limits =
            ClaimLimits { keys_max, rows_max: i64::try_from(rows_now).unwrap_or(i64::MAX) };
        let (claimed, rows) = claim(transaction.client()?, limits).await.map_err(Halt::Away)?;
        self.reconciler.params.crash.pass(crash::AFTER_CLAIM)?;
        let full = rows >= rows_now as u64;
        match claimed {
            Claim::Nothing => {
                transaction.end("ROLLBACK").await?;
                Ok(BatchDone::default())
            }
            Claim::Keys(keys) => {
                self.widen(full, keys.len(), keys_max);
                let more = full || keys.len() >= keys_max;
                self.keys_batch(transaction, &keys, rows, more).await
            }
            Claim::WholeTable(table_id, rows_of_table) => {
                let until = Instant::now() + self.params.whole_table_max;
                let report = self.reconciler.whole_table(table_id, until).await;
                // Other rows were claimed with it and are released now.
                let key = RowKey { table_id, values: Vec::new() };
                let keys = BTreeMap::from([(key.clone(), rows_of_table)]);
                let report = whole(report, key);
                self.settle(transaction, &keys, report, rows, true).await
            }
        }
    }

    async fn keys_batch(
        &self,
        transaction: Transaction,
        keys: &BTreeMap<RowKey, ClaimedRows>,
        rows: u64,
        more: bool,
    ) -> Result<BatchDone, Halt> {
        let set: BTreeSet<RowKey> = keys.keys().cloned().collect();
        let report = self.reconciler.reconcile(set).await;
        self.adapt(report.stopped == Some(Stopped::Late), keys.len());
        self.settle(transaction, keys, report, rows, more).await
    }

    /// Forgets what is done, gives back what failed, and leaves the rest as it was: the
    /// shadow has committed what is forgotten here.
    ///
    /// If we crash before the commit, all of it is due again and reconciled again, which
    /// changes nothing.
    // Modelled as `Action::Forget` and `Action::Fail` in tests/model.
    async fn settle(
        &self,
        transaction: Transaction,
        keys: &BTreeMap<RowKey, ClaimedRows>,
        report: Report,
        rows: u64,
        more: bool,
    ) -> Result<BatchDone, Halt> {
        if report.stopped == Some(Stopped::Crash) {
            return Err(Halt::Crash("in a reconcile"));
        }
        let client = transaction.client()?;
        let places = report.done.iter().filter_map(|key| keys.get(key));
        forget(client, places.flat_map(|rows| &rows.places)).await.map_err(Halt::Away)?;
        let mut failures: Failures<'_> = BTreeMap::new();
        for (key, reason) in &report.failed {
            if let Some(rows) = keys.get(key) {
                failures.entry((reason.as_str(), rows.attempts)).or_default().push(rows);
            }
        }
        for ((reason, attempts), rows) in failures {
            let unit = (self.reconciler.params.dice)();
            let wait = self.params.backoff.wait(attempts.saturating_add(1), unit);
            let places = rows.into_iter().flat_map(|rows| &rows.places);
            fail(client, places, reason, wait).await.map_err(Halt::Away)?;
        }
        self.reconciler.params.crash.pass(crash::BEFORE_FORGET_COMMIT)?;
        transaction.end("COMMIT").await?;
        if let Some(Stopped::Away(fault)) = report.stopped {
            return Err(Halt::Away(*fault));
        }
        Ok(BatchDone {
            rows,
            keys: keys.len() as u64,
            reconciled: report.done.len() as u64,
            failed: report.failed.len() as u64,
            changed: report.changed,
            more: more || report.stopped.is_some(),
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

/// The report on a whole table as that of its one key.
fn whole(mut report: Report, key: RowKey) -> Report {
    report.done.clear();
    if let Some((_, reason)) = report.failed.first().cloned() {
        report.failed = vec![(key, reason)];
    } else if report.stopped.is_none() {
        report.done.insert(key);
    }
    report
}

impl OutboxWork for OutboxWorker {
    fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>> {
        Box::pin(async move {
            self.batch().await.map_err(|halt| match halt {
                Halt::Away(fault) => fault,
                other => SqlFault::new(
                    FaultKind::Internal,
                    "reconcile.batch",
                    format!("a batch of the outbox was given back: {other:?}"),
                ),
            })
        })
    }
}
