//! Parts of a table: columns, keys, indexes, triggers, rules.

use crate::domain::table::TableName;

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// `pg_attribute.attnum`.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// `pg_type.oid` of the declared type.
    pub type_oid: u32,
    /// The declared type as SQL writes it, its schema and modifier included.
    pub type_sql: String,
    /// `pg_type.typname` of the type under any domains.
    pub base_type: String,
    /// The schema of the type under any domains.
    pub base_schema: String,
    /// `atttypmod`; of the innermost domain that has one where the column has none.
    pub type_modifier: i32,
    /// Declared `NOT NULL`.
    pub not_null: bool,
    /// Computed from other columns.
    pub generated: Option<Generated>,
    /// Numbered by a sequence of its own.
    pub identity: Option<Identity>,
    /// The default's expression.
    pub default: Option<String>,
    /// Texts that are equal are equal byte by byte; true for types without collation.
    pub deterministic: bool,
}

/// How a generated column is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generated {
    /// Computed on write.
    Stored,
    /// Computed on read.
    Virtual,
}

/// What an identity column says to given values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Refuses them unless overridden.
    Always,
    /// Takes them.
    ByDefault,
}

/// A primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// The constraint's name.
    pub name: String,
    /// Its columns in the order of the key.
    pub columns: Vec<KeyColumn>,
    /// Checked at the end of the statement or the transaction.
    pub deferrable: bool,
}

/// A column of a primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name.
    pub name: String,
    /// `pg_type.typname` of the type under any domains.
    pub base_type: String,
    /// The schema of that type.
    pub base_schema: String,
    /// Values that are equal have equal text: `1.0` and `1.00` as `numeric` have not.
    pub text_equality: bool,
}

/// A unique index that is not the primary key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueIndex {
    /// Its name.
    pub name: String,
    /// Its columns; `None` stands for an expression.
    pub columns: Vec<Option<String>>,
    /// Holds for some rows only.
    pub partial: bool,
    /// `NULL` is equal to `NULL`.
    pub nulls_not_distinct: bool,
    /// The definition as SQL.
    pub definition: String,
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The constraint's name.
    pub name: String,
    /// Columns of this table.
    pub columns: Vec<String>,
    /// The table referred to.
    pub referenced: TableName,
    /// Its columns, one for each of `columns`.
    pub referenced_columns: Vec<String>,
    /// Checked at the end of the transaction where it asks for that.
    pub deferrable: bool,
}

/// A trigger that somebody made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// `O` (ordinary), `D` (disabled), `R` (replica only) or `A` (always).
    pub enabled: char,
    /// The definition as SQL.
    pub definition: String,
}

/// A rewrite rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// The definition as SQL.
    pub definition: String,
}

/// Types whose equality is the equality of their text, given a deterministic collation.
/// `interval` (`1 day` equals `24:00`), `numeric`, floats (`-0`), `bpchar`, `jsonb` and
/// whatever extensions bring stay out.
const TEXT_EQUALITY: [&str; 24] = [
    "bool",
    "char",
    "int2",
    "int4",
    "int8",
    "oid",
    "text",
    "varchar",
    "name",
    "uuid",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "bit",
    "varbit",
    "money",
    "pg_lsn",
];

/// Whether values of a type in `pg_catalog`, or of an enumeration, are equal exactly where
/// their texts are.
pub fn text_equality(schema: &str, name: &str, is_enum: bool, deterministic: bool) -> bool {
    deterministic && (is_enum || (schema == "pg_catalog" && TEXT_EQUALITY.contains(&name)))
}
