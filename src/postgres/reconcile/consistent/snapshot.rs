//! A snapshot of the primary: its control row, every outbox row that is not forgotten, and the
//! transaction in which the rows of their keys are read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_postgres::types::ToSql;

use crate::domain::control::ControlRow;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::postgres::control::row::{READ, control_row};
use crate::postgres::outbox::servers::seen;
use crate::postgres::outbox::{KEY_TEXTS, RowKey};
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::session::asked::Row;
use crate::postgres::session::cell::Raw;

/// Whatever their time of trying again. A part of the ring that fills up has no statistics yet:
/// see `batch`.
const OUTBOX: &str = "\
    SELECT slot, ctid::text, table_id, key, attempts, last_error, write_id FROM segue.outbox \
    WHERE forgotten_at IS NULL LIMIT $1";
const FOLLOW_THE_INDEX: &str = "SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off";
const AS_BEFORE: &str = "SET LOCAL enable_seqscan = on; \
    SET LOCAL enable_bitmapscan = on; SET LOCAL enable_sort = on";
/// Rows of one batch: some 10 MB of places. A hot key has thousands, which cost next to nothing
/// together, and more than any number of steps gets done with.
const ROWS_MAX: usize = 100_000;
/// Writes that are remembered for the traces.
const WRITES_MAX: usize = 32;

/// What the outbox has in the snapshot.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) keys: BTreeSet<RowKey>,
    pub(super) rows: u64,
    pub(super) writes: Vec<WriteId>,
    places: BTreeMap<i16, Vec<String>>,
    /// Why it cannot be applied as a whole.
    pub(super) unfit: Option<String>,
}

/// An open snapshot.
pub(super) struct Snapshot {
    pub(super) transaction: Transaction,
    pub(super) row: ControlRow,
    pub(super) waiting: Waiting,
    /// Whom the shadow was last seen to be.
    shadow: Option<String>,
}

impl Snapshot {
    /// Opens one, which is no older than this call.
    pub(super) async fn open(
        primary: &Pool,
        keys_max: usize,
        (deadline, idle): (Duration, Duration),
    ) -> Result<Self, Halt> {
        let side = primary.side();
        let begin = begin(deadline, idle);
        let transaction = Transaction::open(primary, &begin).await?;
        let client = transaction.client()?;
        let (control, outbox) = (
            client.prepared(READ).await.map_err(of_fault)?,
            client.prepared(OUTBOX).await.map_err(of_fault)?,
        );
        let limit = i64::try_from(ROWS_MAX).unwrap_or(i64::MAX).saturating_add(1);
        let limits: [&(dyn ToSql + Sync); 1] = [&limit];
        // Polled in this order, they are sent in this order, without waiting between.
        let (row, rows, settings, shadow) = tokio::join!(
            biased;
            client.query_opt(&control.statement, &[]),
            client.query(&outbox.statement, &limits),
            client.batch_execute(AS_BEFORE),
            seen(client, side.other(), false),
        );
        let row = row?;
        let row = row.map(|row| control_row(&row, side)).transpose().map_err(Halt::Away)?;
        let row = row.ok_or_else(|| Halt::Set("segue.control has no row".to_owned()))?;
        let rows = match rows.map_err(of_fault) {
            // A key that no session can read: the steps tell which.
            Err(Halt::Set(reason)) => {
                let waiting = Waiting { unfit: Some(reason), ..Waiting::default() };
                return Ok(Self { transaction, row, waiting, shadow: None });
            }
            rows => rows?,
        };
        let shadow = shadow.map_err(Halt::Away)?;
        settings?;
        let mut waiting = Waiting::default();
        for row in &rows {
            if let Err(error) = waiting.add(row) {
                waiting.unfit = Some(format!("a key cannot be read: {error}"));
            }
        }
        waiting.judge(rows.len() > ROWS_MAX, keys_max);
        Ok(Self { transaction, row, waiting, shadow })
    }

    /// Forgets exactly the rows that the snapshot has, and ends. The shadow has committed.
    ///
    /// A row that another member has claimed is left to it, or to the next snapshot. Where one
    /// was changed since, or the shadow's server was replaced, nothing is forgotten, and all of
    /// it is applied again, which changes nothing. `largest` is the bytes of the largest row that
    /// was read.
    pub(super) async fn forget(self, largest: usize) -> Result<u64, Halt> {
        let side = self.transaction.side();
        let client = self.transaction.client()?;
        if seen(client, side.other(), true).await.map_err(of_fault)? != self.shadow {
            self.transaction.end("ROLLBACK").await?;
            return Ok(0);
        }
        let forgotten = forget(client, &self.waiting.places).await?;
        self.transaction.end_after("COMMIT", largest).await?;
        Ok(forgotten)
    }

    pub(super) async fn give_up(self) -> Result<(), Halt> {
        self.transaction.end("ROLLBACK").await
    }
}

// === impl Waiting ===

impl Waiting {
    fn add(&mut self, row: &Row) -> Result<(), SqlFault> {
        let (slot, place): (i16, String) = (row.try_get(0)?, row.try_get(1)?);
        let table_id: i32 = row.try_get(2)?;
        let (attempts, error): (i32, Option<String>) = (row.try_get(4)?, row.try_get(5)?);
        self.rows += 1;
        self.places.entry(slot).or_default().push(place);
        match row.try_get::<_, Option<Vec<String>>>(3)? {
            Some(values) => drop(self.keys.insert(RowKey { table_id, values })),
            None => self.unfit = Some(format!("table {table_id} is to be gone through as a whole")),
        }
        if attempts > 0 {
            let error = error.unwrap_or_default();
            self.unfit = Some(format!("a key of table {table_id} cannot be applied: {error}"));
        }
        if let Some(write) = row.try_get::<_, Raw<'_>>(6)?.0.and_then(|it| it.try_into().ok())
            && self.writes.len() < WRITES_MAX
        {
            let write = WriteId(u128::from_be_bytes(write));
            self.writes.extend((!self.writes.contains(&write)).then_some(write));
        }
        Ok(())
    }

    fn judge(&mut self, overflows: bool, keys_max: usize) {
        if overflows || self.keys.len() > keys_max {
            let why = format!("more than {keys_max} keys wait, which is too much for one batch");
            self.unfit.get_or_insert(why);
        }
    }
}

/// A row is found by its place, which nobody else has had since: the snapshot sees it there.
async fn forget(client: &Lease, places: &BTreeMap<i16, Vec<String>>) -> Result<u64, Halt> {
    let updates = places.iter().map(|(slot, places)| async move {
        let sql = format!(
            "UPDATE segue.outbox SET forgotten_at = pg_catalog.clock_timestamp() \
             WHERE slot = {slot} AND ctid = ANY (ARRAY(SELECT ctid FROM segue.outbox \
                 WHERE slot = {slot} AND ctid = ANY ($1::text::tid[]) FOR UPDATE SKIP LOCKED))"
        );
        let forget = client.prepared(&sql).await.map_err(of_fault)?;
        // As text: the driver has no such type.
        let places = format!("{{{}}}", quoted(places));
        client.execute(&forget.statement, &[&places]).await.map_err(of_fault)
    });
    Ok(futures_util::future::try_join_all(updates).await?.into_iter().sum())
}

fn quoted(places: &[String]) -> String {
    let quoted: Vec<String> = places.iter().map(|place| format!("\"{place}\"")).collect();
    quoted.join(",")
}

fn begin(deadline: Duration, idle: Duration) -> String {
    let (deadline_ms, idle_ms) = (deadline.as_millis().max(1), idle.as_millis().max(1));
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE; SET LOCAL search_path = pg_catalog; \
         SET LOCAL row_security = off; {KEY_TEXTS}; SET LOCAL synchronous_commit = on; \
         SET LOCAL statement_timeout = {deadline_ms}; SET LOCAL lock_timeout = '200ms'; \
         SET LOCAL idle_in_transaction_session_timeout = {idle_ms}; {FOLLOW_THE_INDEX}"
    )
}
