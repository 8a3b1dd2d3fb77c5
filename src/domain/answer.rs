//! Answers as the wire gave them.
//!
//! A batch of rows is one buffer. No value is decoded before somebody asks for it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::domain::budget::HeldBytes;
use crate::domain::fault::SqlFault;
use crate::domain::pg_type::Column;

const NULL_LENGTH: i32 = -1;

/// Rows in one buffer: for each row, for each column, a big-endian `i32` length
/// (-1 for NULL) and so many bytes in PostgreSQL's binary format. This is also
/// the *packed* encoding of the protocol. Cloning shares the buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowBatch {
    row_count: u32,
    cells: Bytes,
}

impl RowBatch {
    /// Keeps a share of memory until the last copy of its rows is dropped.
    #[must_use]
    pub fn holding(self, held: HeldBytes) -> Self {
        Self { cells: Bytes::from_owner(Held { cells: self.cells, _held: held }), ..self }
    }

    /// The number of rows.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// The buffer itself.
    pub fn cells(&self) -> &Bytes {
        &self.cells
    }

    /// All cells in order, row by row: `None` is NULL.
    pub fn iter(&self) -> Cells<'_> {
        Cells { rest: &self.cells }
    }

    /// Takes over a buffer that came from elsewhere, after checking that it holds
    /// exactly `row_count` rows of `columns` cells.
    ///
    /// # Errors
    ///
    /// [`MalformedBatch`] where lengths and contents do not agree.
    pub fn from_packed(
        row_count: u32,
        columns: usize,
        cells: Bytes,
    ) -> Result<Self, MalformedBatch> {
        let wanted = u64::from(row_count) * columns as u64;
        let mut rest: &[u8] = &cells;
        let mut found: u64 = 0;
        while !rest.is_empty() {
            let length = rest.try_get_i32().map_err(|_| MalformedBatch { cell: found })?;
            if length != NULL_LENGTH {
                let length = usize::try_from(length).map_err(|_| MalformedBatch { cell: found })?;
                rest = rest.get(length..).ok_or(MalformedBatch { cell: found })?;
            }
            found += 1;
        }
        if found == wanted {
            Ok(Self { row_count, cells })
        } else {
            Err(MalformedBatch { cell: found.min(wanted) })
        }
    }
}

/// A packed buffer that does not hold what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packed rows are malformed at cell {cell}")]
pub struct MalformedBatch {
    /// Index of the first cell that could not be read, from 0.
    pub cell: u64,
}

/// The cells of a batch in order.
#[derive(Debug, Clone)]
pub struct Cells<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = self.rest.try_get_i32().ok()?;
        let Ok(length) = usize::try_from(length) else {
            return Some(None);
        };
        let (cell, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(cell))
    }
}

/// Builds a [`RowBatch`] cell by cell.
#[derive(Debug, Default)]
pub struct RowBatchBuilder {
    row_count: u32,
    cells: BytesMut,
}

impl RowBatchBuilder {
    /// Makes room for a row of so many bytes, and in a batch that has some already for more.
    pub fn reserve(&mut self, bytes: usize) {
        if self.cells.capacity() - self.cells.len() < bytes {
            self.cells.reserve(bytes.max(self.cells.len()));
        }
    }

    /// Adds a cell to the row being built: `None` is NULL.
    pub fn push_cell(&mut self, cell: Option<&[u8]>) {
        match cell {
            None => self.cells.put_i32(NULL_LENGTH),
            Some(bytes) => {
                // PostgreSQL sends no cell above 1 GiB, so the length always fits.
                self.cells.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                self.cells.put_slice(bytes);
            }
        }
    }

    /// Ends the row being built.
    pub fn end_row(&mut self) {
        self.row_count += 1;
    }

    /// Bytes so far.
    pub fn byte_len(&self) -> usize {
        self.cells.len()
    }

    /// Rows so far.
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Takes what was built and begins anew.
    pub fn take(&mut self) -> RowBatch {
        RowBatch {
            row_count: std::mem::take(&mut self.row_count),
            cells: self.cells.split().freeze(),
        }
    }
}

/// Rows and the memory that is held for them.
struct Held {
    cells: Bytes,
    _held: HeldBytes,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.cells
    }
}

/// A complete answer held in memory: bounded by the limits of whoever collected it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Columns by position.
    pub columns: Arc<[Column]>,
    /// The rows, in the order they came.
    pub batches: Vec<RowBatch>,
    /// Rows that a write affected; the number of rows for a read.
    pub affected_rows: u64,
}

/// What a side answered to a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// The whole answer.
    Answer(Answer),
    /// The fault.
    Fault(SqlFault),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_as_they_went_in() {
        let mut builder = RowBatchBuilder::default();
        builder.push_cell(Some(b"abc"));
        builder.push_cell(None);
        builder.end_row();
        builder.push_cell(Some(b""));
        builder.push_cell(Some(b"x"));
        builder.end_row();
        let batch = builder.take();
        let cells: Vec<_> = batch.iter().collect();
        assert_eq!(cells, [Some(&b"abc"[..]), None, Some(&b""[..]), Some(&b"x"[..])]);
        assert_eq!(RowBatch::from_packed(2, 2, batch.cells().clone()), Ok(batch));
    }

    #[test]
    fn a_short_buffer_is_refused_with_its_cell() {
        let bytes = Bytes::from_static(&[0, 0, 0, 5, b'a']);
        assert_eq!(RowBatch::from_packed(1, 1, bytes), Err(MalformedBatch { cell: 0 }));
        assert_eq!(RowBatch::from_packed(1, 1, Bytes::new()), Err(MalformedBatch { cell: 0 }));
    }
}
