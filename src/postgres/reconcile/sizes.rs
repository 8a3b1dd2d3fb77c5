//! How large rows are, asked before they are read: what a set may take is counted in bytes.
//!
//! Most sets are small. Their rows are read at once, by a statement that ends before its first row
//! where they are more than there is room for. Then the servers are asked for the size of each,
//! and the set goes in parts; where rows of a table were large lately, they are asked first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::key::KeyValues;
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::Role;
use crate::postgres::memory::HeldRows;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::group::group;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::read::TableKeys;
use crate::postgres::reconcile::select;
use crate::postgres::reconcile::session::Transaction;

/// Bytes that the rows of one set may have on one side.
pub(super) const SET_BYTES: u64 = 4 << 20;
/// A set that is not known yet is taken to have so many bytes at least.
const SET_BYTES_MIN: u64 = 256 << 10;
/// A row from here on goes alone, and its large values only where they differ.
const WIDE_BYTES: u64 = 2 * SET_BYTES;
/// How often the rows of a set are there at once: of both sides, as parameters, and in the
/// message that they go out in.
pub(super) const COPIES: u64 = 4;
/// A key of a table of which no row was seen yet is taken to have so many bytes.
const ROW_BYTES: u64 = 512;
/// What a deadline grows by: a slow line and a slow disk carry so many bytes in a second, on the
/// way out and in.
const BYTES_PER_SECOND: u64 = 8 << 20;
/// The most that it grows by: as long as the largest row that the protocol carries takes.
const GROWN_MAX: Duration = Duration::from_secs(128);

/// What is known of the sizes of rows.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Bytes of a key's row lately, on average, by table.
    usual: Mutex<HashMap<i32, u64>>,
}

/// The size of a key's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RowSize {
    /// On the primary: what may have to be carried.
    pub(super) primary: u64,
    /// On the side where it is larger: what may have to be read.
    pub(super) either: u64,
}

/// Sizes that were asked for.
pub(super) type Known = BTreeMap<RowKey, RowSize>;

/// What a set may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) struct Room {
    /// Bytes that its rows are taken to have.
    bytes: u64,
    /// Bytes past which they are not read.
    pub(in crate::postgres) bytes_max: u64,
    /// One attempt's limit.
    pub(in crate::postgres) deadline: Duration,
    /// How long a session of it may be idle.
    idle: Duration,
}

/// What can be done with a set.
pub(super) enum Ready {
    /// An attempt.
    Whole(Room),
    /// An attempt on each part.
    Parts(Vec<BTreeSet<RowKey>>),
    /// Nothing for these keys, for these reasons.
    TooLarge(Vec<(RowKey, String)>),
}

// === impl Room ===

impl Room {
    fn new(bytes: u64, bytes_max: u64, deadline: Duration) -> Self {
        let more = Duration::from_millis(bytes.saturating_mul(1000) / BYTES_PER_SECOND);
        let grown = if bytes > SET_BYTES { deadline + more.min(GROWN_MAX) } else { deadline };
        // The shadow's session is idle while the primary is read.
        Self { bytes, bytes_max, deadline: grown, idle: (deadline * 4).max(grown) }
    }

    /// That of rows of so many bytes; of 0 where nothing is known.
    pub(in crate::postgres) fn of_rows(bytes: u64, deadline: Duration) -> Self {
        // A row that goes alone is read whatever it has by then.
        let bytes_max = if bytes >= WIDE_BYTES { u64::MAX } else { SET_BYTES.max(bytes) };
        Self::new(bytes.max(SET_BYTES_MIN), bytes_max, deadline)
    }

    /// Whether the row goes by digests of its values.
    pub(in crate::postgres) fn is_wide(&self) -> bool {
        self.bytes >= WIDE_BYTES
    }

    /// Limits of a session of the attempt.
    pub(super) fn limits(&self) -> (Duration, Duration) {
        (self.deadline, self.idle)
    }

    /// Bytes that it takes of the process's memory.
    pub(in crate::postgres) fn memory(&self) -> u64 {
        self.bytes.saturating_mul(COPIES)
    }
}

// === impl Sizes ===

impl Sizes {
    /// What a set of which nothing is known but how large rows were lately may have.
    fn usual<'a>(&self, keys: impl IntoIterator<Item = &'a RowKey>) -> u64 {
        let usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        keys.into_iter().map(|key| usual.get(&key.table_id).copied().unwrap_or(ROW_BYTES)).sum()
    }

    /// The same as a room.
    pub(super) fn guessed(&self, set: &BTreeSet<RowKey>, deadline: Duration) -> Room {
        let bytes = self.usual(set).saturating_mul(2).clamp(SET_BYTES_MIN, SET_BYTES);
        Room::new(bytes, SET_BYTES, deadline)
    }

    /// Whether rows were so large lately that a set is measured first.
    fn are_large(&self, set: &BTreeSet<RowKey>) -> bool {
        self.usual(set) > SET_BYTES / 2
    }

    /// Notes what was read of tables on both sides.
    pub(super) fn seen(
        &self,
        tables: &[TableKeys],
        primary: &[Vec<Option<Image>>],
        shadow: &[Vec<Option<Image>>],
    ) {
        let size = |rows: &[Option<Image>]| rows.iter().flatten().map(Image::size).sum::<usize>();
        let mut usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        for (table, (one, other)) in tables.iter().zip(primary.iter().zip(shadow)) {
            let now = size(one).max(size(other)) as u64 / (table.keys.len() as u64).max(1);
            let known = usual.entry(table.shape.table_id).or_insert(now);
            *known = (*known * 3 + now) / 4;
        }
    }

    /// The same of rows that were asked for their size.
    fn measured(&self, known: &Known) {
        let mut sums: HashMap<i32, (u64, u64)> = HashMap::new();
        for (key, size) in known {
            let (bytes, keys) = sums.entry(key.table_id).or_default();
            *bytes = bytes.saturating_add(size.either);
            *keys += 1;
        }
        let mut usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        for (table, (bytes, keys)) in sums {
            let now = bytes / keys.max(1);
            let known = usual.entry(table).or_insert(now);
            *known = (*known + now) / 2;
        }
    }
}

// === impl Reconciler ===

impl Reconciler {
    /// What can be done with a set. Where rows of its tables were large lately, both servers are
    /// asked first.
    ///
    /// # Errors
    ///
    /// A side that is away.
    pub(super) async fn room(
        &self,
        set: &BTreeSet<RowKey>,
        known: &mut Known,
    ) -> Result<Ready, SqlFault> {
        let deadline = self.params.deadline;
        if !set.iter().all(|key| known.contains_key(key)) {
            if !self.sizes.are_large(set) {
                return Ok(Ready::Whole(self.sizes.guessed(set, deadline)));
            }
            self.measure(set, known).await?;
        }
        let row_max = self.params.row_bytes_max;
        let large = |key: &&RowKey| known.get(key).is_some_and(|size| size.primary > row_max);
        let large: Vec<&RowKey> = set.iter().filter(large).collect();
        if !large.is_empty() {
            let shapes = self.shapes().await.ok();
            let reason = |key: &RowKey| {
                let table =
                    shapes.as_ref().and_then(|shapes| shapes.get(&key.table_id)?.as_ref().ok());
                let table = table.map_or_else(String::new, |it| format!(" of {}", it.primary));
                let bytes = known.get(key).map_or(0, |size| size.primary);
                format!(
                    "the row{table} with the key ({}) has about {} MiB, more than the {} MiB of \
                     limits.row_bytes_max",
                    key.values.join(", "),
                    bytes >> 20,
                    row_max >> 20
                )
            };
            let reasons = large.into_iter().map(|key| (key.clone(), reason(key))).collect();
            return Ok(Ready::TooLarge(reasons));
        }
        let bytes = total(set, known);
        if bytes > SET_BYTES && set.len() > 1 {
            return Ok(Ready::Parts(parts(set, known)));
        }
        Ok(Ready::Whole(Room::of_rows(bytes, deadline)))
    }

    /// What is to be done after a set had more than its room. Answers the sets to go on with.
    ///
    /// # Errors
    ///
    /// A side that is away.
    pub(super) async fn larger(
        &self,
        set: BTreeSet<RowKey>,
        known: &mut Known,
    ) -> Result<Vec<BTreeSet<RowKey>>, SqlFault> {
        self.measure(&set, known).await?;
        if let (Some(key), 1) = (set.first(), set.len()) {
            // Whatever its size is said to be.
            let size = known.entry(key.clone()).or_default();
            size.either = size.either.max(WIDE_BYTES);
            return Ok(vec![set]);
        }
        if total(&set, known) > SET_BYTES {
            return Ok(vec![set]);
        }
        // What the servers say is too little.
        let middle = set.len() / 2;
        let mut keys = set.into_iter();
        Ok(vec![keys.by_ref().take(middle).collect(), keys.collect()])
    }

    /// Keys of a table, more than were read at once, in parts by their sizes, each with its bytes.
    ///
    /// # Errors
    ///
    /// A side that is away.
    pub(in crate::postgres) async fn by_size(
        &self,
        table_id: i32,
        mut keys: Vec<KeyValues>,
    ) -> Result<Vec<(Vec<KeyValues>, u64)>, SqlFault> {
        let row_key = |values: &KeyValues| RowKey { table_id, values: values.clone() };
        let mut known = Known::new();
        self.measure(&keys.iter().map(row_key).collect(), &mut known).await?;
        if keys.len() == 1 {
            // Whatever its size is said to be.
            let bytes = known.values().map(|size| size.either).max().unwrap_or(0);
            return Ok(vec![(keys, bytes.max(WIDE_BYTES))]);
        }
        let whole = known.values().map(|size| size.either).sum::<u64>() <= SET_BYTES;
        if whole {
            // What the servers say is too little.
            let rest = keys.split_off(keys.len() / 2);
            return Ok(vec![(keys, 0), (rest, 0)]);
        }
        let mut parts: Vec<(Vec<KeyValues>, u64)> = Vec::new();
        for values in keys {
            let bytes = known.get(&row_key(&values)).map_or(0, |size| size.either);
            match parts.last_mut() {
                Some((part, sum)) if *sum + bytes <= SET_BYTES => {
                    part.push(values);
                    *sum += bytes;
                }
                _ => parts.push((vec![values], bytes)),
            }
        }
        Ok(parts)
    }

    /// Memory for rows that are read, of the whole process. Who has a share reconciles nothing.
    pub(in crate::postgres) async fn hold(&self, room: Room) -> HeldRows {
        self.params.memory.hold(room.memory()).await
    }

    /// Notes the sizes of a set's rows. Where they cannot be had, each is taken to be a set of its
    /// own: the attempt finds out what is wrong.
    async fn measure(&self, set: &BTreeSet<RowKey>, known: &mut Known) -> Result<(), SqlFault> {
        match self.sizes_of(set).await {
            Ok(sizes) => {
                self.sizes.measured(&sizes);
                known.extend(sizes);
            }
            Err(Halt::Away(fault)) => return Err(fault),
            Err(halt) => {
                tracing::debug!(?halt, "the sizes of rows are not known");
                let size = RowSize { primary: SET_BYTES, either: SET_BYTES };
                known.extend(set.iter().map(|key| (key.clone(), size)));
            }
        }
        Ok(())
    }

    /// About how many bytes the row of each key has.
    async fn sizes_of(&self, keys: &BTreeSet<RowKey>) -> Result<Known, Halt> {
        let shapes = self.shapes().await?;
        let tables = group(keys, &shapes)?;
        let side = |role| {
            let tables = &tables;
            async move {
                let transaction =
                    Transaction::open_reading(self.pool(role), self.params.deadline).await?;
                let of = |table| measure(&transaction, role, table);
                let sizes = try_join_all(tables.iter().map(of)).await?;
                transaction.end("ROLLBACK").await?;
                Ok::<_, Halt>(sizes)
            }
        };
        let (primary, shadow) = tokio::try_join!(side(Role::Primary), side(Role::Shadow))?;
        let mut sizes: Known = keys.iter().map(|key| (key.clone(), RowSize::default())).collect();
        for (key, bytes) in primary.into_iter().flatten() {
            sizes.insert(key, RowSize { primary: bytes, either: bytes });
        }
        for (key, bytes) in shadow.into_iter().flatten() {
            let size = sizes.entry(key).or_default();
            size.either = size.either.max(bytes);
        }
        Ok(sizes)
    }
}

async fn measure(
    transaction: &Transaction,
    role: Role,
    table: &TableKeys,
) -> Result<Vec<(RowKey, u64)>, Halt> {
    let client = transaction.client()?;
    let statement = client.prepared(&select::sizes(&table.shape, role)).await.map_err(of_fault)?;
    let arrays = table.arrays(&(0..table.keys.len()));
    let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
    let mut sizes = Vec::new();
    for row in client.query(&statement.statement, &params).await? {
        let (place, bytes): (i64, f64) = (row.try_get(0)?, row.try_get(1)?);
        let values = usize::try_from(place - 1).ok().and_then(|place| table.keys.get(place));
        if let Some(values) = values {
            let key = RowKey { table_id: table.shape.table_id, values: values.clone() };
            // Never negative, and of some gigabytes at most.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            sizes.push((key, bytes.max(0.0) as u64));
        }
    }
    Ok(sizes)
}

fn total(set: &BTreeSet<RowKey>, known: &Known) -> u64 {
    set.iter().filter_map(|key| known.get(key)).map(|size| size.either).sum()
}

/// Parts of a set by their bytes, in order; a row that is too large for one is a part of its own.
fn parts(set: &BTreeSet<RowKey>, known: &Known) -> Vec<BTreeSet<RowKey>> {
    let mut parts = vec![BTreeSet::new()];
    let mut room = SET_BYTES;
    for key in set {
        let bytes = known.get(key).map_or(0, |size| size.either);
        let full = parts.last().is_some_and(|part| !part.is_empty()) && bytes > room;
        if full {
            parts.push(BTreeSet::new());
            room = SET_BYTES;
        }
        room = room.saturating_sub(bytes);
        if let Some(part) = parts.last_mut() {
            part.insert(key.clone());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::postgres::mapping::table::tests::shape;

    fn key(number: u32) -> RowKey {
        RowKey { table_id: 1, values: vec![format!("{number:04}")] }
    }

    #[test]
    fn sets_are_cut_by_bytes_and_a_large_row_goes_alone() {
        let sizes = [1, SET_BYTES, 10, 10, SET_BYTES * 100, 1];
        let sizes = sizes.map(|either| RowSize { primary: 0, either });
        let known: Known = (0..).map(key).zip(sizes).collect();
        let parts = parts(&known.keys().cloned().collect(), &known);
        let found: Vec<usize> = parts.iter().map(BTreeSet::len).collect();
        assert_eq!(found, [1, 1, 2, 1, 1]);
    }

    #[test]
    fn deadlines_grow_with_size() {
        let second = Duration::from_secs(1);
        let of = |bytes| Room::new(bytes, bytes, second);
        assert_eq!(of(1000).limits(), (second, second * 4));
        assert_eq!(of(80 << 20).limits(), (second * 11, second * 11));
        assert_eq!(of(1 << 40).deadline, second + GROWN_MAX);
    }

    #[test]
    fn rows_of_a_table_that_were_large_lately_are_measured_first() {
        let sizes = Sizes::default();
        let set = |keys| (0..keys).map(key).collect::<BTreeSet<_>>();
        let tables = |keys| {
            let values = (0..keys).map(|number| key(number).values).collect();
            [TableKeys { shape: Arc::new(shape()), keys: values }]
        };
        let row = |bytes| Some(Image::from_cells(&[Some(&vec![7; bytes])], 1));
        assert!(!sizes.are_large(&set(500)));
        let large = vec![row(4 << 20); 3];
        sizes.seen(&tables(3), &[large], &[vec![None; 3]]);
        assert!(sizes.are_large(&set(500)) && sizes.are_large(&set(1)));
        let other = RowKey { table_id: 2, ..key(1) };
        assert!(!sizes.are_large(&BTreeSet::from([other])));
        for _ in 0..50 {
            sizes.seen(&tables(10), &[vec![row(100); 10]], &[vec![None; 10]]);
        }
        assert!(!sizes.are_large(&set(500)));
    }
}
