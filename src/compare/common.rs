//! The common form of a column's two types: the coarser of both, in which equal bytes are
//! equal values by the rules of [`judge`](crate::compare::cell::judge).
//!
//! The converse does not hold, and need not: a cut timestamp is equal to its finer one although
//! PostgreSQL would have rounded it. Whoever finds different bytes asks `judge`.

use crate::compare::cell::{ColumnPair, coarser_digits, is_interval, is_text, same_type};
use crate::domain::pg_type::{Column, PgType, TypeKind};

/// What both sides' values of a column are brought to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Common {
    /// Cast to this built-in type, whose binary form is the same in every database: `int8`,
    /// `timestamptz(3)`, `text[]`.
    As(String),
    /// `numeric`, without the zeros at its end.
    Decimal,
    /// Text, without the spaces at its end.
    Unpadded,
    /// No database can bring them to one form; why. The rows must be compared one by one.
    Apart(&'static str),
}

/// Built-in types whose binary form says all of a value, and the same in every database.
const BY_BYTES: [&str; 28] = [
    "bool",
    "bytea",
    "uuid",
    "date",
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "char",
    "json",
    "jsonb",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "money",
    "xid8",
    "pg_lsn",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "timestamptz",
    "timestamp",
];

/// Types whose text is all of their meaning where the other side has a text.
const SPELT: [&str; 11] = [
    "uuid", "json", "jsonb", "macaddr", "macaddr8", "xml", "pg_lsn", "tsvector", "tsquery", "xid8",
    "jsonpath",
];

/// The common form of a pair of stored columns.
pub fn common(pair: &ColumnPair) -> Common {
    let (one, other) = (pair.primary.ty.base(), pair.shadow.ty.base());
    if let (TypeKind::Array(a), TypeKind::Array(b)) = (&one.kind, &other.kind) {
        return array(pair, a, b);
    }
    let is_enum = |ty: &PgType| matches!(ty.kind, TypeKind::Enum(_));
    let both = |test: fn(&str) -> bool| test(&one.name) && test(&other.name);
    let either = |test: fn(&str) -> bool| test(&one.name) || test(&other.name);
    if is_enum(one) || is_enum(other) {
        let labels = |ty: &PgType| is_enum(ty) || is_text(&ty.name);
        return if labels(one) && labels(other) { plain("text") } else { strangers() };
    }
    if both(is_text) {
        return plain("text");
    }
    if both(|name| is_text(name) || name == "bpchar") {
        return if same_length(pair) { plain("bpchar") } else { Common::Unpadded };
    }
    if both(is_moment) {
        return moments(pair, one, other);
    }
    if both(|name| matches!(name, "time" | "timetz" | "interval")) && one.name == other.name {
        return span(pair, &one.name);
    }
    if both(is_number) {
        return numbers(pair, one, other);
    }
    if both(|name| matches!(name, "json" | "jsonb")) && one.name != other.name {
        return plain("jsonb");
    }
    if both(|name| matches!(name, "bit" | "varbit")) {
        return plain("varbit");
    }
    if either(is_text) {
        let spelt = SPELT.contains(&one.name.as_str()) || SPELT.contains(&other.name.as_str());
        return if spelt { plain("text") } else { strangers() };
    }
    if !same_type(one, other) {
        let ranges = |ty: &PgType| matches!(ty.kind, TypeKind::Range(_) | TypeKind::Multirange(_));
        return if ranges(one) && ranges(other) { plain("text") } else { strangers() };
    }
    let built_in = |ty: &PgType| ty.schema == "pg_catalog" && BY_BYTES.contains(&ty.name.as_str());
    if built_in(one) && built_in(other) {
        return plain(&one.name);
    }
    // Types of extensions and of the application: their object ids differ, their text does not.
    plain("text")
}

fn plain(name: &str) -> Common {
    // The quotes keep PostgreSQL from reading `char` as `character(1)`.
    Common::As(if name == "char" { "pg_catalog.\"char\"".to_owned() } else { qualified(name) })
}

fn qualified(name: &str) -> String {
    format!("pg_catalog.{name}")
}

fn strangers() -> Common {
    Common::Apart("the databases have no common form of these two types")
}

fn is_moment(name: &str) -> bool {
    matches!(name, "timestamp" | "timestamptz")
}

fn is_number(name: &str) -> bool {
    is_integer(name) || matches!(name, "numeric" | "money" | "float4" | "float8")
}

fn is_integer(name: &str) -> bool {
    matches!(name, "int2" | "int4" | "int8" | "oid")
}

fn is_float(name: &str) -> bool {
    matches!(name, "float4" | "float8")
}

/// Padded to the same length on both sides, so that equal values are equal bytes.
fn same_length(pair: &ColumnPair) -> bool {
    let (one, other) = (&pair.primary, &pair.shadow);
    one.ty.base().name == "bpchar"
        && other.ty.base().name == "bpchar"
        && one.type_modifier == other.type_modifier
}

/// The finer is rounded to the coarser's digits. In the sessions' zone, UTC, a point in time
/// and the same one without a zone are one.
fn moments(pair: &ColumnPair, one: &PgType, other: &PgType) -> Common {
    let name = if one.name == other.name { one.name.as_str() } else { "timestamp" };
    span(pair, name)
}

fn span(pair: &ColumnPair, name: &str) -> Common {
    let same = pair.primary.type_modifier == pair.shadow.type_modifier;
    let fields = |column: &Column| is_interval(&column.ty) && column.type_modifier >= 0;
    if fields(&pair.primary) && fields(&pair.shadow) && !same && !whole_interval(pair) {
        return Common::Apart("intervals of different fields");
    }
    match coarser_digits(pair) {
        // The grammar knows no other way to say it.
        Some(digits) if name == "interval" => Common::As(format!("interval({digits})")),
        Some(digits) => Common::As(format!("pg_catalog.{name}({digits})")),
        None => plain(name),
    }
}

/// Above the precision stand the fields that a column keeps; all of them where it says none.
fn whole_interval(pair: &ColumnPair) -> bool {
    const ALL_FIELDS: i32 = 0x7FFF;
    [&pair.primary, &pair.shadow].iter().all(|it| it.type_modifier >> 16 == ALL_FIELDS)
}

fn numbers(pair: &ColumnPair, one: &PgType, other: &PgType) -> Common {
    let both = |test: fn(&str) -> bool| test(&one.name) && test(&other.name);
    if one.name == other.name && one.name != "numeric" {
        return plain(&one.name);
    }
    if both(is_integer) {
        return plain("int8");
    }
    if both(is_float) {
        return plain("float8");
    }
    if is_float(&one.name) || is_float(&other.name) {
        return Common::Apart("a float's decimal digits are found outside of the databases");
    }
    let same = pair.primary.type_modifier == pair.shadow.type_modifier;
    let scaled = pair.primary.type_modifier >= 0 && same && both(|name| name == "numeric");
    if scaled { plain("numeric") } else { Common::Decimal }
}

/// Elements are cast one by one, and bounds are part of the bytes.
fn array(pair: &ColumnPair, one: &PgType, other: &PgType) -> Common {
    let element = |column: &Column, ty: &PgType| Column {
        ty: std::sync::Arc::new(ty.clone()),
        ..column.clone()
    };
    let of_elements = ColumnPair {
        primary: element(&pair.primary, one),
        shadow: element(&pair.shadow, other),
        ..pair.clone()
    };
    match common(&of_elements) {
        Common::As(name) => Common::As(format!("{name}[]")),
        Common::Decimal => Common::As("pg_catalog.numeric[]".to_owned()),
        Common::Unpadded => Common::As("pg_catalog.text[]".to_owned()),
        apart @ Common::Apart(_) => apart,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::compare::rules::ColumnRules;

    fn ty(name: &str) -> PgType {
        let kind = match name {
            "status" => TypeKind::Enum(vec!["new".to_owned()]),
            _ => TypeKind::Simple,
        };
        let schema = if name == "status" || name == "citext" { "app" } else { "pg_catalog" };
        match name.strip_prefix('_') {
            Some(element) => PgType {
                oid: 0,
                name: name.to_owned(),
                schema: "pg_catalog".to_owned(),
                kind: TypeKind::Array(Arc::new(ty(element))),
            },
            None => PgType { oid: 0, name: name.to_owned(), schema: schema.to_owned(), kind },
        }
    }

    fn of(one: (&str, i32), other: (&str, i32)) -> Common {
        let column = |(name, type_modifier): (&str, i32)| Column {
            name: "c".to_owned(),
            ty: Arc::new(ty(name)),
            type_modifier,
            table_oid: None,
            column_id: None,
        };
        let pair = ColumnPair {
            primary: column(one),
            shadow: column(other),
            stored: true,
            rules: ColumnRules::default(),
        };
        let (here, mirrored) = (
            common(&pair),
            common(&ColumnPair {
                primary: pair.shadow.clone(),
                shadow: pair.primary.clone(),
                ..pair.clone()
            }),
        );
        assert_eq!(here, mirrored, "{one:?} and {other:?}: the form depends on the side");
        here
    }

    fn to(name: &str) -> Common {
        Common::As(name.to_owned())
    }

    #[test]
    fn the_coarser_of_both_types() {
        assert_eq!(of(("int4", -1), ("int8", -1)), to("pg_catalog.int8"));
        assert_eq!(of(("timestamptz", 6), ("timestamptz", 3)), to("pg_catalog.timestamptz(3)"));
        assert_eq!(of(("timestamptz", -1), ("timestamptz", 6)), to("pg_catalog.timestamptz"));
        assert_eq!(of(("timestamptz", -1), ("timestamp", 0)), to("pg_catalog.timestamp(0)"));
        assert_eq!(of(("json", -1), ("jsonb", -1)), to("pg_catalog.jsonb"));
        assert_eq!(of(("json", -1), ("json", -1)), to("pg_catalog.json"));
        assert_eq!(of(("status", -1), ("text", -1)), to("pg_catalog.text"));
        assert_eq!(of(("citext", -1), ("varchar", 24)), to("pg_catalog.text"));
        assert_eq!(of(("bpchar", 12), ("varchar", 12)), Common::Unpadded);
        assert_eq!(of(("bpchar", 12), ("bpchar", 12)), to("pg_catalog.bpchar"));
        assert_eq!(of(("numeric", 786_438), ("numeric", -1)), Common::Decimal);
        assert_eq!(of(("money", -1), ("numeric", 786_438)), Common::Decimal);
        assert_eq!(of(("float4", -1), ("float8", -1)), to("pg_catalog.float8"));
        assert_eq!(of(("_int4", -1), ("_int8", -1)), to("pg_catalog.int8[]"));
        assert_eq!(of(("_timestamptz", 6), ("_timestamptz", 3)), to("pg_catalog.timestamptz(3)[]"));
        assert_eq!(of(("char", -1), ("char", -1)), to("pg_catalog.\"char\""));
    }

    #[test]
    fn intervals_keep_their_fields() {
        let (whole, day_to_second) = (0x7FFF << 16, 0x1C08 << 16);
        assert_eq!(of(("interval", whole | 3), ("interval", -1)), to("interval(3)"));
        assert_eq!(of(("interval", -1), ("interval", -1)), to("pg_catalog.interval"));
        let found = of(("interval", whole | 3), ("interval", day_to_second | 3));
        assert!(matches!(found, Common::Apart(_)), "{found:?}");
    }

    #[test]
    fn what_has_no_common_form_says_so() {
        for (one, other) in [("float8", "numeric"), ("int4", "text"), ("date", "timestamp")] {
            assert!(matches!(of((one, -1), (other, -1)), Common::Apart(_)), "{one} and {other}");
        }
    }
}
