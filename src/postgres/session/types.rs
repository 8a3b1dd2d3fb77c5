//! The driver's types and columns as segue's.

use std::sync::Arc;

use tokio_postgres::types::{Kind, Type};

use crate::domain::pg_type::{Column, PgType, TypeKind};

/// A type of the driver as one of segue's. Types are made when a statement is prepared and
/// kept with it, so that executing it makes none.
pub fn pg_type(ty: &Type) -> Arc<PgType> {
    pg_type_on(ty, false)
}

/// The same on a server that writes `money` as dollars, or not.
pub(super) fn pg_type_on(ty: &Type, dollars: bool) -> Arc<PgType> {
    let kind = match *ty {
        Type::MONEY if dollars => TypeKind::Dollars,
        _ => type_kind(ty.kind(), dollars),
    };
    let (name, schema) = (ty.name().to_owned(), ty.schema().to_owned());
    Arc::new(PgType { oid: ty.oid(), name, schema, kind })
}

fn type_kind(kind: &Kind, dollars: bool) -> TypeKind {
    let pg_type = |ty| pg_type_on(ty, dollars);
    match kind {
        Kind::Enum(labels) => TypeKind::Enum(labels.clone()),
        Kind::Pseudo => TypeKind::Pseudo,
        Kind::Array(element) => TypeKind::Array(pg_type(element)),
        Kind::Range(element) => TypeKind::Range(pg_type(element)),
        Kind::Multirange(element) => TypeKind::Multirange(pg_type(element)),
        Kind::Domain(base) => TypeKind::Domain(pg_type(base)),
        Kind::Composite(fields) => TypeKind::Composite(
            fields.iter().map(|field| (field.name().to_owned(), pg_type(field.type_()))).collect(),
        ),
        // `Simple`, and whatever a later driver adds: bytes that segue does not look into.
        _ => TypeKind::Simple,
    }
}

/// The columns of a prepared statement.
pub fn columns(columns: &[tokio_postgres::Column]) -> Arc<[Column]> {
    columns_on(columns, false)
}

/// As [`pg_type_on`].
pub(super) fn columns_on(columns: &[tokio_postgres::Column], dollars: bool) -> Arc<[Column]> {
    columns
        .iter()
        .map(|column| Column {
            name: column.name().to_owned(),
            ty: pg_type_on(column.type_(), dollars),
            type_modifier: column.type_modifier(),
            table_oid: column.table_oid(),
            column_id: column.column_id(),
        })
        .collect()
}
