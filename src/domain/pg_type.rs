//! PostgreSQL types and result columns, as far as segue must know them.

use std::sync::Arc;

/// A type of one database. Object ids above 16,383 differ between databases;
/// names are what the two sides have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PgType {
    /// `pg_type.oid` in the database that named it.
    pub oid: u32,
    /// `pg_type.typname`: `int4`, `_text`, `order_status`.
    pub name: String,
    /// The schema that holds the type.
    pub schema: String,
    /// How values of the type are built.
    pub kind: TypeKind,
}

/// How values of a type are built.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// A base type.
    Simple,
    /// `money` of a server that writes it as `$1,234.50`; any other is `Simple`, and its
    /// text is not known.
    Dollars,
    /// An enumeration, with its labels in order.
    Enum(Vec<String>),
    /// A pseudo-type such as `record` or `void`.
    Pseudo,
    /// An array of the given element type.
    Array(Arc<PgType>),
    /// A range over the given type.
    Range(Arc<PgType>),
    /// A set of ranges over the given type.
    Multirange(Arc<PgType>),
    /// A constrained form of the given type.
    Domain(Arc<PgType>),
    /// Named fields.
    Composite(Vec<(String, Arc<PgType>)>),
}

impl PgType {
    /// The type under any number of domains.
    pub fn base(&self) -> &Self {
        match &self.kind {
            TypeKind::Domain(inner) => inner.base(),
            _ => self,
        }
    }
}

/// One column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name that the server gave it.
    pub name: String,
    /// Its type; a domain shows as its base type, as the wire protocol has it.
    pub ty: Arc<PgType>,
    /// `atttypmod`: length, precision or scale; -1 where there is none.
    pub type_modifier: i32,
    /// The table it comes from, where it is a plain column of one.
    pub table_oid: Option<u32>,
    /// Its attribute number in that table.
    pub column_id: Option<i16>,
}
