//! The stored image: when two stored values of a column are equal.
//!
//! Two stored values are equal if and only if both, cast to the coarser of the column's two
//! types, have the same stored image there. With equal types that is the image itself, byte by
//! byte: `1` and `1.000` are different, and so are two spellings of one `json` document.
//! Reconcile, verify, repair and the way back go by [`form`]; the rules by which
//! [`judge`](crate::compare::cell::judge) normalizes are for answers to statements.

use std::sync::Arc;

use crate::compare::cell::{ColumnPair, coarser_digits, is_interval, is_text, same_type};
use crate::domain::pg_type::{Column, PgType, TypeKind};

/// What both sides' stored values of a column are brought to before their bytes are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// The cell as it is sent: both sides send the same bytes for the same image. In a statement
    /// the column is cast to this built-in type, whose object id is the same in every database.
    Own(String),
    /// Cast to this built-in type, whose binary form is the same in every database.
    As(String),
    /// A number without the zeros at its end: `numeric` of different scale, numbers of different
    /// types. What the coarser type would round is another value, and is refused when written.
    Value,
    /// An array of such numbers.
    Values,
    /// Text, without the spaces at its end.
    Unpadded,
    /// The text that the type's output function writes. Cells are read and written as text.
    Text,
}

/// Built-in types whose binary form says all of a value, and is the same in every version of
/// PostgreSQL. All others have their text as their image.
const BY_BYTES: [&str; 51] = [
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
    "numeric",
    "text",
    "varchar",
    "name",
    "bpchar",
    "bit",
    "varbit",
    "time",
    "timetz",
    "interval",
    "timestamptz",
    "timestamp",
    "point",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "line",
    "int4range",
    "int8range",
    "numrange",
    "tsrange",
    "tstzrange",
    "daterange",
    "int4multirange",
    "int8multirange",
    "nummultirange",
    "tsmultirange",
    "tstzmultirange",
    "datemultirange",
];

/// Types that are coarser than a text beside them: the text is read as one of theirs.
const COARSER_THAN_TEXT: [&str; 14] = [
    "bool", "int2", "int4", "int8", "oid", "float4", "float8", "uuid", "jsonb", "macaddr",
    "macaddr8", "inet", "cidr", "pg_lsn",
];

/// The form in which a pair of stored columns is compared.
pub fn form(pair: &ColumnPair) -> Form {
    let (one, other) = (pair.primary.ty.base(), pair.shadow.ty.base());
    let is_enum = |ty: &PgType| matches!(ty.kind, TypeKind::Enum(_));
    let both = |test: fn(&str) -> bool| test(&one.name) && test(&other.name);
    if is_enum(one) || is_enum(other) {
        // The binary form of a label is its text.
        let labels = |ty: &PgType| is_enum(ty) || is_text(&ty.name);
        return if labels(one) && labels(other) { own("text") } else { Form::Text };
    }
    if both(is_text) {
        return own("text");
    }
    if both(|name| is_text(name) || name == "bpchar") {
        return if same_length(pair) { own("bpchar") } else { Form::Unpadded };
    }
    if is_text(&one.name) {
        return beside_text(&pair.shadow);
    }
    if is_text(&other.name) {
        return beside_text(&pair.primary);
    }
    if let (TypeKind::Array(a), TypeKind::Array(b)) = (&one.kind, &other.kind) {
        return array(pair, (one, a), (other, b));
    }
    if !is_by_bytes(one) || !is_by_bytes(other) {
        return Form::Text;
    }
    if both(is_moment) {
        return moments(pair, one, other);
    }
    if both(|name| matches!(name, "date" | "timestamp" | "timestamptz")) {
        return if one.name == other.name { own("date") } else { cast("date") };
    }
    if both(|name| matches!(name, "time" | "timetz" | "interval")) && one.name == other.name {
        return span(pair, &one.name);
    }
    if both(is_number) {
        return numbers(pair, one, other);
    }
    if both(|name| matches!(name, "json" | "jsonb")) && one.name != other.name {
        return cast("jsonb");
    }
    if both(|name| matches!(name, "bit" | "varbit")) {
        return own("varbit");
    }
    if same_type(one, other) { own(&one.name) } else { Form::Text }
}

/// Whether cells of the type have their binary form as their image. Of all others the text is
/// read: types of extensions and of the application may have no binary form at all, and those
/// of rows and of arrays hold object ids.
pub fn is_by_bytes(ty: &PgType) -> bool {
    let ty = ty.base();
    match &ty.kind {
        TypeKind::Enum(_) => true,
        TypeKind::Array(element) => ty.name.starts_with('_') && is_built_in(element),
        _ => ty.name == "citext" || is_built_in(ty),
    }
}

fn is_built_in(ty: &PgType) -> bool {
    let whole = !matches!(ty.kind, TypeKind::Array(_) | TypeKind::Domain(_) | TypeKind::Enum(_));
    whole && ty.schema == "pg_catalog" && BY_BYTES.contains(&ty.name.as_str())
}

fn qualified(name: &str) -> String {
    // The quotes keep PostgreSQL from reading `char` as `character(1)`.
    if name == "char" { "pg_catalog.\"char\"".to_owned() } else { format!("pg_catalog.{name}") }
}

fn own(name: &str) -> Form {
    Form::Own(qualified(name))
}

fn cast(name: &str) -> Form {
    Form::As(qualified(name))
}

fn is_moment(name: &str) -> bool {
    matches!(name, "timestamp" | "timestamptz")
}

fn is_number(name: &str) -> bool {
    is_integer(name) || is_float(name) || matches!(name, "numeric" | "money")
}

fn is_integer(name: &str) -> bool {
    matches!(name, "int2" | "int4" | "int8" | "oid")
}

fn is_float(name: &str) -> bool {
    matches!(name, "float4" | "float8")
}

/// A text beside another type: a spelling of one of its values.
fn beside_text(column: &Column) -> Form {
    let ty = column.ty.base();
    match ty.name.as_str() {
        _ if !is_by_bytes(ty) => Form::Text,
        // Its bytes are its text.
        "json" => own("text"),
        "numeric" => Form::Value,
        "date" => cast("date"),
        name @ ("timestamp" | "timestamptz" | "time" | "timetz") if column.type_modifier >= 0 => {
            Form::As(with_digits(name, column.type_modifier))
        }
        name @ ("timestamp" | "timestamptz" | "time" | "timetz" | "interval") => cast(name),
        name if COARSER_THAN_TEXT.contains(&name) => cast(name),
        _ => Form::Text,
    }
}

/// Padded to the same length on both sides, so that equal values are equal bytes.
fn same_length(pair: &ColumnPair) -> bool {
    let (one, other) = (&pair.primary, &pair.shadow);
    one.ty.base().name == "bpchar"
        && other.ty.base().name == "bpchar"
        && one.type_modifier == other.type_modifier
}

/// The finer is rounded to the coarser's digits. In the sessions' zone, UTC, a point in time
/// and the same one without a zone are one, and are the same bytes.
fn moments(pair: &ColumnPair, one: &PgType, other: &PgType) -> Form {
    let name = if one.name == other.name { one.name.as_str() } else { "timestamp" };
    span(pair, name)
}

fn span(pair: &ColumnPair, name: &str) -> Form {
    let fields = |column: &Column| is_interval(&column.ty) && column.type_modifier >= 0;
    if fields(&pair.primary) && fields(&pair.shadow) && !whole_interval(pair) {
        return own(name);
    }
    match coarser_digits(pair) {
        Some(digits) => Form::As(with_digits(name, digits)),
        None => own(name),
    }
}

/// The grammar's own names of the types: CockroachDB takes no precision after a name with a schema,
/// and no type of an application is found by these.
fn with_digits(name: &str, digits: impl std::fmt::Display) -> String {
    match name {
        "timestamp" | "time" => format!("{name}({digits}) without time zone"),
        "timestamptz" => format!("timestamp({digits}) with time zone"),
        "timetz" => format!("time({digits}) with time zone"),
        _ => format!("{name}({digits})"),
    }
}

/// Above the precision stand the fields that a column keeps; all of them where it says none.
fn whole_interval(pair: &ColumnPair) -> bool {
    const ALL_FIELDS: i32 = 0x7FFF;
    [&pair.primary, &pair.shadow].iter().all(|it| it.type_modifier >> 16 == ALL_FIELDS)
}

fn numbers(pair: &ColumnPair, one: &PgType, other: &PgType) -> Form {
    let both = |test: fn(&str) -> bool| test(&one.name) && test(&other.name);
    let same_scale = pair.primary.type_modifier == pair.shadow.type_modifier;
    if one.name == other.name && (one.name != "numeric" || same_scale) {
        return own(&one.name);
    }
    if both(is_integer) {
        return cast("int8");
    }
    if both(is_float) {
        return cast("float4");
    }
    Form::Value
}

/// Elements are cast one by one; bounds are part of the image. The binary form holds the
/// element's object id, so that it serves for built-in types alone.
fn array(pair: &ColumnPair, one: (&PgType, &Arc<PgType>), other: (&PgType, &Arc<PgType>)) -> Form {
    if !is_by_bytes(one.0) || !is_by_bytes(other.0) {
        return Form::Text;
    }
    let element =
        |column: &Column, ty: &Arc<PgType>| Column { ty: Arc::clone(ty), ..column.clone() };
    let of_elements = ColumnPair {
        primary: element(&pair.primary, one.1),
        shadow: element(&pair.shadow, other.1),
        ..pair.clone()
    };
    match form(&of_elements) {
        Form::Own(name) if one.1.name == other.1.name => Form::Own(format!("{name}[]")),
        Form::Own(name) | Form::As(name) => Form::As(format!("{name}[]")),
        Form::Value => Form::Values,
        Form::Unpadded => Form::As("pg_catalog.text[]".to_owned()),
        Form::Values | Form::Text => Form::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::rules::ColumnRules;

    fn ty(name: &str) -> PgType {
        let kind = match name {
            "status" => TypeKind::Enum(vec!["new".to_owned()]),
            _ => TypeKind::Simple,
        };
        let schema = match name {
            "status" | "citext" | "geometry" => "app",
            _ => "pg_catalog",
        };
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

    fn of(one: (&str, i32), other: (&str, i32)) -> Form {
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
            form(&pair),
            form(&ColumnPair {
                primary: pair.shadow.clone(),
                shadow: pair.primary.clone(),
                ..pair.clone()
            }),
        );
        assert_eq!(here, mirrored, "{one:?} and {other:?}: the form depends on the side");
        here
    }

    fn to(name: &str) -> Form {
        Form::As(name.to_owned())
    }

    fn own(name: &str) -> Form {
        Form::Own(name.to_owned())
    }

    #[test]
    fn the_coarser_of_both_types() {
        assert_eq!(of(("int4", -1), ("int8", -1)), to("pg_catalog.int8"));
        assert_eq!(of(("timestamptz", 6), ("timestamptz", 3)), to("timestamp(3) with time zone"));
        assert_eq!(of(("timestamptz", -1), ("timestamp", 0)), to("timestamp(0) without time zone"));
        assert_eq!(of(("date", -1), ("timestamp", 0)), to("pg_catalog.date"));
        assert_eq!(of(("json", -1), ("jsonb", -1)), to("pg_catalog.jsonb"));
        assert_eq!(of(("text", -1), ("jsonb", -1)), to("pg_catalog.jsonb"));
        assert_eq!(of(("text", -1), ("timestamptz", 3)), to("timestamp(3) with time zone"));
        assert_eq!(of(("bpchar", 12), ("varchar", 12)), Form::Unpadded);
        assert_eq!(of(("bpchar", 12), ("bpchar", 14)), Form::Unpadded);
        assert_eq!(of(("numeric", 786_438), ("numeric", -1)), Form::Value);
        assert_eq!(of(("money", -1), ("numeric", 786_438)), Form::Value);
        assert_eq!(of(("float8", -1), ("numeric", -1)), Form::Value);
        assert_eq!(of(("float4", -1), ("float8", -1)), to("pg_catalog.float4"));
        assert_eq!(of(("_int4", -1), ("_int8", -1)), to("pg_catalog.int8[]"));
        assert_eq!(of(("_text", -1), ("_varchar", -1)), to("pg_catalog.text[]"));
        assert_eq!(of(("_bpchar", 7), ("_varchar", -1)), to("pg_catalog.text[]"));
        assert_eq!(
            of(("_timestamptz", 6), ("_timestamptz", 3)),
            to("timestamp(3) with time zone[]")
        );
        assert_eq!(of(("_numeric", 786_438), ("_numeric", -1)), Form::Values);
    }

    #[test]
    fn columns_of_one_type_are_compared_as_they_are_sent() {
        for name in ["json", "jsonb", "numeric", "float8", "interval", "timestamp", "numrange"] {
            assert_eq!(of((name, -1), (name, -1)), own(&format!("pg_catalog.{name}")));
        }
        assert_eq!(of(("timestamptz", -1), ("timestamptz", 6)), own("pg_catalog.timestamptz"));
        assert_eq!(of(("char", -1), ("char", -1)), own("pg_catalog.\"char\""));
        assert_eq!(of(("bpchar", 12), ("bpchar", 12)), own("pg_catalog.bpchar"));
        assert_eq!(of(("citext", -1), ("varchar", 24)), own("pg_catalog.text"));
        assert_eq!(of(("status", -1), ("text", -1)), own("pg_catalog.text"));
        assert_eq!(of(("bit", 8), ("varbit", -1)), own("pg_catalog.varbit"));
        assert_eq!(of(("_numeric", -1), ("_numeric", -1)), own("pg_catalog.numeric[]"));
    }

    #[test]
    fn intervals_keep_their_fields() {
        let (whole, day_to_second) = (0x7FFF << 16, 0x1C08 << 16);
        assert_eq!(of(("interval", whole | 3), ("interval", -1)), to("interval(3)"));
        assert_eq!(of(("interval", -1), ("interval", -1)), own("pg_catalog.interval"));
        let found = of(("interval", whole | 3), ("interval", day_to_second | 3));
        assert_eq!(found, own("pg_catalog.interval"));
    }

    #[test]
    fn types_of_extensions_and_of_the_application_have_their_text_as_image() {
        for (one, other) in [("geometry", "geometry"), ("xml", "xml"), ("_status", "_status")] {
            assert_eq!(of((one, -1), (other, -1)), Form::Text, "{one} and {other}");
        }
        assert!(!is_by_bytes(&ty("geometry")) && is_by_bytes(&ty("status")));
    }
}
