//! How the tables of both sides correspond, column by column.

use crate::compare::cell::ColumnPair;
use crate::compare::common::{Form, is_by_bytes};
use crate::dialect::Dialect;
use crate::domain::pg_type::Column;
use crate::domain::table::{TableName, quote_identifier};
use crate::postgres::mapping::canon::Canon;

/// A column that both sides have.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Position on the primary.
    pub primary: usize,
    /// Position on the shadow.
    pub shadow: usize,
    /// Both sides' columns.
    pub judged: ColumnPair,
    /// The form in which its values are compared.
    pub form: Form,
    /// Which of the cells asked for it is compared by; none where that is the column's own.
    pub compared: Option<usize>,
    /// Its cells are read and written as text.
    pub by_text: bool,
    /// The shadow's type, precision included.
    pub shadow_type: String,
    /// A unique index of the shadow, other than the primary key, depends on it.
    pub unique: bool,
    /// The shadow generates it always: only an INSERT can give it a value.
    pub identity_always: bool,
    /// What the shadow speaks.
    pub shadow_dialect: Dialect,
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
    /// The columns that the shadow generates: compared, and never written.
    pub generated: Vec<Pair>,
    /// What the primary and the shadow speak.
    pub dialects: [Dialect; 2],
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

    /// The pairs that are compared: those that are written, and those that the shadow generates.
    pub fn compared(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().chain(&self.generated)
    }

    /// The columns of a side, in the order of the table.
    pub fn columns(&self, role: Role) -> &[Column] {
        match role {
            Role::Primary => &self.primary_columns,
            Role::Shadow => &self.shadow_columns,
        }
    }

    /// Whether the cells of a column are read as text.
    pub fn is_text(&self, role: Role, column: usize) -> bool {
        if self.across() {
            return false;
        }
        let place: fn(&Pair) -> usize = match role {
            Role::Primary => |pair| pair.primary,
            Role::Shadow => |pair| pair.shadow,
        };
        match self.compared().find(|pair| place(pair) == column) {
            Some(pair) => pair.by_text,
            None => self.columns(role).get(column).is_some_and(|column| !is_by_bytes(&column.ty)),
        }
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

    /// A name that no column of the shadow has, nor the beginning of one's: for what stands beside
    /// all of them in a statement.
    pub fn unused_name(&self, stem: &str) -> String {
        let mut name = stem.to_owned();
        while self.shadow_columns.iter().any(|column| column.name.starts_with(&name)) {
            name.push('_');
        }
        name
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
            "INSERT INTO {} ({}){} VALUES {}",
            self.shadow.quoted(),
            columns.join(", "),
            self.overriding(),
            tuples.join(", ")
        )
    }

    /// What stands between the columns of an INSERT and its values.
    pub fn overriding(&self) -> &'static str {
        if self.dialect(Role::Shadow).overrides_identity() {
            " OVERRIDING SYSTEM VALUE"
        } else {
            ""
        }
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
    use crate::domain::pg_type::{PgType, TypeKind};

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
                form: Form::Own("pg_catalog.text".to_owned()),
                compared: None,
                by_text: false,
                shadow_type: "text".to_owned(),
                unique: index == 1,
                identity_always: false,
                shadow_dialect: Dialect::default(),
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
            generated: Vec::new(),
            dialects: [Dialect::default(); 2],
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
    fn a_name_of_segues_own_is_no_columns() {
        let mut shape = shape();
        assert_eq!(shape.unused_name("segue_u"), "segue_u");
        shape.shadow_columns[1].name = "segue_u0".to_owned();
        shape.shadow_columns[2].name = "segue_u_".to_owned();
        assert_eq!(shape.unused_name("segue_u"), "segue_u__");
    }

    #[test]
    fn statements_name_each_side() {
        let shape = shape();
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
