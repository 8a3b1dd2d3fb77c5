//! How the tables of both sides correspond, column by column.

use crate::compare::cell::ColumnPair;
use crate::domain::pg_type::{Column, TypeKind};
use crate::domain::table::{TableName, quote_identifier};
use crate::postgres::reconcile::lock::Canon;

/// A column that both sides have and that the shadow lets us write.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Position on the primary.
    pub primary: usize,
    /// Position on the shadow.
    pub shadow: usize,
    /// What the comparer judges by.
    pub judged: ColumnPair,
    /// The shadow's type, precision included.
    pub shadow_type: String,
    /// A unique index of the shadow, other than the primary key, depends on it.
    pub unique: bool,
    /// The shadow generates it always: only an INSERT can give it a value.
    pub identity_always: bool,
}

/// A column of the primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name on both sides, quoted.
    pub name: String,
    /// Its type on the primary, to cast the key's text to.
    pub primary_cast: String,
    /// Its type on the shadow.
    pub shadow_cast: String,
    /// The operator of the primary's index, named so that no search path matters.
    pub primary_equals: String,
    /// The operator of the shadow's index.
    pub shadow_equals: String,
    /// "Comes after", likewise, on the primary.
    pub primary_after: String,
    /// And on the shadow.
    pub shadow_after: String,
    /// "Comes no later than", likewise, on the primary.
    pub primary_until: String,
    /// And on the shadow.
    pub shadow_until: String,
    /// How the primary is made to order it as the shadow does.
    pub primary_sort: Sort,
    /// And the shadow as the primary.
    pub shadow_sort: Sort,
    /// How its text is made canonical for the lock.
    pub canon: Canon,
}

/// How a key column is brought into the one order that both sides have: that of its values, and
/// of texts that of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The type's own order is that; the primary key's index serves.
    Own,
    /// By `COLLATE "C"`: the column's collation is another, and so is that of its index.
    Bytes,
    /// By the labels of an enumeration, whose order differs between the sides.
    Labels,
}

// === impl Pair ===

impl Pair {
    /// Whether both columns have one type, precision included, so that equal bytes are equal values
    /// and none needs to be made into another.
    pub fn same_type(&self) -> bool {
        let (primary, shadow) = (&self.judged.primary, &self.judged.shadow);
        primary.ty.oid == shadow.ty.oid
            && primary.ty.kind == TypeKind::Simple
            && shadow.ty.kind == TypeKind::Simple
            && primary.type_modifier == shadow.type_modifier
            // Ids of the servers' own types are the same everywhere.
            && primary.ty.oid < FIRST_OWN_ID
    }
}

/// Types with lower ids are the server's own.
const FIRST_OWN_ID: u32 = 16_384;

/// A unique index of the shadow that is not the primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueIndex {
    /// The name that a violation reports.
    pub name: String,
    /// Its columns or expressions as SQL.
    pub parts: Vec<String>,
    /// For each part the operator by which two rows are in each other's way, named so that no
    /// search path matters.
    pub operators: Vec<String>,
    /// The condition of a partial index.
    pub predicate: Option<String>,
    /// Two NULLs are the same to it.
    pub nulls_equal: bool,
}

/// A foreign key of the shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The name that a violation reports.
    pub name: String,
    /// The table that refers.
    pub child: TableName,
    /// Its columns.
    pub child_columns: Vec<String>,
    /// The table referred to.
    pub parent: TableName,
    /// Its columns.
    pub parent_columns: Vec<String>,
}

/// A migrated table as both sides have it.
#[derive(Debug, Clone)]
pub struct TableShape {
    /// Its small id.
    pub table_id: i32,
    /// Where it is on the primary.
    pub primary: TableName,
    /// Where it is on the shadow.
    pub shadow: TableName,
    /// The columns of the primary, in the order of `SELECT *`.
    pub primary_columns: Vec<Column>,
    /// The columns of the shadow, likewise.
    pub shadow_columns: Vec<Column>,
    /// The columns that are written.
    pub pairs: Vec<Pair>,
    /// Columns that only the shadow has and that can be written.
    pub shadow_only: Vec<usize>,
    /// Types of those, precision included.
    pub shadow_only_types: Vec<String>,
    /// The primary key.
    pub key: Vec<KeyColumn>,
    /// Other unique indexes of the shadow.
    pub uniques: Vec<UniqueIndex>,
    /// Foreign keys of the shadow in which this table is the child.
    pub references: Vec<ForeignKey>,
}

/// Which side a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The source of truth.
    Primary,
    /// The side that follows.
    Shadow,
}

impl TableShape {
    /// The rules by which key texts are made canonical.
    pub fn canons(&self) -> Vec<Canon> {
        self.key.iter().map(|column| column.canon).collect()
    }

    /// Whether two texts are two keys.
    pub fn texts_are_keys(&self) -> bool {
        self.key.iter().all(|column| column.canon == Canon::Text)
    }

    /// The table on a side, quoted.
    pub fn quoted(&self, role: Role) -> String {
        match role {
            Role::Primary => self.primary.quoted(),
            Role::Shadow => self.shadow.quoted(),
        }
    }

    /// `ROWS FROM (unnest($1), …) WITH ORDINALITY AS k(k1, …, n)`: keys as one array of
    /// texts a column.
    pub fn key_source(&self) -> String {
        let arrays: Vec<String> = (1..=self.key.len())
            .map(|n| format!("pg_catalog.unnest(${n}::pg_catalog.text[])"))
            .collect();
        let names: Vec<String> = (1..=self.key.len()).map(|n| format!("k{n}")).collect();
        format!("ROWS FROM ({}) WITH ORDINALITY AS k({}, n)", arrays.join(", "), names.join(", "))
    }

    /// `t."id" = k.k1::integer AND …`: the cast stands on the key's side, so that the primary
    /// key's index serves.
    pub fn key_match(&self, role: Role, text_of: impl Fn(usize) -> String) -> String {
        let conditions: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let (cast, equals) = match role {
                    Role::Primary => (&column.primary_cast, &column.primary_equals),
                    Role::Shadow => (&column.shadow_cast, &column.shadow_equals),
                };
                format!("t.{} {equals} {}::{cast}", column.name, text_of(index))
            })
            .collect();
        conditions.join(" AND ")
    }

    /// Reads the rows of many keys. `t.*` and not a list of columns: when somebody alters the
    /// table, the prepared statement fails instead of leaving the new column out in silence.
    pub fn select_by_keys(&self, role: Role) -> String {
        format!(
            "SELECT k.n, t.* FROM {} JOIN {} AS t ON {}",
            self.key_source(),
            self.quoted(role),
            self.key_match(role, |index| format!("k.k{}", index + 1))
        )
    }

    /// Deletes the rows of many keys.
    pub fn delete_by_keys(&self) -> String {
        format!(
            "DELETE FROM {} AS t USING {} WHERE {}",
            self.shadow.quoted(),
            self.key_source(),
            self.key_match(Role::Shadow, |index| format!("k.k{}", index + 1))
        )
    }

    /// Updates some columns of one row: the values first, then the key's texts.
    pub fn update_one(&self, pairs: &[usize]) -> String {
        let assignments: Vec<String> = pairs
            .iter()
            .enumerate()
            .map(|(n, index)| format!("{} = ${}", self.shadow_column(*index), n + 1))
            .collect();
        let key = self.key_match(Role::Shadow, |index| {
            format!("${}::pg_catalog.text", pairs.len() + index + 1)
        });
        format!("UPDATE {} AS t SET {} WHERE {key}", self.shadow.quoted(), assignments.join(", "))
    }

    /// Inserts so many rows; with `whole`, the shadow's own columns come after the pairs.
    pub fn insert_many(&self, rows: usize, whole: bool) -> String {
        let mut columns: Vec<String> =
            (0..self.pairs.len()).map(|index| self.shadow_column(index)).collect();
        if whole {
            let own = self.shadow_only.iter();
            columns.extend(own.map(|index| quote_identifier(&self.shadow_columns[*index].name)));
        }
        let width = columns.len();
        let tuples: Vec<String> = (0..rows)
            .map(|row| {
                let cells: Vec<String> =
                    (1..=width).map(|n| format!("${}", row * width + n)).collect();
                format!("({})", cells.join(", "))
            })
            .collect();
        format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES {}",
            self.shadow.quoted(),
            columns.join(", "),
            tuples.join(", ")
        )
    }

    /// `t."id"::text, …`: the key of a row in the outbox's form.
    pub fn key_texts(&self) -> String {
        let texts: Vec<String> =
            self.key.iter().map(|column| format!("t.{}::pg_catalog.text", column.name)).collect();
        texts.join(", ")
    }

    fn shadow_column(&self, pair: usize) -> String {
        quote_identifier(&self.shadow_columns[self.pairs[pair].shadow].name)
    }
}

#[cfg(test)]
pub(in crate::postgres) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::pg_type::PgType;

    fn column(name: &str) -> Column {
        Column {
            name: name.to_owned(),
            ty: Arc::new(PgType {
                oid: 25,
                name: "text".to_owned(),
                schema: "pg_catalog".to_owned(),
                kind: TypeKind::Simple,
            }),
            type_modifier: -1,
            table_oid: None,
            column_id: None,
        }
    }

    /// `t(id, code unique, note)` on both sides, and `own` on the shadow only.
    pub(in crate::postgres) fn shape() -> TableShape {
        let columns: Vec<Column> = ["id", "code", "note"].into_iter().map(column).collect();
        let pairs = columns
            .iter()
            .enumerate()
            .map(|(index, column)| Pair {
                primary: index,
                shadow: index,
                judged: super::super::cells::pair(column.clone(), column.clone()),
                shadow_type: "text".to_owned(),
                unique: index == 1,
                identity_always: false,
            })
            .collect();
        let mut shadow_columns = columns.clone();
        shadow_columns.push(column("own"));
        TableShape {
            table_id: 1,
            primary: TableName::new("app", "t"),
            shadow: TableName::new("crdb", "t"),
            primary_columns: columns,
            shadow_columns,
            pairs,
            shadow_only: vec![3],
            shadow_only_types: vec!["text".to_owned()],
            key: vec![KeyColumn {
                name: "\"id\"".to_owned(),
                primary_cast: "integer".to_owned(),
                shadow_cast: "bigint".to_owned(),
                primary_equals: "=".to_owned(),
                shadow_equals: "=".to_owned(),
                primary_after: ">".to_owned(),
                shadow_after: ">".to_owned(),
                primary_until: "<=".to_owned(),
                shadow_until: "<=".to_owned(),
                primary_sort: Sort::Own,
                shadow_sort: Sort::Own,
                canon: Canon::Text,
            }],
            uniques: Vec::new(),
            references: Vec::new(),
        }
    }

    #[test]
    fn statements_name_each_side() {
        let shape = shape();
        assert_eq!(
            shape.select_by_keys(Role::Primary),
            "SELECT k.n, t.* FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[])) \
             WITH ORDINALITY AS k(k1, n) JOIN \"app\".\"t\" AS t ON t.\"id\" = k.k1::integer"
        );
        assert_eq!(
            shape.update_one(&[2]),
            "UPDATE \"crdb\".\"t\" AS t SET \"note\" = $1 \
             WHERE t.\"id\" = $2::pg_catalog.text::bigint"
        );
        assert_eq!(
            shape.insert_many(2, true),
            "INSERT INTO \"crdb\".\"t\" (\"id\", \"code\", \"note\", \"own\") \
             OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4), ($5, $6, $7, $8)"
        );
    }
}
