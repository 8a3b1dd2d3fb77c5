//! How large rows are, asked before they are read: what a set may take is counted in bytes.
//!
//! Most sets are small. Their rows are read at once, by a statement that ends before its first row
//! where they are more than there is room for. Then the servers are asked for the size of each,
//! and the set goes in parts; where rows of a table were large lately, they are asked first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::postgres::mapping::image::Image;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::read::TableKeys;

/// Bytes that the rows of one set may have on one side.
pub(super) const SET_BYTES: u64 = 4 << 20;
/// A set that is not known yet is taken to have so many bytes at least.
const SET_BYTES_MIN: u64 = 256 << 10;
/// A row from here on goes alone, and its large values only where they differ.
pub(super) const WIDE_BYTES: u64 = 2 * SET_BYTES;
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
    pub(super) fn usual<'a>(&self, keys: impl IntoIterator<Item = &'a RowKey>) -> u64 {
        let usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        keys.into_iter().map(|key| usual.get(&key.table_id).copied().unwrap_or(ROW_BYTES)).sum()
    }

    /// The same as a room.
    pub(super) fn guessed(&self, set: &BTreeSet<RowKey>, deadline: Duration) -> Room {
        let bytes = self.usual(set).saturating_mul(2).clamp(SET_BYTES_MIN, SET_BYTES);
        Room::new(bytes, SET_BYTES, deadline)
    }

    /// Whether rows were so large lately that a set is measured first.
    pub(super) fn are_large(&self, set: &BTreeSet<RowKey>) -> bool {
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
    pub(super) fn measured(&self, known: &Known) {
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

pub(super) fn total(set: &BTreeSet<RowKey>, known: &Known) -> u64 {
    set.iter().filter_map(|key| known.get(key)).map(|size| size.either).sum()
}

/// Parts of a set by their bytes, in order; a row that is too large for one is a part of its own.
pub(super) fn parts(set: &BTreeSet<RowKey>, known: &Known) -> Vec<BTreeSet<RowKey>> {
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
