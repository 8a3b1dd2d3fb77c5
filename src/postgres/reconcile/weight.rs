//! How many bytes a row has, as SQL: asked before it is sent.

use crate::domain::pg_type::{Column, PgType, TypeKind};
use crate::domain::table::quote_identifier;
use crate::postgres::mapping::form;
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::reconcile::wanted::Wanted;

/// Types of which no value is worth counting.
const SMALL: [&str; 27] = [
    "bool",
    "char",
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "money",
    "name",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "point",
    "lseg",
    "box",
    "line",
    "circle",
    "pg_lsn",
];
/// Nor of a text of at most so many characters.
const SMALL_CHARACTERS: i32 = 255;
/// Added to every length and scale in `atttypmod`.
const MODIFIER_BASE: i32 = 4;
/// Bytes up to which a stored value may be taken for one that nobody has compressed.
const PLAIN_BYTES: u32 = 2000;
/// The same where only large values are of interest.
const LARGE_BYTES: u32 = 64 << 10;
/// What such a value is counted as for each of its bytes, since it may be compressed after all.
const PLAIN_FACTOR: u32 = 4;

/// How closely it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Care {
    /// Only what is large as it is stored is unpacked.
    OfLarge,
    /// Beside the row itself: small values cost next to nothing.
    Roughly,
    /// What is compressed is unpacked.
    Exactly,
}

/// Bytes of a row `t` as a reading sends it, as a `float8`; none where all its columns are small.
pub(in crate::postgres) fn of_row(
    shape: &TableShape,
    role: Role,
    wanted: Wanted,
    care: Care,
) -> Option<String> {
    let columns = shape.columns(role).iter().enumerate().filter(|(_, column)| !is_small(column));
    let sizes: Vec<String> = columns
        .map(|(index, column)| {
            let twice = wanted == Wanted::Compared && is_sent_twice(shape, role, index);
            let size = of_column(column, care);
            if twice { format!("2 * {size}") } else { size }
        })
        .collect();
    (!sizes.is_empty()).then(|| format!("({})", sizes.join(" + ")))
}

/// The column, and the cell by which it is compared.
fn is_sent_twice(shape: &TableShape, role: Role, index: usize) -> bool {
    shape.compared().filter(|pair| pair.compared.is_some()).any(|pair| match role {
        Role::Primary => pair.primary == index,
        Role::Shadow => pair.shadow == index,
    })
}

fn is_small(column: &Column) -> bool {
    let ty = column.ty.base();
    if matches!(ty.kind, TypeKind::Enum(_)) {
        return true;
    }
    if ty.schema != "pg_catalog" || ty.kind != TypeKind::Simple {
        return false;
    }
    let limit = column.type_modifier - MODIFIER_BASE;
    match ty.name.as_str() {
        "varchar" | "bpchar" => (0..=SMALL_CHARACTERS).contains(&limit),
        "numeric" => limit >= 0,
        name => SMALL.contains(&name),
    }
}

/// Of texts and bytes the server knows the size without unpacking them.
fn of_column(column: &Column, care: Care) -> String {
    let name = format!("t.{}", quote_identifier(&column.name));
    let size = match is_plain(column.ty.base()) {
        true => format!("pg_catalog.octet_length({name})"),
        false => {
            let stored = format!("pg_catalog.pg_column_size({name})");
            let text = form::text(column.ty.base(), &name);
            let plain = match care {
                Care::OfLarge => LARGE_BYTES,
                Care::Roughly => PLAIN_BYTES,
                Care::Exactly => 0,
            };
            format!(
                "CASE WHEN {stored} > {plain} THEN pg_catalog.octet_length({text}) \
                 ELSE {stored} * {PLAIN_FACTOR} END"
            )
        }
    };
    format!("coalesce(({size})::pg_catalog.float8, 0)")
}

fn is_plain(ty: &PgType) -> bool {
    ty.schema == "pg_catalog" && matches!(ty.name.as_str(), "text" | "varchar" | "bpchar" | "bytea")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::mapping::table::tests::shape;

    #[test]
    fn rows_of_small_columns_are_not_asked_for_their_size() {
        let mut shape = shape();
        for column in &mut shape.primary_columns {
            column.type_modifier = MODIFIER_BASE + 40;
            let small = PgType { name: "varchar".to_owned(), ..(*column.ty).clone() };
            column.ty = std::sync::Arc::new(small);
        }
        let of = |role| of_row(&shape, role, Wanted::Compared, Care::Roughly);
        assert_eq!(of(Role::Primary), None);
        let text = of(Role::Shadow).unwrap_or_default();
        assert!(text.contains("pg_catalog.octet_length(t.\"own\")"), "{text}");
    }

    #[test]
    fn a_cell_to_compare_by_is_counted_as_well() {
        let mut shape = shape();
        shape.pairs[2].compared = Some(0);
        let size = of_row(&shape, Role::Primary, Wanted::Compared, Care::Roughly);
        assert!(
            size.is_some_and(
                |size| size.contains("2 * coalesce((pg_catalog.octet_length(t.\"note\"")
            )
        );
        let size = of_row(&shape, Role::Primary, Wanted::Columns, Care::Roughly);
        assert!(size.is_some_and(|size| !size.contains("2 *")));
    }
}
