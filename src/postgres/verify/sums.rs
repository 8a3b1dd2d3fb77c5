//! Checksums as SQL: how many rows a key range has, and a sum over their stored images
//! that does not depend on their order.
//!
//! A row is hashed whole, its key with it, so that values which two rows have swapped are seen,
//! and the hash is mixed before it is added up: what is added up must not be linear in a column.
//! Two sums of each row are taken, so that no pair of changes is cancelled.

use crate::dialect::Dialect;
use crate::domain::key_range::KeyRange;
use crate::domain::table::quote_identifier;
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::form;
use crate::postgres::mapping::table::{Pair, Role, TableShape};

/// How rows are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// The row in the binary format of the wire, by PostgreSQL's own 64-bit hash. Both servers
    /// must agree on it, which is asked (`PROBE`).
    Binary,
    /// The row as text, by MD5: the same on every server.
    Text,
}

/// The hash of a known row. Servers of another byte order give another.
pub(super) const PROBE: &str = "SELECT pg_catalog.hash_record_extended(\
    ROW(pg_catalog.record_send(ROW(42::pg_catalog.int8, 'seven'::pg_catalog.text, \
    NULL::pg_catalog.bool, '\\x00ff'::pg_catalog.bytea))), 0)::pg_catalog.text";

/// What a key range adds up to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// Rows.
    pub rows: u64,
    /// Both sums, as the server wrote them.
    sums: (String, String),
}

/// The columns of one side in the form in which they are compared: those that both sides have,
/// the ones among them that the shadow generates included.
fn images(shape: &TableShape, role: Role) -> Vec<String> {
    let image = |pair: &Pair| {
        let column = match role {
            Role::Primary => &pair.judged.primary,
            Role::Shadow => &pair.judged.shadow,
        };
        form::image(pair, role, &format!("t.{}", quote_identifier(&column.name)), shape.across())
    };
    shape.compared().map(image).collect()
}

/// The hash of a row, as `h`.
fn row_hash(shape: &TableShape, role: Role, hash: Hash) -> String {
    let columns = images(shape, role);
    match hash {
        Hash::Binary => format!(
            "pg_catalog.hash_record_extended(ROW(pg_catalog.record_send(ROW({}))), 0) AS h",
            columns.join(", ")
        ),
        Hash::Text => {
            let texts: Vec<String> = columns.iter().map(|column| spelt(column)).collect();
            format!("pg_catalog.md5({}) AS h", texts.join(" || "))
        }
    }
}

/// A value as text that says where it ends. NULL is no length.
fn spelt(column: &str) -> String {
    let text = format!("{column}::pg_catalog.text");
    format!("coalesce(pg_catalog.length({text})::pg_catalog.text || ':' || {text}, '~')")
}

/// What is selected over the hashed rows `s`.
fn totals(hash: Hash, dialect: Dialect) -> String {
    match hash {
        Hash::Binary => {
            "pg_catalog.count(*), coalesce(pg_catalog.bit_xor(s.h), 0)::pg_catalog.text, \
            coalesce(pg_catalog.sum(s.h), 0)::pg_catalog.text"
                .to_owned()
        }
        Hash::Text => {
            let half =
                |from: u8| dialect.number_of_digits(&format!("pg_catalog.substr(s.h, {from}, 15)"));
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
    /// The side.
    pub role: Role,
    /// How rows are hashed.
    pub hash: Hash,
    /// What the side speaks.
    pub dialect: Dialect,
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
            totals(self.hash, self.dialect),
            row_hash(self.shape, self.role, self.hash),
            self.shape.quoted(self.role),
            self.key().rows_within(range),
        )
    }

    /// The number of rows of a range, whatever they hold.
    pub fn count(&self, range: &KeyRange) -> String {
        format!(
            "SELECT pg_catalog.count(*) FROM {} AS t WHERE {}",
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
            totals(self.hash, self.dialect),
            row_hash(self.shape, self.role, self.hash),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::mapping::table::tests::shape;

    #[test]
    fn a_row_is_hashed_whole_and_once() {
        let shape = shape();
        let asked = |role, hash, dialect| Asked { shape: &shape, role, hash, dialect };
        let range = KeyRange { after: Some(vec!["5".to_owned()]), until: None };
        let sql = asked(Role::Primary, Hash::Binary, Dialect::POSTGRESQL).of_range(&range);
        assert_eq!(
            sql,
            "SELECT pg_catalog.count(*), coalesce(pg_catalog.bit_xor(s.h), 0)::pg_catalog.text, \
             coalesce(pg_catalog.sum(s.h), 0)::pg_catalog.text FROM (SELECT \
             pg_catalog.hash_record_extended(ROW(pg_catalog.record_send(ROW(\
             t.\"id\"::pg_catalog.text, t.\"code\"::pg_catalog.text, \
             t.\"note\"::pg_catalog.text))), 0) AS h FROM \"app\".\"t\" AS t \
             WHERE (t.\"id\") > ('5'::integer) OFFSET 0) AS s"
        );
        let parts = range.split_at(vec![vec!["7".to_owned()]]);
        let whole = KeyRange { after: Some(vec!["5".to_owned()]), until: None };
        let sql = asked(Role::Shadow, Hash::Text, Dialect::COCKROACHDB).of_parts(&whole, &parts);
        assert!(
            sql.contains(
                "CASE WHEN (t.\"id\") <= ('7'::bigint) THEN 0 WHEN true THEN 1 END AS part"
            ),
            "{sql}"
        );
        assert!(sql.contains("('0x' || pg_catalog.substr(s.h, 17, 15))::INT8"), "{sql}");
    }

    #[test]
    fn sums_of_another_form_are_not_taken_for_none() {
        assert_eq!(Sums::parse(&[Some("x".into()), Some("0".into()), Some("0".into())]), None);
        assert_eq!(Sums::parse(&[Some("1".into()), None, Some("0".into())]), None);
        let none = ["0", "0", "0"].map(|cell| Some(cell.to_owned()));
        assert_eq!(Sums::parse(&none), Some(Sums::none()));
    }
}
