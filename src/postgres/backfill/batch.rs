//! Rows of a binary `COPY` stream, many at once, and parameters made of them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::domain::table::quote_identifier;
use crate::postgres::backfill::columns::{Columns, Given};
use crate::postgres::mapping::table::TableShape;
use crate::postgres::session::param::RawParam;
use crate::value::{self, Parameter};

/// What a binary stream begins with, before two fields of four bytes.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// In the place of a row's number of cells: the stream ends.
const END: i16 = -1;
/// In the place of a cell's length: it is NULL.
const NULL: i32 = -1;
/// The head of an array of one dimension.
const ARRAY_HEAD_BYTES: usize = 20;

/// Rows as the source sent them, in few pieces.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Cells of one row.
    width: usize,
    pieces: Vec<Bytes>,
    /// Row by row: the piece, and where in it; nothing for NULL.
    cells: Vec<Option<(u32, Range<u32>)>>,
    /// Bytes of all pieces.
    pub(super) bytes: usize,
    /// Bytes of the largest piece.
    pub(super) largest: usize,
}

/// The stream is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Batch {
    /// An empty one, for rows of so many cells.
    pub(super) fn of_width(width: usize) -> Self {
        Self { width: width.max(1), ..Self::default() }
    }

    /// Its rows.
    pub(super) fn rows(&self) -> usize {
        self.cells.len() / self.width.max(1)
    }

    /// Adds the rows of a message of the stream, which holds whole ones. `first` is set until the
    /// stream's head has come.
    pub(super) fn add(&mut self, piece: Bytes, first: &mut bool) -> Result<(), Malformed> {
        let number = u32::try_from(self.pieces.len()).map_err(|_| Malformed)?;
        let mut at = 0;
        if std::mem::take(first) {
            if !piece.starts_with(SIGNATURE) {
                return Err(Malformed);
            }
            at = HEADER_BYTES;
        }
        let before = self.cells.len();
        while at < piece.len() {
            let count = i16::from_be_bytes(take(&piece, &mut at)?);
            if count == END {
                break;
            }
            if usize::try_from(count) != Ok(self.width) {
                return Err(Malformed);
            }
            for _ in 0..count {
                let length = i32::from_be_bytes(take(&piece, &mut at)?);
                if length == NULL {
                    self.cells.push(None);
                    continue;
                }
                let end = at + usize::try_from(length).map_err(|_| Malformed)?;
                if end > piece.len() {
                    return Err(Malformed);
                }
                let place = |at: usize| u32::try_from(at).map_err(|_| Malformed);
                self.cells.push(Some((number, place(at)?..place(end)?)));
                at = end;
            }
        }
        if self.cells.len() > before {
            self.bytes += piece.len();
            self.largest = self.largest.max(piece.len());
            self.pieces.push(piece);
        }
        Ok(())
    }

    /// A cell; `None` is NULL.
    pub(super) fn cell(&self, row: usize, column: usize) -> Option<&[u8]> {
        let (piece, range) = self.cells.get(row * self.width + column)?.as_ref()?;
        self.pieces[*piece as usize].get(range.start as usize..range.end as usize)
    }

    /// A column of some rows as an array in the server's binary format.
    fn array(&self, rows: Range<usize>, column: usize, oid: u32) -> Parameter {
        let cells = || rows.clone().map(|row| self.cell(row, column));
        let size: usize = cells().map(|cell| 4 + cell.map_or(0, <[u8]>::len)).sum();
        let has_null = cells().any(|cell| cell.is_none());
        let mut array = BytesMut::with_capacity(ARRAY_HEAD_BYTES + size);
        let length = i32::try_from(rows.len()).unwrap_or(i32::MAX);
        for field in [1, i32::from(has_null), oid.cast_signed(), length, 1] {
            array.extend_from_slice(&field.to_be_bytes());
        }
        for cell in cells() {
            let length = cell.map_or(NULL, |cell| i32::try_from(cell.len()).unwrap_or(i32::MAX));
            array.extend_from_slice(&length.to_be_bytes());
            array.extend_from_slice(cell.unwrap_or_default());
        }
        Parameter::binary(array.freeze())
    }

    /// A cell as a parameter of its own, which shares its bytes.
    fn each(&self, row: usize, column: usize, format: value::Format) -> Parameter {
        let cell = self.cells.get(row * self.width + column).and_then(Option::as_ref);
        let share = |(piece, range): &(u32, Range<u32>)| {
            self.pieces[*piece as usize].slice(range.start as usize..range.end as usize)
        };
        Parameter { format, data: cell.map(share) }
    }

    /// The parameters of the statement that [`insert`] makes for so many rows.
    pub(super) fn params(&self, columns: &Columns, rows: Range<usize>) -> Vec<RawParam> {
        let given = || columns.given.iter().enumerate();
        if is_by_array(columns) {
            let array = |(column, given): (usize, &Given)| match given {
                Given::Array { oid, .. } => RawParam(self.array(rows.clone(), column, *oid)),
                Given::Each(format) => RawParam(self.each(rows.start, column, *format)),
            };
            return given().map(array).collect();
        }
        let mut params = Vec::with_capacity(rows.len() * columns.given.len());
        for row in rows {
            params.extend(given().map(|(column, given)| {
                let format = match given {
                    // A text for a number, and the server's binary form for all else.
                    Given::Array { cast, .. } if !cast.is_empty() => value::Format::Text,
                    Given::Array { .. } => value::Format::Binary,
                    Given::Each(format) => *format,
                };
                RawParam(self.each(row, column, format))
            }));
        }
        params
    }
}

fn take<const N: usize>(piece: &Bytes, at: &mut usize) -> Result<[u8; N], Malformed> {
    let bytes = piece.get(*at..*at + N).and_then(|bytes| bytes.try_into().ok());
    *at += N;
    bytes.ok_or(Malformed)
}

/// Whether all columns of many rows are given as arrays. Where one cannot be, none is: rows of two
/// parameters would have to be brought together again.
pub(super) fn is_by_array(columns: &Columns) -> bool {
    columns.given.iter().all(|given| matches!(given, Given::Array { .. }))
}

/// Inserts so many rows; those whose primary key is there already are left as they are.
pub(super) fn insert(shape: &TableShape, columns: &Columns, rows: usize) -> String {
    let key: Vec<&str> = shape.key.iter().map(|column| column.name.as_str()).collect();
    let source = if is_by_array(columns) { of_arrays(columns) } else { of_each(columns, rows) };
    format!(
        "INSERT INTO {} ({}){} {source} ON CONFLICT ({}) DO NOTHING",
        shape.shadow.quoted(),
        columns.names.join(", "),
        shape.overriding(),
        key.join(", ")
    )
}

fn of_arrays(columns: &Columns) -> String {
    let (mut values, mut arrays, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (number, given) in (1..).zip(&columns.given) {
        let Given::Array { element, cast, .. } = given else { continue };
        let name = quote_identifier(&format!("c{number}"));
        values.push(format!("u.{name}{cast}"));
        arrays.push(format!("pg_catalog.unnest(${number}::{element}[])"));
        names.push(name);
    }
    format!(
        "SELECT {} FROM ROWS FROM ({}) AS u({})",
        values.join(", "),
        arrays.join(", "),
        names.join(", ")
    )
}

fn of_each(columns: &Columns, rows: usize) -> String {
    let width = columns.given.len();
    let row = |row: usize| {
        let cells: Vec<String> = (1..=width).map(|n| format!("${}", row * width + n)).collect();
        format!("({})", cells.join(", "))
    };
    format!("VALUES {}", (0..rows).map(row).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::backfill::Load;
    use crate::postgres::mapping::table::tests::shape;

    fn stream(rows: &[[Option<&str>; 2]]) -> Vec<u8> {
        let mut out = [SIGNATURE, &[0; 8]].concat();
        for row in rows {
            out.extend_from_slice(&2_i16.to_be_bytes());
            for cell in row {
                let length = cell.map_or(NULL, |cell| i32::try_from(cell.len()).unwrap());
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(cell.unwrap_or_default().as_bytes());
            }
        }
        out
    }

    #[test]
    fn rows_of_a_stream_come_back_cell_by_cell() {
        let rows = [[Some("a"), None], [Some(""), Some("bcd")]];
        let mut whole = stream(&rows);
        whole.extend_from_slice(&END.to_be_bytes());
        let (mut batch, mut first) = (Batch::of_width(2), true);
        batch.add(Bytes::from(whole), &mut first).unwrap();
        let more = Bytes::from(stream(&[[None, Some("e")]]).split_off(HEADER_BYTES));
        batch.add(more, &mut first).unwrap();
        batch.add(Bytes::copy_from_slice(&END.to_be_bytes()), &mut first).unwrap();
        assert_eq!(batch.rows(), 3);
        for (number, row) in rows.iter().chain(&[[None, Some("e")]]).enumerate() {
            for (column, cell) in row.iter().enumerate() {
                assert_eq!(batch.cell(number, column), cell.map(str::as_bytes));
            }
        }
    }

    #[test]
    fn a_stream_that_is_cut_short_is_refused() {
        let whole = stream(&[[Some("abc"), Some("def")]]);
        for end in HEADER_BYTES + 1..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..end]);
            assert_eq!(Batch::of_width(2).add(cut, &mut true), Err(Malformed), "cut at {end}");
        }
        let wrong = Bytes::from(whole);
        assert_eq!(Batch::of_width(3).add(wrong.clone(), &mut true), Err(Malformed));
        assert_eq!(Batch::of_width(2).add(wrong, &mut false), Err(Malformed), "a head again");
    }

    #[test]
    fn many_rows_are_one_array_a_column_and_name_their_types() {
        let shape = shape();
        let columns = Columns::of(&shape, Load::Insert).unwrap();
        assert_eq!(
            insert(&shape, &columns, 2),
            "INSERT INTO \"crdb\".\"t\" (\"id\", \"code\", \"note\") OVERRIDING SYSTEM VALUE \
             SELECT u.\"c1\", u.\"c2\", u.\"c3\" FROM ROWS FROM (\
             pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]), \
             pg_catalog.unnest($3::pg_catalog.text[])) AS u(\"c1\", \"c2\", \"c3\") \
             ON CONFLICT (\"id\") DO NOTHING"
        );
        let mut columns = columns;
        columns.given[2] = Given::Each(value::Format::Text);
        assert!(
            insert(&shape, &columns, 2).contains(" VALUES ($1, $2, $3), ($4, $5, $6) ON CONFLICT")
        );
    }

    #[test]
    fn an_array_has_its_rows_and_its_nulls() {
        let (mut batch, mut first) = (Batch::of_width(2), true);
        let rows = [[Some("a"), None], [None, None], [Some("bc"), None]];
        batch.add(Bytes::from(stream(&rows)), &mut first).unwrap();
        let parameter = batch.array(0..3, 0, 25);
        let array: Vec<u8> = [
            &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 3, 0, 0, 0, 1][..],
            &[0, 0, 0, 1, b'a', 255, 255, 255, 255, 0, 0, 0, 2, b'b', b'c'],
        ]
        .concat();
        assert_eq!(parameter.data.as_deref(), Some(&array[..]));
    }
}
