//! A table that is gone through whole, or range by range, in turns.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use crate::domain::key::WriteId;
use crate::domain::key_range::KeyRange;
use crate::ports::reconcile::BatchDone;
use crate::postgres::outbox::RowKey;
use crate::postgres::outbox::claim::{ClaimedRows, TableRow, claim_table};
use crate::postgres::outbox::fold::{note_progress, note_progress_of_range};
use crate::postgres::outbox::ranges::noted;
use crate::postgres::outbox::settle::note_failed;
use crate::postgres::pool::Lease;
use crate::postgres::reconcile::batch::OutboxWorker;
use crate::postgres::reconcile::batch::tables::{Passed, Progress};
use crate::postgres::reconcile::batch::traced::traced;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::whole_table::Cursor;
use crate::postgres::reconcile::{Report, Stopped};

impl OutboxWorker {
    /// One turn of a table. Keys that fail on the way get outbox rows of their own, so that
    /// the table need not be gone through again for them.
    ///
    /// If we crash here, what this member knows of the way is lost, and the next one begins
    /// anew.
    pub(super) async fn table_batch(
        &self,
        transaction: Transaction,
        table_id: i32,
        named: Option<WriteId>,
    ) -> Result<BatchDone, Halt> {
        let client = transaction.client()?;
        let range = self.range(client, table_id, named).await?;
        let named = named.filter(|_| range.is_some());
        let claimed = claim_table(client, table_id, named).await.map_err(Halt::Away)?;
        if claimed.is_empty() {
            // Another member was faster.
            transaction.end("ROLLBACK").await?;
            return Ok(BatchDone { more: true, ..BatchDone::default() });
        }
        let shadow = self.shadow_seen(&transaction, false).await?;
        let passed = (table_id, named);
        let (rows, mut progress) = self.resume(passed, claimed, &shadow);
        let count = rows.len() as u64;
        let until = Instant::now() + self.params.whole_table_max;
        let span = self.span(std::iter::empty());
        let before = progress.cursor.keys();
        let all = KeyRange::all();
        let within = range.as_ref().unwrap_or(&all);
        let table = self.reconciler.whole_table(table_id, within, &mut progress.cursor, until);
        let report = traced(Box::pin(table), span).await;
        let late = report.stopped == Some(Stopped::Late);
        self.keys_turn.store(true, Ordering::Relaxed);
        let failed = self.note_failed(&transaction, &report).await?;
        let (client, seen) = (transaction.client()?, progress.cursor.keys());
        match range {
            Some(_) => note_progress_of_range(client, table_id, seen - before).await,
            None => note_progress(client, table_id, seen).await,
        }
        .map_err(Halt::Away)?;
        let report = whole(report, RowKey { table_id, values: Vec::new() });
        let attempts = rows.iter().map(|row| row.attempts).max().unwrap_or(0);
        let places = rows.into_iter().map(|row| row.place).collect();
        let key = RowKey { table_id, values: Vec::new() };
        let keys = BTreeMap::from([(key, ClaimedRows { places, attempts, writes: Vec::new() })]);
        let done = self.settle(transaction, shadow, &keys, report, count, true).await;
        if late && done.is_ok() {
            self.known_tables().insert(passed, progress);
        }
        done.map(|done| BatchDone { failed: done.failed + failed, ..done })
    }

    /// The range that a row without a key stands for; `None` for the whole table, as where the
    /// sides do not have that range, or not in one order.
    async fn range(
        &self,
        client: &Lease,
        table_id: i32,
        named: Option<WriteId>,
    ) -> Result<Option<KeyRange>, Halt> {
        let Some(named) = named else { return Ok(None) };
        let Some(noted) = noted(client, table_id, named).await.map_err(Halt::Away)? else {
            return Ok(None);
        };
        Ok(self.reconciler.both_have(table_id, &noted).await?.then_some(noted.range))
    }

    /// The rows that this turn can settle, and where it begins.
    fn resume(
        &self,
        passed: Passed,
        claimed: Vec<TableRow>,
        shadow: &Option<String>,
    ) -> (Vec<TableRow>, Progress) {
        let name = |row: &TableRow| (row.place.clone(), row.due_at);
        // What was done with another server may be lost there.
        let known = self.known_tables().remove(&passed).filter(|it| it.shadow == *shadow);
        if let Some(progress) = known {
            let covered = |row: &TableRow| progress.covered.contains(&name(row));
            let rows: Vec<TableRow> = claimed.iter().filter(|row| covered(row)).cloned().collect();
            if !rows.is_empty() {
                return (rows, progress);
            }
        }
        let covered = claimed.iter().map(name).collect();
        (claimed, Progress { covered, cursor: Cursor::default(), shadow: shadow.clone() })
    }

    fn known_tables(&self) -> MutexGuard<'_, BTreeMap<Passed, Progress>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes outbox rows for keys that failed, in the transaction that settles their table.
    async fn note_failed(&self, transaction: &Transaction, report: &Report) -> Result<u64, Halt> {
        let mut noted = 0;
        for (key, reason) in report.failed.iter().filter(|(key, _)| !key.values.is_empty()) {
            let unit = (self.reconciler.params.dice)();
            let wait = self.params.backoff.wait(1, unit);
            note_failed(transaction.client()?, key, reason, wait).await.map_err(Halt::Away)?;
            noted += 1;
        }
        Ok(noted)
    }
}

/// The report on a whole table as that of its one key.
fn whole(mut report: Report, key: RowKey) -> Report {
    report.done.clear();
    report.failed.retain(|(failed, _)| failed.values.is_empty());
    if let Some((_, reason)) = report.failed.first().cloned() {
        report.failed = vec![(key, reason)];
    } else if report.stopped.is_none() {
        report.done.insert(key);
    }
    report
}
