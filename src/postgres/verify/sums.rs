//! Checksums as SQL: how many rows a key range has, and a sum over their normalized contents
//! that does not depend on their order.
//!
//! A row is hashed whole, its key with it, so that values which two rows have swapped are seen,
//! and the hash is mixed before it is added up: what is added up must not be linear in a column.
//! Two sums of each row are taken, so that no pair of changes is cancelled.

use crate::compare::common::{Common, common};
use crate::domain::key_range::KeyRange;
use crate::domain::table::quote_identifier;
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::reconcile::shape::{Role, TableShape};

/// How rows are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// The row in the binary format of the wire, by PostgreSQL's own 64-bit hash. Both servers
    /// must agree on it, which is asked ([`PROBE`]).
    Binary,
    /// The row as text, by MD5: the same on every server.
    Text,
}

/// The hash of a known row. Servers of another byte order give another.
pub(super) const PROBE: &str = "SELECT pg_catalog.hash_record_extended(\
    ROW(pg_catalog.record_send(ROW(42::pg_catalog.int8, 'seven'::pg_catalog.text, \
    NULL::pg_catalog.bool, '\\x00ff'::pg_catalog.bytea))), 0)::pg_catalog.text";

/// A migrated table, and how its columns are brought to one form.
#[derive(Debug, Clone)]
pub struct Columns {
    names: Vec<(String, String)>,
    forms: Vec<Common>,
}

/// What a key range adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// Rows.
    pub rows: u64,
    /// Both sums, as the server wrote them.
    sums: (String, String),
}

// === impl Columns ===

impl Columns {
    /// Of a table: the columns that both sides have and that the shadow does not generate.
    pub fn of(shape: &TableShape) -> Self {
        let quoted = |name: &str| quote_identifier(name);
        let names = shape.pairs.iter().map(|pair| {
            let (one, other) = (&pair.judged.primary.name, &pair.judged.shadow.name);
            (quoted(one), quoted(other))
        });
        Self {
            names: names.collect(),
            forms: shape.pairs.iter().map(|pair| common(&pair.judged)).collect(),
        }
    }

    /// Columns that no database can bring to one form, with the reason. They are left out of
    /// the checksum, so that equal sums prove nothing where there is one.
    pub fn apart(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.names.iter().zip(&self.forms).filter_map(|((name, _), form)| match form {
            Common::Apart(why) => Some((name.as_str(), *why)),
            _ => None,
        })
    }

    /// The columns of one side in their common form.
    fn expressions(&self, role: Role) -> Vec<String> {
        let columns = self.names.iter().zip(&self.forms);
        columns
            .filter_map(|((primary, shadow), form)| {
                let name = if role == Role::Primary { primary } else { shadow };
                let column = format!("t.{name}");
                match form {
                    Common::As(ty) => Some(format!("{column}::{ty}")),
                    Common::Decimal => {
                        Some(format!("pg_catalog.trim_scale({column}::pg_catalog.numeric)"))
                    }
                    Common::Unpadded => {
                        Some(format!("pg_catalog.rtrim({column}::pg_catalog.text, ' ')"))
                    }
                    Common::Apart(_) => None,
                }
            })
            .collect()
    }

    /// The hash of a row, as `h`.
    fn row_hash(&self, role: Role, hash: Hash) -> String {
        let columns = self.expressions(role);
        match hash {
            Hash::Binary => format!(
                "pg_catalog.hash_record_extended(ROW(pg_catalog.record_send(ROW({}))), 0) AS h",
                columns.join(", ")
            ),
            Hash::Text => {
                let texts: Vec<String> = columns.iter().map(|column| spelt(column)).collect();
                // A table may have no column that can be hashed.
                let row = if texts.is_empty() { "''".to_owned() } else { texts.join(" || ") };
                format!("pg_catalog.md5({row}) AS h")
            }
        }
    }
}

/// A value as text that says where it ends. NULL is no length.
fn spelt(column: &str) -> String {
    let text = format!("{column}::pg_catalog.text");
    format!("coalesce(pg_catalog.length({text})::pg_catalog.text || ':' || {text}, '~')")
}

/// What is selected over the hashed rows `s`.
fn totals(hash: Hash, is_cockroach: bool) -> String {
    match hash {
        Hash::Binary => {
            "pg_catalog.count(*), coalesce(pg_catalog.bit_xor(s.h), 0)::pg_catalog.text, \
            coalesce(pg_catalog.sum(s.h), 0)::pg_catalog.text"
                .to_owned()
        }
        Hash::Text => {
            let half = |from: u8| {
                let digits = format!("pg_catalog.substr(s.h, {from}, 15)");
                if is_cockroach {
                    format!("('0x' || {digits})::INT8")
                } else {
                    format!("('x0' || {digits})::pg_catalog.\"bit\"(64)::pg_catalog.int8")
                }
            };
            format!(
                "pg_catalog.count(*), coalesce(pg_catalog.sum({}), 0)::pg_catalog.text, \
                 coalesce(pg_catalog.sum({}), 0)::pg_catalog.text",
                half(1),
                half(17)
            )
        }
    }
}

/// A side that sums are asked of.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The table.
    pub shape: &'a TableShape,
    /// Its columns.
    pub columns: &'a Columns,
    /// The side.
    pub role: Role,
    /// How rows are hashed.
    pub hash: Hash,
    /// CockroachDB rather than PostgreSQL.
    pub is_cockroach: bool,
}

// === impl Asked ===

impl Asked<'_> {
    fn key(&self) -> KeySql<'_> {
        KeySql::new(self.shape, self.role, Order::Same)
    }

    /// The sums of a range, as one row. `OFFSET 0` keeps the planner from hashing a row once
    /// for each sum.
    pub fn of_range(&self, range: &KeyRange) -> String {
        format!(
            "SELECT {} FROM (SELECT {} FROM {} AS t WHERE {} OFFSET 0) AS s",
            totals(self.hash, self.is_cockroach),
            self.columns.row_hash(self.role, self.hash),
            self.shape.quoted(self.role),
            self.key().rows_within(range),
        )
    }

    /// The sums of the parts of a range, by their place in it; parts without rows are left out.
    pub fn of_parts(&self, range: &KeyRange, parts: &[KeyRange]) -> String {
        let key = self.key();
        let mut part = String::from("CASE");
        for (index, within) in parts.iter().enumerate() {
            // Parts meet: what is not in those before it is after their ends.
            let end = KeyRange { after: None, until: within.until.clone() };
            part.push_str(&format!(" WHEN {} THEN {index}", key.rows_within(&end)));
        }
        part.push_str(" END");
        format!(
            "SELECT s.part, {} FROM (SELECT {part} AS part, {} FROM {} AS t WHERE {} OFFSET 0) AS s \
             GROUP BY s.part",
            totals(self.hash, self.is_cockroach),
            self.columns.row_hash(self.role, self.hash),
            self.shape.quoted(self.role),
            key.rows_within(range),
        )
    }
}

// === impl Sums ===

impl Sums {
    /// From the cells of a row: count and two sums.
    pub(super) fn parse(cells: &[Option<String>]) -> Option<Self> {
        let [Some(rows), Some(one), Some(other)] = cells else { return None };
        Some(Self { rows: rows.parse().ok()?, sums: (one.clone(), other.clone()) })
    }

    /// Of no rows.
    pub(super) fn none() -> Self {
        Self { rows: 0, sums: ("0".to_owned(), "0".to_owned()) }
    }
}
