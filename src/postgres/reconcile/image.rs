//! One row as the wire gave it.

use tokio_postgres::Row;

use crate::postgres::cell::Raw;

/// The cells of one row in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Image {
    ends: Vec<Option<usize>>,
    data: Vec<u8>,
}

impl Image {
    /// The cells of a row from its column `first` on.
    ///
    /// # Errors
    ///
    /// Where the driver cannot give a cell, which means that it did not get the row whole.
    pub fn from_row(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error> {
        let mut image = Self::default();
        for index in first..row.len() {
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
