//! A chunk's rows written by `INSERT`, many a statement. CockroachDB takes them no other way: it
//! refuses `COPY` in the extended protocol, and in the simple one it changes `bytea` and `jsonb`.
//!
//! Rows whose primary key is there already are left as they are: what capture brought is no older.

use std::collections::BTreeSet;
use std::ops::Range;
use std::pin::Pin;

use futures_util::future::{try_join, try_join_all};
use futures_util::stream::Fuse;
use futures_util::{StreamExt, TryFutureExt};
use tokio_postgres::CopyOutStream;

use crate::ports::backfill::Meter;
use crate::postgres::backfill::batch::{Batch, insert, is_by_array};
use crate::postgres::backfill::table::{CopyTable, Written};
use crate::postgres::memory::RowMemory;
use crate::postgres::outbox::RowKey;
use crate::postgres::pool::Lease;
use crate::postgres::reconcile::halt::{Halt, of_fault, on};
use crate::postgres::reconcile::session::Transaction;

/// Rows of one statement. More of them gain nothing: a round trip is a small part of the time that
/// they take.
const ROWS_MAX: usize = 1000;
/// Rows of one statement that has a parameter for each cell, largest first: few texts, so that few
/// statements are prepared.
const EACH_ROWS: [usize; 3] = [64, 8, 1];
/// The protocol's limit on the parameters of one statement.
const PARAMETERS_MAX: usize = 65_535;
/// Bytes of one statement's rows, by default: far below the 16 MiB of a message that CockroachDB
/// takes (`sql.conn.max_read_buffer_message_size`).
const BYTES_MAX: u64 = 512 << 10;
/// The part of all memory for rows that one statement's may have.
const BYTES_SHARE: u64 = 32;
/// What is there at once: rows that are read while those before them are written, as they came, as
/// parameters, and in the message.
const COPIES: u64 = 4;
/// So many rows of a statement are sought one by one that the target refuses; the others with them
/// are left to reconcile, which is no slower then.
const REFUSED_MAX: usize = 16;

/// What becomes of rows that the target refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusals {
    /// They end the chunk.
    End,
    /// They are found under savepoints, and answered.
    Sift,
}

/// Bytes of rows that one statement may have, with so much memory for all.
pub(super) fn batch_bytes(memory: &RowMemory) -> u64 {
    BYTES_MAX.min(memory.state().bytes_max / BYTES_SHARE)
}

/// Memory that such a chunk takes beside its largest row.
pub(super) fn memory(memory: &RowMemory) -> u64 {
    batch_bytes(memory).saturating_mul(COPIES)
}

/// What is read, and how much at once.
pub(super) struct Reading<'a> {
    /// The statement that the source answers with a binary stream.
    pub(super) out: String,
    pub(super) batch_bytes: u64,
    pub(super) meter: &'a dyn Meter,
}

/// Why rows were not inserted.
pub(super) enum NotLoaded {
    /// The source does not give them: its snapshot is of no use any more.
    NotRead(Halt),
    /// The target does not take them.
    NotTaken(Halt),
}

impl From<NotLoaded> for Halt {
    fn from(not: NotLoaded) -> Self {
        match not {
            NotLoaded::NotRead(halt) | NotLoaded::NotTaken(halt) => halt,
        }
    }
}

/// Reads rows on the source and inserts them on the target, side by side. Nothing is committed.
pub(super) async fn load(
    source: &Transaction,
    target: &Transaction,
    table: &CopyTable,
    refusals: Refusals,
    reading: Reading<'_>,
) -> Result<Written, NotLoaded> {
    let from = source.client().map_err(NotLoaded::NotRead)?;
    let unread = |error| NotLoaded::NotRead(on(source.side())(error));
    let stream = from.driver().copy_out(&reading.out).await.map_err(unread)?;
    // Asked again after its end, the stream would take another statement's answer for its own.
    let stream = Box::pin(stream.fuse());
    let mut rows = Rows { stream, source, table, first: true, reading };
    let client = target.client().map_err(NotLoaded::NotTaken)?;
    let into = Into { client, table };
    let mut written = Written::default();
    let mut batch = rows.next().await.map_err(NotLoaded::NotRead)?;
    while batch.rows() > 0 {
        written.rows += batch.rows() as u64;
        written.bytes += batch.bytes as u64;
        written.largest = written.largest.max(batch.largest);
        // With a large row in it nothing else is read meanwhile.
        let large = batch.bytes as u64 > rows.reading.batch_bytes.saturating_mul(2);
        let insert = into.insert(&batch, refusals).map_err(NotLoaded::NotTaken);
        let (held, next) = if large {
            let held = insert.await?;
            drop(batch);
            (held, rows.next().await.map_err(NotLoaded::NotRead)?)
        } else {
            try_join(insert, rows.next().map_err(NotLoaded::NotRead)).await?
        };
        written.held.extend(held);
        batch = next;
    }
    Ok(written)
}

/// The source's rows, by the batch.
struct Rows<'a> {
    stream: Pin<Box<Fuse<CopyOutStream>>>,
    source: &'a Transaction,
    table: &'a CopyTable,
    first: bool,
    reading: Reading<'a>,
}

impl Rows<'_> {
    /// The next rows; none at the end.
    async fn next(&mut self) -> Result<Batch, Halt> {
        let width = self.table.columns.given.len() + self.table.shape.key.len();
        let mut batch = Batch::of_width(width);
        while batch.rows() < ROWS_MAX && (batch.bytes as u64) < self.reading.batch_bytes {
            let Some(piece) = self.stream.next().await else { break };
            let piece = piece.map_err(on(self.source.side()))?;
            batch.add(piece, &mut self.first).map_err(|_| {
                Halt::Set(format!(
                    "the {} sent a COPY stream that is malformed",
                    self.source.side()
                ))
            })?;
        }
        self.reading.meter.pass(batch.rows() as u64, batch.bytes as u64).await;
        Ok(batch)
    }
}

/// Where rows go.
struct Into<'a> {
    client: &'a Lease,
    table: &'a CopyTable,
}

impl Into<'_> {
    /// Inserts a batch, and answers the keys of rows that were not.
    async fn insert(&self, batch: &Batch, refusals: Refusals) -> Result<BTreeSet<RowKey>, Halt> {
        match refusals {
            Refusals::End => self.send(batch, 0..batch.rows()).await.map(|()| BTreeSet::new()),
            Refusals::Sift => self.sift(batch).await,
        }
    }

    /// Inserts what can be: a part that the target refuses is halved, down to single rows.
    async fn sift(&self, batch: &Batch) -> Result<BTreeSet<RowKey>, Halt> {
        let (mut held, mut refused) = (BTreeSet::new(), 0);
        let whole = 0..batch.rows();
        let mut parts = vec![whole];
        while let Some(part) = parts.pop() {
            self.client.batch_execute("SAVEPOINT rows").await?;
            match self.send(batch, part.clone()).await {
                Ok(()) => self.client.batch_execute("RELEASE SAVEPOINT rows").await?,
                Err(Halt::Unique(_) | Halt::ForeignKey(_) | Halt::Set(_)) => {
                    let back = "ROLLBACK TO SAVEPOINT rows; RELEASE SAVEPOINT rows";
                    self.client.batch_execute(back).await?;
                    if part.len() <= 1 || refused >= REFUSED_MAX {
                        refused += 1;
                        held.extend(part.map(|row| self.key(batch, row)));
                    } else {
                        let middle = part.start + part.len() / 2;
                        parts.extend([middle..part.end, part.start..middle]);
                    }
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(held)
    }

    async fn send(&self, batch: &Batch, mut rows: Range<usize>) -> Result<(), Halt> {
        let CopyTable { shape, columns, .. } = self.table;
        let mut statements = Vec::new();
        while !rows.is_empty() {
            let count = if is_by_array(columns) {
                rows.len()
            } else {
                let fits = |count: &usize| {
                    *count <= rows.len() && count * columns.given.len() <= PARAMETERS_MAX
                };
                EACH_ROWS.into_iter().find(fits).unwrap_or(1)
            };
            let now = rows.start..rows.start + count;
            rows.start = now.end;
            let sql = insert(shape, columns, count);
            statements.push((self.client.prepared(&sql).await.map_err(of_fault)?, now));
        }
        // All of them are sent before the first answer is awaited.
        let sent = statements.iter().map(|(statement, rows)| {
            let params = batch.params(columns, rows.clone());
            self.client.execute_raw(&statement.statement, params)
        });
        try_join_all(sent).await?;
        Ok(())
    }

    /// The key's texts come after the columns.
    fn key(&self, batch: &Batch, row: usize) -> RowKey {
        let first = self.table.columns.given.len();
        let text = |column| {
            let cell = batch.cell(row, first + column).unwrap_or_default();
            String::from_utf8_lossy(cell).into_owned()
        };
        let values = (0..self.table.shape.key.len()).map(text).collect();
        RowKey { table_id: self.table.shape.table_id, values }
    }
}
