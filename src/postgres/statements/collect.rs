//! Rows from the wire, packed into batches.

use tokio_postgres::Row;

use crate::domain::answer::{RowBatch, RowBatchBuilder};
use crate::domain::budget::HeldBytes;
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
    /// Of an answer that is kept whole until it is sent.
    held: Option<HeldBytes>,
}

// === impl Collector ===

impl Collector {
    pub(super) fn new(width: usize, limits: ResultLimits, side: Side) -> Self {
        let builder = RowBatchBuilder::default();
        Self { builder, width, limits, side, rows: 0, bytes_before: 0, held: None }
    }

    /// Of an answer that is kept whole until it is sent, in this share of memory.
    pub(super) fn of_whole(
        width: usize,
        limits: ResultLimits,
        (side, held): (Side, HeldBytes),
    ) -> Self {
        Self { held: Some(held), ..Self::new(width, limits, side) }
    }

    pub(super) fn push(&mut self, row: &Row) -> Result<(), SqlFault> {
        self.rows += 1;
        if self.rows > self.limits.rows_max {
            let limit = self.limits.rows_max;
            return Err(self.exceeded(format!("the answer has more than {limit} rows")));
        }
        let bytes = row.raw_size_bytes();
        if self.held.as_mut().is_some_and(|held| !held.grow(bytes as u64)) {
            return Err(self.no_memory());
        }
        self.builder.reserve(bytes);
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
        let batch = self.builder.take();
        match self.held.take() {
            Some(held) => batch.holding(held),
            None => batch,
        }
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

    fn no_memory(&self) -> SqlFault {
        let message = "there is no memory left for the answers of writes";
        SqlFault::new(FaultKind::LimitExceeded, Reason::LimitAnswersMemory, message)
            .with_hint("try again; return less at once, or raise limits.answers_memory")
            .on(self.side)
            .retryable()
    }

    fn exceeded(&self, message: String) -> SqlFault {
        SqlFault::new(FaultKind::LimitExceeded, Reason::LimitAnswer, message)
            .with_hint("ask for less with LIMIT or a narrower condition, or raise the limit")
            .on(self.side)
    }
}
