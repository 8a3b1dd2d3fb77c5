//! The slow way: keys of a range reconciled one by one. For rows that no `COPY` takes, and where
//! nobody can say any more what was written while a chunk was on its way.

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;

use crate::domain::backfill::Chunk;
use crate::domain::key_range::KeyRange;
use crate::postgres::backfill::begin_reading;
use crate::postgres::backfill::held::keys_of;
use crate::postgres::backfill::table::CopyTable;
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::table::Role;
use crate::postgres::outbox::backoff::Backoff;
use crate::postgres::outbox::settle::note_failed;
use crate::postgres::outbox::{RowKey, servers};
use crate::postgres::pool::Pool;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::{Reconciler, Stopped};

/// Keys of one page, and of one call to reconcile.
const PAGE_KEYS: usize = 500;

/// What became of keys.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Reconciled {
    pub(super) keys: u64,
    /// These have an outbox row with their reason.
    pub(super) failed: BTreeSet<RowKey>,
}

impl Reconciled {
    pub(super) fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.failed.extend(other.failed);
    }
}

/// Reconciles keys. One that cannot be done gets an outbox row with its reason, so that it is
/// tried again, listed, and holds up the cutover.
///
/// If we crash here, the chunk is not done, and is begun again.
pub(super) async fn reconcile(
    reconciler: &Reconciler,
    source: &Pool,
    keys: BTreeSet<RowKey>,
) -> Result<Reconciled, Halt> {
    let mut sum = Reconciled::default();
    let mut keys = keys.into_iter().peekable();
    while keys.peek().is_some() {
        let page: BTreeSet<RowKey> = keys.by_ref().take(PAGE_KEYS).collect();
        let wanted = page.len() as u64;
        let report = reconciler.reconcile(page).await;
        sum.keys += report.done.len() as u64;
        match report.stopped {
            Some(Stopped::Away(fault)) => return Err(Halt::Away(*fault)),
            Some(Stopped::Late | Stopped::Shifted | Stopped::Busy | Stopped::Crash) => {
                return Err(Halt::Late);
            }
            None => {}
        }
        if report.done.len() as u64 + (report.failed.len() as u64) < wanted {
            return Err(Halt::Late);
        }
        if !report.failed.is_empty() {
            let client = source.get().await.map_err(Halt::Away)?;
            for (key, reason) in &report.failed {
                let wait = Backoff::default().first;
                note_failed(&client, key, reason, wait).await.map_err(of_fault)?;
            }
            sum.failed.extend(report.failed.into_iter().map(|(key, _)| key));
        }
    }
    Ok(sum)
}

/// Reconciles every key of the chunk's range that the source has.
pub(super) async fn of_source(
    reconciler: &Reconciler,
    source: &Pool,
    table: &CopyTable,
    chunk: &Chunk,
) -> Result<Reconciled, Halt> {
    range(reconciler, source, (source, Role::Primary, Order::Own), table, &chunk.range).await
}

/// Makes the whole range equal, whatever stands on either side. Where the target orders keys
/// otherwise, it does not have that range: the whole table is asked for instead, in the outbox.
pub(super) async fn of_both(
    reconciler: &Reconciler,
    source: &Pool,
    target: &Pool,
    table: &CopyTable,
    chunk: &Chunk,
) -> Result<Reconciled, Halt> {
    let own = |role| KeySql::new(&table.shape, role, Order::Same).index_serves();
    if !(own(Role::Primary) && own(Role::Shadow)) {
        let client = source.get().await.map_err(Halt::Away)?;
        let asked = servers::enqueue_tables(&client, Some(&[table.shape.table_id])).await;
        asked.map_err(of_fault)?;
        tracing::warn!(
            table = %table.shape.primary, chunk = %chunk.id,
            "what was written while a chunk was copied is not known, so the table is reconciled whole"
        );
        return Ok(Reconciled::default());
    }
    let shadow = (target, Role::Shadow, Order::Own);
    let mut sum = range(reconciler, source, shadow, table, &chunk.range).await?;
    sum.add(of_source(reconciler, source, table, chunk).await?);
    Ok(sum)
}

async fn range(
    reconciler: &Reconciler,
    source: &Pool,
    (pool, role, order): (&Pool, Role, Order),
    table: &CopyTable,
    range: &KeyRange,
) -> Result<Reconciled, Halt> {
    let mut sum = Reconciled::default();
    let mut rest = range.clone();
    loop {
        let page = page(pool, KeySql::new(&table.shape, role, order), table, &rest).await?;
        let full = page.len() >= PAGE_KEYS;
        rest.after = page.last().map(|key| key.values.clone());
        sum.add(reconcile(reconciler, source, page.into_iter().collect()).await?);
        if !full {
            return Ok(sum);
        }
    }
}

async fn page(
    pool: &Pool,
    key: KeySql<'_>,
    table: &CopyTable,
    range: &KeyRange,
) -> Result<Vec<RowKey>, Halt> {
    let transaction = Transaction::open(pool, &begin_reading()).await?;
    let sql = key.page(range, PAGE_KEYS);
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = transaction.client()?.query(&sql, &none).await?;
    let keys = keys_of(table.shape.table_id, &rows)?;
    transaction.end("COMMIT").await?;
    Ok(keys)
}
