//! A table as the copy reads and writes it.

use std::collections::BTreeSet;

use crate::domain::backfill::{Chunk, Load};
use crate::postgres::backfill::columns::Columns;
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::outbox::RowKey;

/// A table as the copy reads and writes it.
#[derive(Debug)]
pub(super) struct CopyTable {
    pub(super) shape: TableShape,
    pub(super) columns: Columns,
    /// How rows are written.
    pub(super) load: Load,
}

/// What was written, before it is committed.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Bytes of the largest row.
    pub(super) largest: usize,
    /// Rows that others hold back, to be reconciled after the commit.
    pub(super) held: BTreeSet<RowKey>,
}

impl CopyTable {
    pub(super) fn key(&self) -> KeySql<'_> {
        KeySql::new(&self.shape, Role::Primary, Order::Own)
    }

    /// Reads the chunk's rows on the source, but for those that a guard holds back. Where they are
    /// written by `INSERT`, the key's texts come last.
    pub(super) fn copy_out(&self, chunk: &Chunk) -> String {
        let mut select = self.columns.select.join(", ");
        if self.load == Load::Insert {
            select = format!("{select}, {}", self.shape.key_texts());
        }
        format!(
            "COPY (SELECT {select} FROM {} AS t WHERE {}{} ORDER BY {}) TO STDOUT {}",
            self.shape.primary.quoted(),
            self.key().rows_within(&chunk.range),
            self.columns.guarded(),
            self.key().order_by(),
            self.columns.format.as_sql(),
        )
    }

    pub(super) fn copy_in(&self, table: &str) -> String {
        let (names, format) = (self.columns.names.join(", "), self.columns.format.as_sql());
        format!("COPY {table} ({names}) FROM STDIN {format}")
    }

    /// Keys of the rows that a guard holds back.
    pub(super) fn guarded_keys(&self, chunk: &Chunk) -> Option<String> {
        (!self.columns.guards.is_empty()).then(|| {
            format!(
                "SELECT {} FROM {} AS t WHERE {} AND NOT ({})",
                self.shape.key_texts(),
                self.shape.primary.quoted(),
                self.key().rows_within(&chunk.range),
                self.columns.guards.join(" AND ")
            )
        })
    }

    /// Whether the target's part of the range looks empty. By the order that the target's own
    /// index has: where it differs from the source's, the answer may be wrong either way, which
    /// costs time and nothing else.
    pub(super) fn any_row(&self, chunk: &Chunk) -> String {
        let own = KeySql::new(&self.shape, Role::Shadow, Order::Own);
        format!(
            "SELECT EXISTS (SELECT 1 FROM {} AS t WHERE {})",
            self.shape.shadow.quoted(),
            own.rows_within(&chunk.range)
        )
    }
}
