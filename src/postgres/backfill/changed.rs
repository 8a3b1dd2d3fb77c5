//! What was written while a chunk was on its way: keys of its range that its snapshot may not
//! have seen.

use std::collections::BTreeSet;

use crate::domain::backfill::Chunk;
use crate::postgres::backfill::admit::Captured;
use crate::postgres::backfill::begin_looking;
use crate::postgres::backfill::snapshot::{Seen, check_captured};
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::outbox::RowKey;
use crate::postgres::pool::Pool;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};

/// The outbox, looked at again after the chunk was committed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// These keys of the chunk may be stale.
    Keys(BTreeSet<RowKey>),
    /// The outbox no longer has all that was captured since the chunk was begun.
    Unknown,
    /// Writes were missed altogether.
    Void(String),
}

/// Microseconds since 2000 up to which forgotten rows may be gone.
const REMOVED: &str = "\
    SELECT (pg_catalog.date_part('epoch', removed_until - '2000-01-01 00:00:00+00'::timestamptz) \
        * 1000000)::int8 FROM segue.outbox_state WHERE id = 1";

/// Reads `B − A` within the chunk, forgotten rows included. Of a chunk that was begun before,
/// `A` is empty: an earlier attempt may have committed an image of an earlier state.
///
/// What was removed is asked *after* the rows are read: a part of the ring that was emptied
/// before the reading came to it was noted as emptied by then.
// DESIGN's step (3).
pub(super) async fn read(
    source: &Pool,
    chunk: &Chunk,
    shape: &TableShape,
    seen: &Seen,
    captured: Captured,
) -> Result<Changed, Halt> {
    let transaction = Transaction::open(source, &begin_looking()).await?;
    let client = transaction.client()?;
    let same_server = client.facts().incarnation == seen.incarnation;
    let since = (same_server && !chunk.begun_before()).then_some(seen);
    let sql = sql(shape, chunk, since);
    let captured_after = since.and_then(|it| it.captured_after);
    let rows = client.query(&sql, &[&shape.table_id, &captured_after]).await?;
    let mut keys = BTreeSet::new();
    let mut whole = false;
    for row in &rows {
        match row.try_get::<_, Option<Vec<String>>>(0)? {
            Some(values) => drop(keys.insert(RowKey { table_id: shape.table_id, values })),
            None => whole = true,
        }
    }
    let removed = client.query_one(REMOVED, &[]).await.and_then(|row| row.try_get(0));
    let removed: Option<i64> = removed?;
    let stands = check_captured(client, captured).await.map_err(of_fault)?;
    transaction.end("COMMIT").await?;
    if let Err(reason) = stands {
        return Ok(Changed::Void(reason));
    }
    // After `TRUNCATE` any row of the chunk may be gone.
    if whole || removed.is_some_and(|removed| removed >= chunk.begun_at.0) {
        return Ok(Changed::Unknown);
    }
    Ok(Changed::Keys(keys))
}

/// `age` compares transactions across the wrap of their numbers. Only the parts of the ring are
/// read that rows can be in which the snapshot has not seen. Keys of other tables are no values
/// of this one's types, and `CASE` keeps them from being read as such.
fn sql(shape: &TableShape, chunk: &Chunk, since: Option<&Seen>) -> String {
    let within = KeySql::new(shape, Role::Primary, Order::Own).key_within(&chunk.range, "o.key");
    let newer = since.map_or_else(String::new, |seen| {
        format!(" AND pg_catalog.age(o.xmin) <= pg_catalog.age('{}'::pg_catalog.xid)", seen.horizon)
    });
    // Both clocks are the source's; the slots are as capture computes them.
    format!(
        "SELECT DISTINCT o.key FROM segue.outbox AS o \
         WHERE o.table_id = $1{newer} \
         AND ($2::timestamptz IS NULL OR o.slot = ANY (ARRAY( \
             SELECT DISTINCT pg_catalog.mod(g, {OUTBOX_SLOTS})::int2 \
             FROM pg_catalog.generate_series( \
                 greatest(pg_catalog.floor(pg_catalog.date_part('epoch', $2) / {SLOT_SECONDS}), \
                     pg_catalog.floor(pg_catalog.date_part('epoch', \
                         pg_catalog.clock_timestamp()) / {SLOT_SECONDS}) - {OUTBOX_SLOTS})::int8, \
                 pg_catalog.floor(pg_catalog.date_part('epoch', \
                     pg_catalog.clock_timestamp()) / {SLOT_SECONDS})::int8 + 1) AS u(g)))) \
         AND CASE WHEN o.table_id = $1 AND o.key IS NOT NULL THEN {within} ELSE true END"
    )
}
