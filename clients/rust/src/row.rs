//! Rows and their columns.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use serde::de::DeserializeOwned;

use crate::de::{ColumnsDeserializer, Unfit};
use crate::decode::{Cell, cell_of, next_cell};
use crate::error::Error;
use crate::from::FromValue;
use crate::protocol as proto;
use crate::protocol::typed::value_of;
use crate::value::Value;

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// The type's name without its schema: `int4`, `_text` for an array.
    pub type_name: String,
    /// The type's object id on the database that answered.
    pub type_oid: u32,
    /// PostgreSQL's type modifier; -1 where the type has none.
    pub type_modifier: i32,
}

impl Column {
    pub(crate) fn of(told: proto::Column) -> Self {
        Self {
            name: told.name,
            type_name: told.type_name,
            type_oid: told.type_oid,
            type_modifier: told.type_modifier,
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    columns: Arc<[Column]>,
    values: Vec<Value>,
}

impl Row {
    /// Its columns.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Its values, as they are.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Its values, as they are.
    pub fn into_values(self) -> Vec<Value> {
        self.values
    }

    /// Reads a column by its name, or by its place from 0.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where there is no such column, or more than one, and where the type does not hold the value.
    pub fn get<T: FromValue>(&self, column: impl ColumnIndex) -> Result<T, Error> {
        let at = column.find(&self.columns).map_err(Error::usage)?;
        let (name, value) = match (self.columns.get(at), self.values.get(at)) {
            (Some(column), Some(value)) => (&column.name, value.clone()),
            _ => {
                return Err(Error::usage(format!(
                    "the row has no column {at}, but {}",
                    self.values.len()
                )));
            }
        };
        T::from_value(value).map_err(|what| Error::usage(format!("column {name}: {what}")))
    }

    /// Reads the row into a type of serde: a struct or a map by the columns' names, a tuple by their places, or
    /// anything else where there is one column.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] where the row does not fit the type.
    pub fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        T::deserialize(ColumnsDeserializer { columns: &self.columns, values: self.values })
            .map_err(|Unfit(what)| Error::usage(format!("the row does not fit: {what}")))
    }
}

/// How a column is named: by its name, or by its place from 0.
pub trait ColumnIndex {
    /// The place.
    ///
    /// # Errors
    ///
    /// Where there is no such column, or more than one.
    fn find(self, columns: &[Column]) -> Result<usize, String>;
}

impl ColumnIndex for usize {
    fn find(self, _columns: &[Column]) -> Result<usize, String> {
        Ok(self)
    }
}

impl ColumnIndex for &str {
    fn find(self, columns: &[Column]) -> Result<usize, String> {
        let mut places =
            columns.iter().enumerate().filter(|(_, it)| it.name == self).map(|(at, _)| at);
        match (places.next(), places.next()) {
            (Some(at), None) => Ok(at),
            (None, _) => Err(format!("the row has no column {self:?}")),
            (Some(_), Some(_)) => {
                Err(format!("the row has more than one column {self:?}; name it by its place"))
            }
        }
    }
}

/// Makes rows of what the protocol has.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) columns: Arc<[Column]>,
    cells: Vec<Option<Cell>>,
    packed: Bytes,
    left: u32,
    typed: std::vec::IntoIter<proto::Row>,
}

impl Decoder {
    pub(crate) fn new(columns: Vec<proto::Column>) -> Self {
        let cells = columns.iter().map(|column| cell_of(column.type_oid)).collect();
        let columns = columns.into_iter().map(Column::of).collect();
        Self { columns, cells, packed: Bytes::new(), left: 0, typed: Vec::new().into_iter() }
    }

    /// Takes more rows; those before were read.
    pub(crate) fn take(&mut self, rows: Option<proto::Rows>) {
        match rows.and_then(|it| it.encoding) {
            Some(proto::rows::Encoding::Packed(rows)) => {
                self.packed = rows.cells;
                self.left = rows.row_count;
            }
            Some(proto::rows::Encoding::Typed(rows)) => self.typed = rows.rows.into_iter(),
            None => {}
        }
    }

    /// The next row of those that were taken.
    pub(crate) fn next(&mut self) -> Option<Result<Row, String>> {
        if self.left > 0 {
            self.left -= 1;
            return Some(self.next_packed());
        }
        if self.packed.has_remaining() {
            self.packed.clear();
            return Some(Err("there is more behind the last row".to_owned()));
        }
        self.typed.next().map(|row| self.typed_row(row))
    }

    fn next_packed(&mut self) -> Result<Row, String> {
        let mut values = Vec::with_capacity(self.cells.len());
        for (cell, column) in self.cells.iter().zip(self.columns.iter()) {
            let value = match cell {
                Some(cell) => next_cell(&mut self.packed, *cell),
                None => Err("it has no packed form here"),
            };
            values.push(value.map_err(|what| {
                format!("column {} of type {}: {what}", column.name, column.type_name)
            })?);
        }
        Ok(Row { columns: Arc::clone(&self.columns), values })
    }

    fn typed_row(&self, row: proto::Row) -> Result<Row, String> {
        if row.values.len() != self.columns.len() {
            return Err(format!(
                "a row has {} values for {} columns",
                row.values.len(),
                self.columns.len()
            ));
        }
        let values = row.values.into_iter().map(value_of).collect::<Result<_, _>>()?;
        Ok(Row { columns: Arc::clone(&self.columns), values })
    }
}
