//! One row as the wire gave it.

use std::ops::Range;

use tokio_postgres::Row;

use crate::postgres::cell::Raw;

/// The cells of one row in one buffer: those of its columns, then those that were asked for to
/// be compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Image {
    /// Cells of columns.
    width: usize,
    ends: Vec<Option<usize>>,
    data: Vec<u8>,
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
        let mut image = Self { width, ..Self::default() };
        for index in cells {
            let Raw(cell) = row.try_get(index)?;
            image.push(cell);
        }
        Ok(image)
    }

    /// Adds a cell: `None` is NULL.
    pub fn push(&mut self, cell: Option<&[u8]>) {
        self.ends.push(cell.map(|bytes| {
            self.data.extend_from_slice(bytes);
            self.data.len()
        }));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_come_back_with_nulls_between() {
        let mut image = Image::default();
        let cells = [Some(&b"ab"[..]), None, None, Some(&b""[..]), Some(&b"c"[..])];
        for cell in cells {
            image.push(cell);
        }
        for (index, cell) in cells.into_iter().enumerate() {
            assert_eq!(image.cell(index), cell, "cell {index}");
        }
        assert_eq!(image.cell(9), None);
    }
}
