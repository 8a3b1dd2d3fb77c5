//! One row as the wire gave it.

use std::ops::Range;

use bytes::Bytes;
use tokio_postgres::Row;

use crate::postgres::session::cell::Raw;

/// The cells of one row in one buffer: those of its columns, then those that were asked for to
/// be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Image {
    /// Cells of columns.
    width: usize,
    ends: Vec<Option<usize>>,
    data: Bytes,
}

/// The row was read without the cells to compare by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unasked;

impl Image {
    /// These cells of a row, the first `width` of which are the table's columns.
    ///
    /// # Errors
    ///
    /// Where the driver cannot give a cell, which means that it did not get the row whole.
    pub fn from_row(
        row: &Row,
        cells: Range<usize>,
        width: usize,
    ) -> Result<Self, tokio_postgres::Error> {
        let cells = cells.map(|index| row.try_get(index).map(|Raw(cell)| cell));
        Ok(Self::from_cells(&cells.collect::<Result<Vec<_>, _>>()?, width))
    }

    /// These cells, the first `width` of which are the table's columns; `None` is NULL.
    pub fn from_cells(cells: &[Option<&[u8]>], width: usize) -> Self {
        // All at once: a buffer that grows would be there twice.
        let size = cells.iter().flatten().map(|cell| cell.len()).sum();
        let mut data = Vec::with_capacity(size);
        let ends = cells.iter().map(|cell| {
            cell.map(|bytes| {
                data.extend_from_slice(bytes);
                data.len()
            })
        });
        Self { width, ends: ends.collect(), data: Bytes::from(data) }
    }

    /// Bytes of all cells.
    pub fn size(&self) -> usize {
        self.data.len()
    }

    /// The cell that was asked for to compare a column by; `Err` where the row was read without.
    pub fn compared(&self, index: usize) -> Result<Option<&[u8]>, Unasked> {
        let place = self.width + index;
        if place < self.ends.len() { Ok(self.cell(place)) } else { Err(Unasked) }
    }

    /// The cell of a column; a column that is not there reads as NULL.
    pub fn cell(&self, index: usize) -> Option<&[u8]> {
        let end = (*self.ends.get(index)?)?;
        let start = self.ends[..index].iter().rev().find_map(|end| *end).unwrap_or(0);
        self.data.get(start..end)
    }

    /// The cell of a column, without a copy.
    pub fn share(&self, index: usize) -> Option<Bytes> {
        self.cell(index).map(|cell| self.data.slice_ref(cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_with_nulls_between() {
        let cells = [Some(&b"ab"[..]), None, None, Some(&b""[..]), Some(&b"c"[..])];
        let image = Image::from_cells(&cells, cells.len());
        for (index, cell) in cells.into_iter().enumerate() {
            assert_eq!(image.cell(index), cell, "cell {index}");
            assert_eq!(image.share(index).as_deref(), cell, "cell {index}");
        }
        assert_eq!(image.cell(9), None);
    }
}
