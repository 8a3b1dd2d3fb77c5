//! Rows from the wire, packed into batches.

use tokio_postgres::Row;

use crate::domain::answer::{RowBatch, RowBatchBuilder};
use crate::domain::call::ResultLimits;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::session::cell::Raw;
use crate::postgres::session::fault;

/// A batch is closed when it has so many bytes or rows.
const BATCH_BYTES: usize = 64 * 1024;
const BATCH_ROWS: u32 = 8192;

/// Packs rows into batches and keeps the answer within its limits.
#[derive(Debug)]
pub(super) struct Collector {
    builder: RowBatchBuilder,
    width: usize,
    limits: ResultLimits,
    side: Side,
    rows: u64,
    bytes_before: u64,
}

// === impl Collector ===

impl Collector {
    pub(super) fn new(width: usize, limits: ResultLimits, side: Side) -> Self {
        Self { builder: RowBatchBuilder::default(), width, limits, side, rows: 0, bytes_before: 0 }
    }

    pub(super) fn push(&mut self, row: &Row) -> Result<(), SqlFault> {
        self.rows += 1;
        if self.rows > self.limits.rows_max {
            let limit = self.limits.rows_max;
            return Err(self.exceeded(format!("the answer has more than {limit} rows")));
        }
        self.builder.reserve(row.raw_size_bytes());
        for index in 0..self.width {
            let Raw(cell) =
                row.try_get(index).map_err(|error| fault::from_error(error, self.side, true))?;
            self.builder.push_cell(cell);
        }
        self.builder.end_row();
        if self.bytes() > self.limits.bytes_max {
            let limit = self.limits.bytes_max;
            return Err(self.exceeded(format!("the answer has more than {limit} bytes")));
        }
        Ok(())
    }

    pub(super) fn take(&mut self) -> RowBatch {
        self.bytes_before = self.bytes();
        self.builder.take()
    }

    /// Rows that have not been taken.
    pub(super) fn row_count(&self) -> u32 {
        self.builder.row_count()
    }

    /// Which database answers.
    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Bytes of the whole answer so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes_before + self.builder.byte_len() as u64
    }

    pub(super) fn is_full(&self) -> bool {
        self.builder.byte_len() >= BATCH_BYTES || self.builder.row_count() >= BATCH_ROWS
    }

    fn exceeded(&self, message: String) -> SqlFault {
        SqlFault::new(FaultKind::LimitExceeded, Reason::LimitAnswer, message)
            .with_hint("ask for less with LIMIT or a narrower condition, or raise the limit")
            .on(self.side)
    }
}
