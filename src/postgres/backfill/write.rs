//! A chunk's rows on their way: from the snapshot into the target, by `COPY` or by `INSERT`.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, pin_mut};

use crate::domain::backfill::{Chunk, Load, Way};
use crate::domain::fault::SqlFault;
use crate::domain::reason::Reason;
use crate::ports::backfill::Meter;
use crate::postgres::backfill::columns::Format;
use crate::postgres::backfill::insert::{self, NotLoaded, Reading, Refusals};
use crate::postgres::backfill::table::{CopyTable, Written};
use crate::postgres::backfill::{begin_writing, held};
use crate::postgres::fence::check_follows;
use crate::postgres::mapping::table::Role;
use crate::postgres::memory::RowMemory;
use crate::postgres::outbox::RowKey;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::reconcile::halt::{Halt, of_fault, on};
use crate::postgres::reconcile::session::{ForeignKeys, Transaction};
use crate::postgres::reconcile::wanted::Wanted;
use crate::postgres::reconcile::weight::{self, Care};

/// Rows are gathered to so much before they go on: PostgreSQL sends each by itself.
const PIECE_BYTES: usize = 64 * 1024;
/// How often rows are sought that stand in the way of the staged ones.
const HELD_ROUNDS: usize = 4;

/// Locks the claim and looks whether it is still the one that this chunk was given by. Whoever
/// takes the chunk over needs the same lock: after this no other may until the transaction has
/// ended, and before it none has.
const LOCK_CLAIM: &str = "\
    SELECT 1 FROM segue.backfill WHERE table_id = $1 AND chunk = $2 AND generation = $3 \
        AND state = 'claimed' FOR UPDATE";

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum NotWritten {
    /// Somebody else has the chunk.
    Lost,
    /// What the halt says.
    Halt(Box<Halt>),
}

impl From<Halt> for NotWritten {
    fn from(halt: Halt) -> Self {
        Self::Halt(Box::new(halt))
    }
}

/// Opens the writing transaction on the target: under the lock of copies to it, so that it does
/// not become the primary before this has ended, and under the chunk's claim.
///
/// If we crash anywhere before its commit, the target rolls back, and the chunk is begun again.
// DESIGN's step (2).
pub(super) async fn begin(
    target: &Pool,
    chunk: &Chunk,
    foreign_keys: ForeignKeys,
    fenced: bool,
) -> Result<Transaction, NotWritten> {
    let transaction =
        Transaction::open_by(target, |facts| begin_writing(facts, foreign_keys, fenced)).await?;
    if fenced {
        follows(transaction.client()?).await?;
    }
    if let Some(generation) = chunk.generation {
        let client = transaction.client()?;
        let lock = client.prepared(LOCK_CLAIM).await.map_err(of_fault)?;
        let id = chunk.id;
        let row = client.query_opt(&lock.statement, &[&id.table_id, &id.number, &generation]).await;
        if row.map_err(of_fault)?.is_none() {
            return Err(NotWritten::Lost);
        }
    }
    Ok(transaction)
}

/// Looks, under the lock of copies, whether the target still follows. A primary is never copied
/// to, however long that is waited for.
async fn follows(target: &Lease) -> Result<(), Halt> {
    let halt = |fault: SqlFault| match fault.reason {
        Reason::FenceNotShadow => Halt::Table(fault.message),
        _ => Halt::Away(fault),
    };
    check_follows(target).await.map_err(halt)
}

/// Which way the rows can go. An `INSERT` passes over what is there already.
pub(super) async fn way(
    target: &Transaction,
    table: &CopyTable,
    chunk: &Chunk,
) -> Result<Way, Halt> {
    if table.load == Load::Insert {
        return Ok(Way::Straight);
    }
    let client = target.client()?;
    let row = client.query_one(&table.any_row(chunk), &[]).await?;
    let any: bool = row.try_get(0)?;
    Ok(if any { Way::Staged } else { Way::Straight })
}

/// Writes the chunk's rows. Nothing is committed yet.
pub(super) async fn write(
    source: &Transaction,
    target: &Transaction,
    table: &CopyTable,
    chunk: &Chunk,
    way: Way,
    (meter, batch_bytes): (&dyn Meter, u64),
) -> Result<Written, NotLoaded> {
    if table.load == Load::Insert {
        let refusals = if way == Way::Staged { Refusals::Sift } else { Refusals::End };
        let reading = Reading { out: table.copy_out(chunk), batch_bytes, meter };
        let mut written = insert::load(source, target, table, refusals, reading).await?;
        let guarded = add_guarded(source, table, chunk, &mut written).await;
        return guarded.map(|()| written).map_err(NotLoaded::NotRead);
    }
    copy(source, target, table, chunk, way, meter).await.map_err(NotLoaded::NotTaken)
}

/// By `COPY`, through a staging table or straight in.
async fn copy(
    source: &Transaction,
    target: &Transaction,
    table: &CopyTable,
    chunk: &Chunk,
    way: Way,
    meter: &dyn Meter,
) -> Result<Written, Halt> {
    let (from, to) = (source.client()?, target.client()?);
    let out = table.copy_out(chunk);
    let mut written = match way {
        Way::Staged => {
            let stage = held::Stage::of(table);
            to.batch_execute(&stage.create()).await?;
            let copy_in = table.copy_in(&stage.name);
            let streamed = stream((from, &out), (to, &copy_in), meter).await?;
            let held = settle(target, table, &stage).await?;
            Written { held, ..streamed }
        }
        _ => {
            let copy_in = table.copy_in(&table.shape.shadow.quoted());
            stream((from, &out), (to, &copy_in), meter).await?
        }
    };
    add_guarded(source, table, chunk, &mut written).await?;
    Ok(written)
}

/// Rows that a guard held back count, and are reconciled after the commit.
async fn add_guarded(
    source: &Transaction,
    table: &CopyTable,
    chunk: &Chunk,
    written: &mut Written,
) -> Result<(), Halt> {
    if let Some(sql) = table.guarded_keys(chunk) {
        let keys = source.client()?.query(&sql, &[]).await?;
        written.rows += keys.len() as u64;
        written.held.extend(held::keys_of(table.shape.table_id, &keys)?);
    }
    Ok(())
}

/// From the staging table into the table: what is there already stays, since it is no older. The
/// conflict that is passed over is that of the primary key alone: a row whose *other* unique
/// value is held by a stale row, or whose parent is missing, is taken out and answered.
async fn settle(
    target: &Transaction,
    table: &CopyTable,
    stage: &held::Stage,
) -> Result<BTreeSet<RowKey>, Halt> {
    let client = target.client()?;
    let insert = stage.insert(table);
    let mut held = BTreeSet::new();
    for _ in 0..HELD_ROUNDS {
        client.batch_execute("SAVEPOINT staged").await?;
        let halt = match client.execute(&insert, &[]).await {
            Ok(_) => {
                client.batch_execute("RELEASE staged").await?;
                return Ok(held);
            }
            Err(fault) => of_fault(fault),
        };
        let takers = match &halt {
            Halt::Unique(_) => stage.blocked_by_uniques(table),
            Halt::ForeignKey(_) => stage.without_parents(table),
            _ => return Err(halt),
        };
        client.batch_execute("ROLLBACK TO staged").await?;
        let mut taken = 0;
        for sql in &takers {
            let rows = client.query(sql, &[]).await?;
            taken += rows.len();
            held.extend(held::keys_of(table.shape.table_id, &rows)?);
        }
        // Whoever was in the way is gone, or cannot be told from here.
        if taken == 0 {
            return Err(halt);
        }
    }
    Err(Halt::Set("rows in the way of the staged ones keep changing".to_owned()))
}

/// How often a row is there while it is streamed: as it is read, in the buffer that it goes through,
/// and once while these grow.
const COPIES: u64 = 3;
/// A stream of small rows.
const STREAM_BYTES: u64 = 512 << 10;
/// Whether a table, or a part of it, has rows that do not fit a page.
const HAS_LARGE: &str = "\
    SELECT coalesce(sum(pg_catalog.pg_relation_size(c.reltoastrelid)), 0) > 0 \
    FROM pg_catalog.pg_class AS c WHERE c.reltoastrelid <> 0 AND (c.oid = $1::text::regclass \
        OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1::text::regclass) AS p))";

/// Memory that a chunk takes whose largest row has so many bytes.
pub(super) fn memory(load: Load, all: &RowMemory, largest: u64) -> u64 {
    let rows = largest.saturating_mul(COPIES);
    match load {
        Load::Copy => rows.max(STREAM_BYTES),
        Load::Insert => rows.saturating_add(insert::memory(all)),
    }
}

/// About how many bytes the largest row of the chunk has; 0 where the table has no rows that do not
/// fit a page, which is asked without reading any.
pub(super) async fn largest(
    source: &Transaction,
    table: &CopyTable,
    chunk: &Chunk,
) -> Result<u64, Halt> {
    let client = source.client()?;
    let size = weight::of_row(&table.shape, Role::Primary, Wanted::Columns, Care::OfLarge);
    let Some(size) = size.filter(|_| client.dialect().tells_sizes()) else { return Ok(0) };
    let asked = client.prepared(HAS_LARGE).await.map_err(of_fault)?;
    let name = table.shape.primary.quoted();
    let row = client.query_one(&asked.statement, &[&name]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let sql = format!(
        "SELECT coalesce(pg_catalog.max({size}), 0) FROM {name} AS t WHERE {}",
        table.key().rows_within(&chunk.range)
    );
    let row = client.query_one(&sql, &[]).await?;
    let bytes: f64 = row.try_get(0)?;
    // Never negative, and of some gigabytes at most.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let bytes = bytes.max(0.0) as u64;
    // As text, bytes have two digits each.
    Ok(if table.columns.format == Format::Text { bytes * 2 } else { bytes })
}

/// Streams one `COPY` into another. Both sides hold back: what is not taken is not read.
async fn stream(
    (from, out): (&Lease, &str),
    (to, copy_in): (&Lease, &str),
    meter: &dyn Meter,
) -> Result<Written, Halt> {
    let (source, target) = (on(from.side()), on(to.side()));
    let reading = from.driver().copy_out(out).await.map_err(source)?;
    let writing = to.driver().copy_in::<_, Bytes>(copy_in).await.map_err(target)?;
    pin_mut!(reading, writing);
    let mut piece = BytesMut::with_capacity(PIECE_BYTES * 2);
    let (mut bytes, mut pending_rows, mut largest) = (0_u64, 0_u64, 0);
    while let Some(part) = reading.next().await {
        let part = part.map_err(source)?;
        bytes += part.len() as u64;
        largest = largest.max(part.len());
        pending_rows += 1;
        if part.len() >= PIECE_BYTES {
            // A large row goes on as it is, behind those before it.
            if !piece.is_empty() {
                writing.feed(piece.split().freeze()).await.map_err(target)?;
            }
            meter.pass(pending_rows, part.len() as u64).await;
            pending_rows = 0;
            writing.send(part).await.map_err(target)?;
            continue;
        }
        piece.extend_from_slice(&part);
        if piece.len() >= PIECE_BYTES {
            meter.pass(pending_rows, piece.len() as u64).await;
            pending_rows = 0;
            writing.send(piece.split().freeze()).await.map_err(target)?;
        }
    }
    meter.pass(pending_rows, piece.len() as u64).await;
    writing.send(piece.freeze()).await.map_err(target)?;
    let rows = writing.finish().await.map_err(target)?;
    Ok(Written { rows, bytes, largest, held: BTreeSet::new() })
}

impl Format {
    /// For logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Text => "text",
        }
    }
}
