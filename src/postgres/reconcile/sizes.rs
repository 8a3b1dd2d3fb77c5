//! How large rows are, asked before they are read: what a set may take is counted in bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::pg_type::Column;
use crate::domain::table::quote_identifier;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::attempt::group;
use crate::postgres::reconcile::halt::{Halt, of_fault, on};
use crate::postgres::reconcile::read::TableKeys;
use crate::postgres::reconcile::session::{Transaction, begin_primary};
use crate::postgres::reconcile::shape::{Role, TableShape};

/// Bytes that the rows of one set may have on one side. Both sides' rows are there at once, and
/// what is written once more.
pub(super) const SET_BYTES: u64 = 4 << 20;
/// A set that is not known yet is taken to have so many bytes at least.
const SET_BYTES_MIN: u64 = 256 << 10;
/// A row from here on goes alone, and its large values only where they differ.
pub(super) const WIDE_BYTES: u64 = 2 * SET_BYTES;
/// What a deadline grows by: a slow line and a slow disk carry so many bytes in a second, on the
/// way out and in.
const BYTES_PER_SECOND: u64 = 8 << 20;
/// The most that it grows by: the claim of the key ends when nothing is heard of it for 90 s.
const GROWN_MAX: Duration = Duration::from_secs(60);
/// How many bytes of a value stand behind one byte on the server's disk, where only that is told.
const COMPRESSED_BY: u32 = 4;

/// What is known of the sizes of rows.
#[derive(Debug)]
pub(super) struct Sizes {
    /// Bytes of a key's row lately, on average.
    usual: AtomicU64,
}

/// What a set may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes that its rows are taken to have.
    pub(super) bytes: u64,
    /// Bytes past which reading them ends.
    pub(super) bytes_max: u64,
    /// One attempt's limit.
    pub(super) deadline: Duration,
}

/// What was read so far of a set, on one side.
#[derive(Debug)]
pub(in crate::postgres) struct Meter {
    read: AtomicU64,
    bytes_max: u64,
}

// === impl Meter ===

impl Meter {
    /// Nothing was read so far, and this is the most.
    pub(in crate::postgres) fn new(bytes_max: u64) -> Self {
        Self { read: AtomicU64::new(0), bytes_max }
    }

    /// Counts a row.
    ///
    /// # Errors
    ///
    /// [`Halt::Large`] where it is more than there is room for.
    pub(super) fn count(&self, bytes: usize) -> Result<(), Halt> {
        let bytes = bytes as u64;
        let before = self.read.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.bytes_max { Err(Halt::Large) } else { Ok(()) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self { usual: AtomicU64::new(SET_BYTES_MIN / 500) }
    }
}

// === impl Sizes ===

impl Sizes {
    /// The room of a set whose rows were measured.
    pub(super) fn measured(keys: usize, bytes: u64, deadline: Duration) -> Room {
        // What was measured is an estimate: a row that goes alone is read whatever it has.
        let bytes_max = if keys == 1 { u64::MAX } else { SET_BYTES.max(bytes).saturating_mul(2) };
        let more = Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND);
        let deadline = if bytes > SET_BYTES { deadline + more.min(GROWN_MAX) } else { deadline };
        Room { bytes, bytes_max, deadline }
    }

    /// The room of a set of which nothing is known but how large rows were lately.
    pub(super) fn guessed(&self, keys: usize, deadline: Duration) -> Room {
        let usual = self.usual.load(Ordering::Relaxed).saturating_mul(keys as u64);
        let bytes = usual.saturating_mul(2).clamp(SET_BYTES_MIN, SET_BYTES);
        Room { bytes, bytes_max: SET_BYTES, deadline }
    }

    /// Whether rows were so large lately that a set of so many is measured first.
    pub(super) fn are_large(&self, keys: usize) -> bool {
        self.usual.load(Ordering::Relaxed).saturating_mul(keys as u64) > SET_BYTES / 2
    }

    /// Rows of so many keys had so many bytes.
    pub(super) fn seen(&self, keys: usize, bytes: u64) {
        let now = bytes / (keys as u64).max(1);
        let before = self.usual.load(Ordering::Relaxed);
        self.usual.store((before * 3 + now) / 4, Ordering::Relaxed);
    }
}

impl Reconciler {
    /// The room of a set; none where its rows were measured and have to go in parts.
    ///
    /// # Errors
    ///
    /// A side that is away.
    pub(super) async fn room(
        &self,
        set: &BTreeSet<RowKey>,
        known: &mut BTreeMap<RowKey, u64>,
    ) -> Result<Option<Room>, SqlFault> {
        let deadline = self.params.deadline;
        if !set.iter().all(|key| known.contains_key(key)) {
            if !self.sizes.are_large(set.len()) {
                return Ok(Some(self.sizes.guessed(set.len(), deadline)));
            }
            self.measure(set, known).await;
        }
        let bytes = set.iter().filter_map(|key| known.get(key)).sum();
        if bytes > SET_BYTES && set.len() > 1 {
            return Ok(None);
        }
        Ok(Some(Sizes::measured(set.len(), bytes, deadline)))
    }

    /// Notes the sizes of a set's rows. Where they cannot be had, each is taken to be a set of its
    /// own: the attempt finds out what is wrong.
    pub(super) async fn measure(&self, set: &BTreeSet<RowKey>, known: &mut BTreeMap<RowKey, u64>) {
        match self.sizes(set).await {
            Ok(sizes) => known.extend(sizes),
            Err(halt) => {
                tracing::debug!(?halt, "the sizes of rows are not known");
                known.extend(set.iter().map(|key| (key.clone(), SET_BYTES)));
            }
        }
    }

    /// About how many bytes the row of each key has, on the side where it is larger.
    pub(super) async fn sizes(
        &self,
        keys: &BTreeSet<RowKey>,
    ) -> Result<BTreeMap<RowKey, u64>, Halt> {
        let shapes = self.shapes().await?;
        let tables = group(keys, &shapes)?;
        let side = |role| {
            let tables = &tables;
            async move {
                let begin = begin_primary(self.params.deadline);
                let transaction = Transaction::open(self.pool(role), &begin).await?;
                let of = |table| measure(&transaction, role, table);
                let sizes = try_join_all(tables.iter().map(of)).await?;
                transaction.end("ROLLBACK").await?;
                Ok::<_, Halt>(sizes)
            }
        };
        let (primary, shadow) = tokio::join!(side(Role::Primary), side(Role::Shadow));
        let mut sizes: BTreeMap<RowKey, u64> = keys.iter().map(|key| (key.clone(), 0)).collect();
        for (place, bytes) in primary?.into_iter().chain(shadow?).flatten() {
            if let Some(known) = sizes.get_mut(&place) {
                *known = bytes.max(*known);
            }
        }
        Ok(sizes)
    }
}

async fn measure(
    transaction: &Transaction,
    role: Role,
    table: &TableKeys,
) -> Result<Vec<(RowKey, u64)>, Halt> {
    let (client, on) = (transaction.client()?, on(transaction.side()));
    let statement = client.prepared(&sql(&table.shape, role)).await.map_err(of_fault)?;
    let arrays = table.arrays(&(0..table.keys.len()));
    let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
    let mut sizes = Vec::new();
    for row in client.query(&statement.statement, &params).await.map_err(on)? {
        let (place, bytes): (i64, i64) = (row.try_get(0).map_err(on)?, row.try_get(1).map_err(on)?);
        let values = usize::try_from(place - 1).ok().and_then(|place| table.keys.get(place));
        if let Some(values) = values {
            let key = RowKey { table_id: table.shape.table_id, values: values.clone() };
            sizes.push((key, bytes.max(0).unsigned_abs()));
        }
    }
    Ok(sizes)
}

fn sql(shape: &TableShape, role: Role) -> String {
    let columns = match role {
        Role::Primary => &shape.primary_columns,
        Role::Shadow => &shape.shadow_columns,
    };
    let sizes: Vec<String> = columns.iter().map(size_of).collect();
    format!(
        "SELECT k.n, ({})::int8 FROM {} JOIN {} AS t ON {}",
        if sizes.is_empty() { "0".to_owned() } else { sizes.join(" + ") },
        shape.key_source(),
        shape.quoted(role),
        shape.key_match(role, |index| format!("k.k{}", index + 1))
    )
}

/// Of texts and bytes the server knows the size without unpacking them.
fn size_of(column: &Column) -> String {
    let name = format!("t.{}", quote_identifier(&column.name));
    match is_plain(column) {
        true => format!("coalesce(pg_catalog.octet_length({name}), 0)::int8"),
        false => {
            format!("coalesce(pg_catalog.pg_column_size({name}), 0)::int8 * {COMPRESSED_BY}")
        }
    }
}

/// `text`, `varchar`, `char(n)`, `bytea`.
fn is_plain(column: &Column) -> bool {
    matches!(column.ty.oid, 25 | 1043 | 1042 | 17)
}

/// Parts of a set by their bytes, in order; a row that is too large for one is a part of its own.
pub(super) fn parts(set: BTreeSet<RowKey>, sizes: &BTreeMap<RowKey, u64>) -> Vec<BTreeSet<RowKey>> {
    let mut parts = vec![BTreeSet::new()];
    let mut room = SET_BYTES;
    for key in set {
        let bytes = sizes.get(&key).copied().unwrap_or(0);
        let full = parts.last().is_some_and(|part| !part.is_empty()) && bytes > room;
        if full {
            parts.push(BTreeSet::new());
            room = SET_BYTES;
        }
        room = room.saturating_sub(bytes);
        if let Some(part) = parts.last_mut() {
            part.insert(key);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> RowKey {
        RowKey { table_id: 1, values: vec![format!("{number:04}")] }
    }

    #[test]
    fn sets_are_cut_by_bytes_and_a_large_row_goes_alone() {
        let sizes = [1, SET_BYTES, 10, 10, SET_BYTES * 100, 1];
        let sizes: BTreeMap<_, _> = (0..).map(key).zip(sizes).collect();
        let parts = parts(sizes.keys().cloned().collect(), &sizes);
        let found: Vec<usize> = parts.iter().map(BTreeSet::len).collect();
        assert_eq!(found, [1, 1, 2, 1, 1]);
    }

    #[test]
    fn deadlines_grow_with_size_and_end_before_the_claim() {
        let second = Duration::from_secs(1);
        let of = |bytes| Sizes::measured(1, bytes, second).deadline;
        assert_eq!(of(1000), second);
        assert_eq!(of(80 << 20), second * 11);
        assert_eq!(of(1 << 40), second * 61);
    }

    #[test]
    fn rows_that_were_large_lately_are_measured_first() {
        let sizes = Sizes::default();
        assert!(!sizes.are_large(500));
        sizes.seen(10, 40 << 20);
        assert!(sizes.are_large(500) && sizes.are_large(2) && !sizes.are_large(1));
        for _ in 0..50 {
            sizes.seen(500, 50_000);
        }
        assert!(!sizes.are_large(500));
    }
}
