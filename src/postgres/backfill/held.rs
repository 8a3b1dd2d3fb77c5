//! The staging table of a chunk, and the rows in it that cannot go into the table: others hold
//! their unique values, or their parents are not there yet.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::fault::SqlFault;
use crate::domain::table::quote_identifier;
use crate::postgres::backfill::table::CopyTable;
use crate::postgres::mapping::table::{ForeignKey, UniqueIndex};
use crate::postgres::outbox::RowKey;
use crate::postgres::session::asked::Row;

/// A staging table: a temporary one that stays with its session, and is empty after each
/// transaction.
#[derive(Debug)]
pub(super) struct Stage {
    /// Its name, quoted.
    pub(super) name: String,
    make: String,
}

impl Stage {
    /// That of a table. Its name holds what it is made of, so that one made before the table was
    /// altered is not taken for it.
    pub(super) fn of(table: &CopyTable) -> Self {
        let names = table.columns.names.join(", ");
        let shape = &table.shape;
        let types: Vec<&str> = shape.pairs.iter().map(|pair| pair.shadow_type.as_str()).collect();
        let mut hash = DefaultHasher::new();
        (&names, &types, &shape.shadow).hash(&mut hash);
        let name = format!("pg_temp.\"segue_stage_{}_{:016x}\"", shape.table_id, hash.finish());
        // Types without constraints, defaults and generated columns.
        let make = format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {name} ON COMMIT DELETE ROWS AS \
             SELECT {names} FROM {} WITH NO DATA",
            shape.shadow.quoted()
        );
        Self { name, make }
    }

    /// Makes it where the session has none yet.
    pub(super) fn create(&self) -> String {
        format!(
            "SET LOCAL client_min_messages = warning; {}; SET LOCAL client_min_messages = notice",
            self.make
        )
    }

    /// Inserts what is not there yet, by the primary key.
    pub(super) fn insert(&self, table: &CopyTable) -> String {
        let names = table.columns.names.join(", ");
        let key: Vec<&str> = table.shape.key.iter().map(|column| column.name.as_str()).collect();
        format!(
            "INSERT INTO {} ({names}){} SELECT {names} FROM {} ON CONFLICT ({}) DO NOTHING",
            table.shape.shadow.quoted(),
            table.shape.overriding(),
            self.name,
            key.join(", ")
        )
    }

    /// Takes out the rows whose unique values other rows of the target hold, and answers their
    /// keys: one statement for each unique index.
    pub(super) fn blocked_by_uniques(&self, table: &CopyTable) -> Vec<String> {
        table.shape.uniques.iter().map(|index| self.blocked_by(table, index)).collect()
    }

    fn blocked_by(&self, table: &CopyTable, index: &UniqueIndex) -> String {
        let shape = &table.shape;
        let (own, place) = (shape.unused_name("segue_u"), shape.unused_name("segue_place"));
        let parts: Vec<String> = index
            .parts
            .iter()
            .enumerate()
            .map(|(n, part)| format!("({part}) AS {own}{n}"))
            .collect();
        let mut matches: Vec<String> = (0..index.parts.len())
            .map(|n| {
                let operator = index.operators.get(n).map_or("=", String::as_str);
                let equal = format!("t.{own}{n} {operator} w.{own}{n}");
                if index.nulls_equal {
                    format!("({equal} OR (t.{own}{n} IS NULL AND w.{own}{n} IS NULL))")
                } else {
                    equal
                }
            })
            .collect();
        let same_key: Vec<String> = shape
            .key
            .iter()
            .map(|column| format!("t.{0} {1} w.{0}", column.name, column.shadow_equals))
            .collect();
        matches.push(format!("NOT ({})", same_key.join(" AND ")));
        let condition =
            index.predicate.as_ref().map(|text| format!(" WHERE {text}")).unwrap_or_default();
        format!(
            "WITH blocked AS (SELECT w.{place} FROM \
                 (SELECT *, ctid AS {place}, {parts} FROM {stage}{condition}) AS w \
                 JOIN (SELECT *, {parts} FROM {table}{condition}) AS t ON {matches}) \
             DELETE FROM {stage} AS t USING blocked AS b WHERE t.ctid = b.{place} \
             RETURNING {keys}",
            parts = parts.join(", "),
            stage = self.name,
            table = shape.shadow.quoted(),
            matches = matches.join(" AND "),
            keys = shape.key_texts(),
        )
    }

    /// Takes out the rows that refer to rows which are not there, and answers their keys.
    pub(super) fn without_parents(&self, table: &CopyTable) -> Vec<String> {
        table.shape.references.iter().map(|reference| self.orphans(table, reference)).collect()
    }

    fn orphans(&self, table: &CopyTable, reference: &ForeignKey) -> String {
        let pairs = reference.child_columns.iter().zip(&reference.parent_columns);
        let matches: Vec<String> = pairs
            .map(|(child, parent)| {
                format!("p.{} = t.{}", quote_identifier(parent), quote_identifier(child))
            })
            .collect();
        let given: Vec<String> = reference
            .child_columns
            .iter()
            .map(|child| format!("t.{} IS NOT NULL", quote_identifier(child)))
            .collect();
        let matches = matches.join(" AND ");
        let among_them = if reference.parent == table.shape.shadow {
            format!(" AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {matches})", self.name)
        } else {
            String::new()
        };
        format!(
            "DELETE FROM {} AS t WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {matches})\
             {among_them} RETURNING {}",
            self.name,
            given.join(" AND "),
            reference.parent.quoted(),
            table.shape.key_texts()
        )
    }
}

/// Keys from rows of texts.
pub(super) fn keys_of(table_id: i32, rows: &[Row]) -> Result<Vec<RowKey>, SqlFault> {
    let key = |row: &Row| {
        let values = (0..row.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>()?;
        Ok(RowKey { table_id, values })
    };
    rows.iter().map(key).collect()
}
