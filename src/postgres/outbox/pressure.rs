//! What is done about an outbox that has become too large.
//!
//! What is done goes first: it is kept for a failover only, and never counts against the limit.
//! Where the keys that wait pass it by themselves, they are folded into ranges of their tables'
//! keys, and where these pass it as well, into the whole tables
//! ([`crate::postgres::outbox::fold`]). Capture stands all the time, and no write is refused.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::domain::fault::SqlFault;
use crate::ports::reconcile::OutboxSize;
use crate::postgres::outbox::fold::{Folding, fold_ranges, fold_window, forget_stale};
use crate::postgres::outbox::place_of;
use crate::postgres::outbox::ranges;
use crate::postgres::outbox::upkeep::{Keep, OutboxUpkeep, remove_sql};
use crate::postgres::pool::Lease;
use crate::postgres::schema::OUTBOX_SLOTS;
use crate::postgres::session::asked::Row;

/// What a row takes in the indexes, beside its own bytes.
pub(super) const INDEX_BYTES: i64 = 64;
/// About what a waiting row takes where no server tells.
pub(super) const ROW_BYTES: i64 = 200;
/// Blocks of a part that one statement goes through: some 30,000 rows, a tenth of a second.
const WINDOW_BLOCKS: i64 = 512;
/// A part that has grown by less than this share of the limit since it was last rid of what is
/// done is left alone.
const GROWN_BY: u64 = 16;

/// Sizes of the parts of the ring.
const PARTS: &str = "\
    SELECT p.relid::pg_catalog.regclass::text, pg_catalog.pg_total_relation_size(p.relid), \
        pg_catalog.pg_relation_size(p.relid) \
            / pg_catalog.current_setting('block_size')::int8 \
    FROM pg_catalog.pg_partition_tree('segue.outbox') AS p WHERE p.isleaf";

/// One part of the ring.
#[derive(Debug, Clone, Copy)]
struct Part {
    slot: i16,
    bytes: u64,
    blocks: i64,
}

/// The keys of one table that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    table_id: i32,
    bytes: u64,
}

impl OutboxUpkeep {
    pub(super) async fn check(&self) -> Result<OutboxSize, SqlFault> {
        let client = self.outbox.client().await?;
        let limit = self.params.bytes_max;
        forget_stale(&client, self.outbox.side()).await?;
        let bytes = self.bytes(&client).await?;
        if bytes <= limit {
            self.outbox.keep_window(true);
            return Ok(OutboxSize { bytes, ..OutboxSize::default() });
        }
        let window_shrunk = self.remove_done(&client).await?;
        let (mut bytes, mut waiting) =
            (self.bytes(&client).await?, self.waiting_by_table(&client).await?);
        let mut found = OutboxSize { window_shrunk, ..OutboxSize::default() };
        // Keys that fail have reasons that are worth keeping: they go last.
        for attempts_max in [0, i32::MAX] {
            let pending = sum(&waiting);
            if pending <= limit {
                break;
            }
            let tables = largest(&waiting, pending - limit / 2);
            found.folded += self.fold(&client, &tables, attempts_max).await?;
            (bytes, waiting) = (self.bytes(&client).await?, self.waiting_by_table(&client).await?);
        }
        // What stands for ranges takes next to nothing, unless there are very many tables.
        if sum(&waiting) > limit {
            for table_id in largest(&waiting, sum(&waiting) - limit / 2) {
                let folding = self.folding(table_id, i32::MAX);
                fold_ranges(&client, &folding).await?;
            }
            (bytes, waiting) = (self.bytes(&client).await?, self.waiting_by_table(&client).await?);
        }
        Ok(OutboxSize { bytes, pending_bytes: sum(&waiting), ..found })
    }

    /// Bytes on disk.
    async fn bytes(&self, client: &Lease) -> Result<u64, SqlFault> {
        if !client.dialect().has_outbox_ring() {
            return Ok(sum(&self.waiting_by_table(client).await?));
        }
        Ok(parts(client).await?.iter().map(|part| part.bytes).sum())
    }

    /// Removes what is done before its window is over. What a chunk of the backfill asks for
    /// stays, unless it alone is twice the limit: the chunk notices, and makes its range equal.
    /// Answers whether there was anything: a part that was rid of it keeps its size on disk, and
    /// is left alone until it has grown again.
    async fn remove_done(&self, client: &Lease) -> Result<bool, SqlFault> {
        let emptied = self.truncate(Keep::Held).await?;
        let limit = self.params.bytes_max;
        if !client.dialect().has_outbox_ring() {
            return Ok(emptied > 0);
        }
        let held = client.query_one(IS_HELD, &[]).await?;
        let held: bool = held.try_get(0)?;
        let mut grown = parts(client).await?;
        grown.retain(|part| self.has_grown(*part));
        // A row that is deleted as it is forgotten has no second version.
        self.outbox.keep_window(held || grown.is_empty());
        for part in &grown {
            self.thin(client, *part, Keep::Held).await?;
        }
        let left: u64 = parts(client).await?.iter().map(|part| part.bytes).sum();
        if held && left > limit.saturating_mul(2) {
            tracing::warn!(
                bytes = left,
                "what a chunk of the backfill asks for in the outbox goes; its range is made equal \
                 key by key instead"
            );
            for part in parts(client).await? {
                self.thin(client, part, Keep::Nothing).await?;
            }
        }
        let shrunk = emptied > 0 || !grown.is_empty();
        if shrunk {
            tracing::warn!(
                bytes = left,
                "the outbox is over its limit; what is done goes before its window is over"
            );
        }
        Ok(shrunk)
    }

    fn has_grown(&self, part: Part) -> bool {
        let thinned = self.thinned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = thinned.get(&part.slot).copied();
        part.blocks > 0
            && before.is_none_or(|before| {
                part.bytes < before || part.bytes - before > self.params.bytes_max / GROWN_BY
            })
    }

    /// Removes what is done from a part that has keys that wait, block by block, and makes the
    /// space free. If we crash here, the rest is removed the next time.
    async fn thin(&self, client: &Lease, part: Part, keep: Keep) -> Result<(), SqlFault> {
        let table = format!("segue.outbox_{}", part.slot);
        let age_s = 0.0_f64;
        for blocks in windows(part.blocks) {
            let within = format!(" AND {}", within(&blocks));
            let sql = remove_sql(&table, place_of(client).0, keep, &within);
            client.execute(&sql, &[&age_s, &i64::MAX]).await?;
        }
        // Not waited for where the server is at it already.
        let freed = client.batch_execute(&format!("VACUUM (SKIP_LOCKED) {table}")).await;
        if let Err(error) = freed {
            tracing::warn!(%table, %error, "space of what is done is made free later");
        }
        let now = parts(client).await?.into_iter().find(|now| now.slot == part.slot);
        let mut thinned = self.thinned.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        thinned.insert(part.slot, now.map_or(0, |now| now.bytes));
        Ok(())
    }

    fn folding(&self, table_id: i32, attempts_max: i32) -> Folding {
        let (limit, side) = (self.params.bytes_max, self.outbox.side());
        Folding { table_id, attempts_max, limit, side, order: None }
    }

    /// Folds what waits of these tables, window by window, each in a transaction of its own.
    async fn fold(
        &self,
        client: &Lease,
        tables: &[i32],
        attempts_max: i32,
    ) -> Result<u64, SqlFault> {
        let side = self.outbox.side();
        let mut foldings = BTreeMap::new();
        for table_id in tables {
            let order = ranges::cut(client, side, *table_id).await;
            let folding = Folding { order, ..self.folding(*table_id, attempts_max) };
            foldings.insert(*table_id, folding);
        }
        let mut folded = 0;
        if !client.dialect().has_outbox_ring() {
            let window = format!("true LIMIT {}", self.params.rows_max);
            for folding in foldings.values() {
                while let rows @ 1.. = fold_window(client, folding, "segue.outbox", &window).await?
                {
                    folded += rows;
                }
            }
            return Ok(folded);
        }
        for part in parts(client).await? {
            let table = format!("segue.outbox_{}", part.slot);
            for blocks in windows(part.blocks) {
                let window = within(&blocks);
                for table_id in in_window(client, &table, &window, tables).await? {
                    if let Some(folding) = foldings.get(&table_id) {
                        folded += fold_window(client, folding, &table, &window).await?;
                    }
                }
            }
            if folded > 0
                && let Err(error) =
                    client.batch_execute(&format!("VACUUM (SKIP_LOCKED) {table}")).await
            {
                tracing::warn!(%table, %error, "space of what is folded is made free later");
            }
        }
        Ok(folded)
    }

    /// What waits, by table, most first: keys, and what stands for ranges of them.
    async fn waiting_by_table(&self, client: &Lease) -> Result<Vec<Waiting>, SqlFault> {
        let has_ring = client.dialect().has_outbox_ring();
        let mut tables = BTreeMap::<i32, u64>::new();
        let slots = if has_ring { OUTBOX_SLOTS } else { 1 };
        for slot in 0..slots {
            let (table, bytes) = match has_ring {
                true => (format!("segue.outbox_{slot}"), sized("o")),
                false => ("segue.outbox".to_owned(), format!("pg_catalog.count(*) * {ROW_BYTES}")),
            };
            let sql = format!(
                "SELECT o.table_id, ({bytes})::int8 FROM {table} AS o \
                 WHERE o.forgotten_at IS NULL AND (o.key IS NOT NULL OR o.write_id IS NOT NULL) \
                 GROUP BY o.table_id"
            );
            for row in client.query(&sql, &[]).await? {
                let table_id = row.try_get(0)?;
                let bytes: i64 = row.try_get(1)?;
                *tables.entry(table_id).or_default() += bytes.max(0).unsigned_abs();
            }
        }
        let waiting = tables.into_iter().map(|(table_id, bytes)| Waiting { table_id, bytes });
        let mut waiting: Vec<Waiting> = waiting.collect();
        waiting.sort_by_key(|it| std::cmp::Reverse(it.bytes));
        Ok(waiting)
    }
}

/// The tables among these that have keys in a window, so that others are not looked for there.
async fn in_window(
    client: &Lease,
    part: &str,
    window: &str,
    tables: &[i32],
) -> Result<Vec<i32>, SqlFault> {
    let sql = format!(
        "SELECT DISTINCT table_id FROM {part} WHERE forgotten_at IS NULL AND key IS NOT NULL \
             AND table_id = ANY ($1) AND {window} ORDER BY 1"
    );
    let rows = client.query(&sql, &[&tables]).await?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()
}

const IS_HELD: &str = "SELECT EXISTS (SELECT 1 FROM segue.outbox_hold AS h \
    WHERE h.until > pg_catalog.clock_timestamp())";

/// SQL of the bytes that the rows `o` take, with their index entries.
pub(super) fn sized(rows: &str) -> String {
    format!(
        "coalesce(pg_catalog.sum(pg_catalog.pg_column_size({rows})), 0) \
         + pg_catalog.count(*) * {INDEX_BYTES}"
    )
}

async fn parts(client: &Lease) -> Result<Vec<Part>, SqlFault> {
    let rows = client.query(PARTS, &[]).await?;
    let part = |row: &Row| -> Result<Option<Part>, SqlFault> {
        let name: String = row.try_get(0)?;
        let slot = name.rsplit('_').next().and_then(|slot| slot.parse().ok());
        let bytes = row.try_get::<_, i64>(1)?.max(0).unsigned_abs();
        let blocks = row.try_get(2)?;
        Ok(slot.map(|slot| Part { slot, bytes, blocks }))
    };
    let parts = rows.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    Ok(parts.into_iter().flatten().collect())
}

fn windows(blocks: i64) -> impl Iterator<Item = Range<i64>> {
    (0..blocks.div_euclid(WINDOW_BLOCKS) + 1)
        .map(|window| window * WINDOW_BLOCKS..(window + 1) * WINDOW_BLOCKS)
}

fn within(blocks: &Range<i64>) -> String {
    format!("ctid >= '({},0)'::tid AND ctid < '({},0)'::tid", blocks.start, blocks.end)
}

fn sum(waiting: &[Waiting]) -> u64 {
    waiting.iter().map(|it| it.bytes).sum()
}

/// The largest tables that have so many bytes together.
fn largest(waiting: &[Waiting], bytes: u64) -> Vec<i32> {
    let mut taken = 0;
    let mut tables = Vec::new();
    for table in waiting {
        if taken >= bytes {
            break;
        }
        taken += table.bytes;
        tables.push(table.table_id);
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_tables_are_taken_and_no_more_than_needed() {
        let waiting = [(3, 700), (1, 200), (2, 100)];
        let waiting = waiting.map(|(table_id, bytes)| Waiting { table_id, bytes });
        assert_eq!(largest(&waiting, 500), [3]);
        assert_eq!(largest(&waiting, 800), [3, 1]);
        assert_eq!(largest(&waiting, u64::MAX), [3, 1, 2]);
    }

    #[test]
    fn every_block_is_in_one_window() {
        let all: Vec<_> = windows(1025).collect();
        assert_eq!(all, [0..512, 512..1024, 1024..1536]);
        assert_eq!(windows(0).count(), 1);
    }
}
