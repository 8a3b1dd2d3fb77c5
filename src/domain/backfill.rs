//! The words of a backfill: chunks, what became of them, how far a table is.

use std::fmt;

use crate::domain::key::OutboxMark;
use crate::domain::key_range::KeyRange;
use crate::domain::table::TableMapping;

/// Names a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId {
    /// The table's small id.
    pub table_id: i32,
    /// Which of the table's chunks, from 1, in the order of the key.
    pub number: i64,
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table_id, self.number)
    }
}

/// A chunk that somebody has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which one.
    pub id: ChunkId,
    /// Its rows, in the order of the source's primary key.
    pub range: KeyRange,
    /// Rises with each claim: whoever has an older one may not write. `None` where one process
    /// works alone and nobody can take over.
    pub generation: Option<i64>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// A moment of the source's clock before the first attempt's snapshot.
    pub begun_at: OutboxMark,
}

impl Chunk {
    /// Whether an earlier attempt may have written an image of an earlier state.
    pub fn begun_before(&self) -> bool {
        self.attempt > 1
    }
}

/// By which statement rows are written on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Load {
    /// `COPY FROM STDIN`. CockroachDB refuses it in the extended protocol, and changes `bytea` and
    /// `jsonb` in the simple one.
    #[default]
    Copy,
    /// `INSERT … ON CONFLICT DO NOTHING`, many rows a statement.
    Insert,
}

/// How a chunk's rows came to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// As they came, straight into the table.
    Straight,
    /// What others hold back was taken out before: by `COPY` through a staging table, or by
    /// `INSERT` under savepoints.
    Staged,
    /// Row by row, by reconcile.
    ByKeys,
}

impl Way {
    /// The name in `segue.backfill`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Straight => "straight",
            Self::Staged => "staged",
            Self::ByKeys => "by_keys",
        }
    }
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// How its rows came over.
    pub way: Way,
    /// Rows that the source had.
    pub rows: u64,
    /// Bytes as the source sent them.
    pub bytes: u64,
    /// Keys that were reconciled after it.
    pub reconciled: u64,
    /// Keys of these that could not be, and stand in the outbox with their reason.
    pub failed: u64,
}

/// A table that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TablePlan {
    /// Its small id.
    pub table_id: i32,
    /// Where it is.
    pub mapping: TableMapping,
    /// The columns of its key, in order.
    pub key: Vec<String>,
    /// Parents come before children.
    pub place: i32,
    /// Rows of one chunk.
    pub chunk_rows: u64,
    /// Rows, by the source's statistics.
    pub rows_estimated: u64,
    /// Bytes on the source's disk, indexes left out.
    pub bytes_estimated: u64,
}

/// How far a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableProgress {
    /// Its small id.
    pub table_id: i32,
    /// Its name on the source.
    pub table: String,
    /// Rows, by the source's statistics when the copy was begun.
    pub rows_estimated: u64,
    /// Rows that finished chunks had.
    pub rows: u64,
    /// Bytes of their streams.
    pub bytes: u64,
    /// Keys reconciled after them.
    pub reconciled: u64,
    /// Keys of these that failed.
    pub failed: u64,
    /// Chunks cut so far.
    pub chunks: u64,
    /// Of these, done.
    pub chunks_done: u64,
    /// Of these, under way.
    pub chunks_claimed: u64,
    /// No more chunks are to be cut.
    pub split_done: bool,
    /// Why a chunk was last given back; empty where none was.
    pub last_error: String,
}

/// How far a copy is, and who works at it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackfillProgress {
    /// Parents before children.
    pub tables: Vec<TableProgress>,
    /// Processes, also those that died lately.
    pub workers: Vec<WorkerProgress>,
}

impl TableProgress {
    /// Rows that are likely to be there: no fewer than were copied.
    pub fn rows_expected(&self) -> u64 {
        if self.is_done() { self.rows } else { self.rows_estimated.max(self.rows) }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.split_done && self.chunks == self.chunks_done
    }
}

/// A process that copies.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerProgress {
    /// The machine it runs on, and its process.
    pub host: String,
    /// Chunks that it copies at once.
    pub workers: u32,
    /// Its lease has not run out.
    pub alive: bool,
    /// What slows it down; empty where nothing does.
    pub throttled: String,
    /// The share of the time that it works, 0 to 1.
    pub share: f64,
}
