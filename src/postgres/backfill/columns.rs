//! Which columns a copy reads, in which form, and which rows would lose something on the way.

use crate::domain::backfill::Load;
use crate::domain::pg_type::{PgType, TypeKind};
use crate::domain::table::quote_identifier;
use crate::postgres::mapping::table::{Pair, TableShape};
use crate::value;

/// The format of a `COPY` stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Binary,
    Text,
}

impl Format {
    pub(super) fn as_sql(self) -> &'static str {
        match self {
            Self::Binary => "(FORMAT binary)",
            Self::Text => "(FORMAT text)",
        }
    }
}

/// How a table's rows are read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// What is selected on the source, from `t`.
    pub(super) select: Vec<String>,
    /// The columns of the target that it goes to, quoted.
    pub(super) names: Vec<String>,
    /// Conditions that a row must meet to be copied: what the target would round or cut without
    /// a word. Rows that do not are left to reconcile, which names the value.
    pub(super) guards: Vec<String>,
    /// Of the stream that the source sends: binary where every column allows it.
    pub(super) format: Format,
    /// How each column is given to an `INSERT`; empty where rows are written by `COPY`.
    pub(super) given: Vec<Given>,
}

/// How a column's values are given to an `INSERT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Given {
    /// Those of many rows as one array.
    Array {
        /// The type of its elements, as SQL.
        element: String,
        /// The object id of that type on the target.
        oid: u32,
        /// What an element is cast to; nothing where the column takes it as it is.
        cast: &'static str,
    },
    /// Each as a parameter of the column's own type: an array of arrays cannot be taken apart by
    /// column, and of other types the target has no arrays.
    Each(value::Format),
}

/// How one column's value comes over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Conversion {
    /// The target reads the source's binary form.
    Same,
    /// This expression makes the target's type of it.
    Cast(String),
    /// The target reads the source's text.
    Text,
}

const INTEGERS: [&str; 4] = ["int2", "int4", "oid", "int8"];
const TEXTS: [&str; 4] = ["text", "varchar", "name", "citext"];
/// Types of the system whose binary form each version of PostgreSQL reads as the others write it.
const BINARY: [&str; 36] = [
    "bool",
    "bytea",
    "char",
    "name",
    "int8",
    "int2",
    "int4",
    "text",
    "oid",
    "json",
    "xml",
    "float4",
    "float8",
    "money",
    "macaddr",
    "macaddr8",
    "inet",
    "cidr",
    "bpchar",
    "varchar",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "timetz",
    "bit",
    "varbit",
    "numeric",
    "uuid",
    "jsonb",
    "citext",
    "point",
    "box",
    "pg_lsn",
    "tsvector",
];

/// Types of both databases of which an array is given for many rows. Arrays of `bit` have a length of
/// their own.
const UNNESTED: [&str; 17] = [
    "bool",
    "bytea",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "jsonb",
    "inet",
    "oid",
];
const TEXT_OID: u32 = 25;

/// Added to every length and scale in `atttypmod`.
const MODIFIER_BASE: i32 = 4;

impl Columns {
    /// The columns of a table, whose rows are written in that way.
    ///
    /// # Errors
    ///
    /// The column whose value the target's type cannot be given.
    pub(super) fn of(shape: &TableShape, load: Load) -> Result<Self, String> {
        let mut columns = Self {
            select: Vec::with_capacity(shape.pairs.len()),
            names: Vec::with_capacity(shape.pairs.len()),
            guards: Vec::new(),
            format: Format::Binary,
            given: Vec::new(),
        };
        for pair in &shape.pairs {
            let name = &pair.judged.primary.name;
            let value = format!("t.{}", quote_identifier(name));
            let (from, to) = (pair.judged.primary.ty.base(), pair.judged.shadow.ty.base());
            let conversion = convert(&value, from, to).ok_or_else(|| {
                format!(
                    "column {name:?} is {} on the source and {} on the target, and no conversion \
                     is known; give the target's column the source's type, or text",
                    from.name, to.name
                )
            })?;
            match load {
                Load::Copy => columns.select.push(match conversion {
                    Conversion::Same => value.clone(),
                    Conversion::Cast(sql) => sql,
                    Conversion::Text => {
                        columns.format = Format::Text;
                        value.clone()
                    }
                }),
                Load::Insert => {
                    let (sql, given) = given(&value, conversion, to);
                    columns.select.push(sql);
                    columns.given.push(given);
                }
            }
            columns.names.push(quote_identifier(&pair.judged.shadow.name));
            if let Some(guard) = guard(&value, from, to, pair) {
                columns.guards.push(format!("({value} IS NULL OR {guard})"));
            }
            if !pair.shadow_dialect.has_array_dimensions()
                && matches!(from.kind, TypeKind::Array(_))
            {
                columns.guards.push(plain_array(&value));
            }
        }
        Ok(columns)
    }

    /// ` AND …`: all guards; nothing where there are none.
    pub(super) fn guarded(&self) -> String {
        self.guards.iter().map(|guard| format!(" AND {guard}")).collect()
    }
}

fn is_one_of(ty: &PgType, names: &[&str]) -> bool {
    names.contains(&ty.name.as_str())
}

/// What is selected on the source, and how that is given to an `INSERT`.
fn given(value: &str, conversion: Conversion, to: &PgType) -> (String, Given) {
    let (sql, text) = match conversion {
        // CockroachDB forgets zeros at the end of a number's binary form.
        Conversion::Same if is_numeric(to) => (format!("{value}::pg_catalog.text"), true),
        Conversion::Cast(sql) if is_numeric(to) => (format!("({sql})::pg_catalog.text"), true),
        Conversion::Same => (value.to_owned(), false),
        Conversion::Cast(sql) => (sql, false),
        Conversion::Text => (format!("{value}::pg_catalog.text"), true),
    };
    let array = |element: &str, oid, cast| Given::Array { element: element.to_owned(), oid, cast };
    let name = to.name.as_str();
    let given = match (&to.kind, text) {
        (TypeKind::Enum(_), false) => {
            let quoted = (quote_identifier(&to.schema), quote_identifier(name));
            array(&format!("{}.{}", quoted.0, quoted.1), to.oid, "")
        }
        (TypeKind::Simple, true) if name == "numeric" => {
            array("pg_catalog.text", TEXT_OID, "::pg_catalog.numeric")
        }
        (TypeKind::Simple, false) if ["text", "varchar", "bpchar"].contains(&name) => {
            array("pg_catalog.text", TEXT_OID, "")
        }
        (TypeKind::Simple, false) if UNNESTED.contains(&name) => {
            array(&format!("pg_catalog.{name}"), to.oid, "")
        }
        (_, true) => Given::Each(value::Format::Text),
        (_, false) => Given::Each(value::Format::Binary),
    };
    (sql, given)
}

/// A number of any scale, or an array of them.
fn is_numeric(ty: &PgType) -> bool {
    match &ty.kind {
        TypeKind::Array(element) => is_numeric(element.base()),
        _ => ty.name == "numeric",
    }
}

/// CockroachDB has arrays of one dimension, which begin at 1. Others are left to reconcile, which
/// names them.
fn plain_array(value: &str) -> String {
    format!(
        "(pg_catalog.array_ndims({value}) IS NULL \
         OR pg_catalog.array_ndims({value}) = 1 AND pg_catalog.array_lower({value}, 1) = 1)"
    )
}

fn convert(value: &str, from: &PgType, to: &PgType) -> Option<Conversion> {
    use Conversion::{Cast, Same, Text};
    let cast = |ty: &str| Some(Cast(format!("{value}::pg_catalog.{ty}")));
    match (&from.kind, &to.kind) {
        // The binary form of a label is its text.
        (TypeKind::Enum(_), TypeKind::Enum(_)) => return Some(Same),
        (TypeKind::Enum(_), _) if is_one_of(to, &TEXTS) => return Some(Same),
        (TypeKind::Array(one), TypeKind::Array(other)) => return array(value, one, other),
        // Their binary form holds object ids, or is an extension's affair.
        (TypeKind::Composite(_), TypeKind::Composite(_))
        | (TypeKind::Range(_), TypeKind::Range(_))
        | (TypeKind::Multirange(_), TypeKind::Multirange(_))
            if from.name == to.name =>
        {
            return Some(Text);
        }
        (TypeKind::Simple | TypeKind::Dollars, TypeKind::Simple | TypeKind::Dollars) => {}
        _ => return None,
    }
    match (from.name.as_str(), to.name.as_str()) {
        (one, other) if one == other => {
            Some(if BINARY.contains(&one) && one != "tsvector" { Same } else { Text })
        }
        ("bpchar", other) if TEXTS.contains(&other) => cast("text"),
        (one, "bpchar") if TEXTS.contains(&one) => Some(Same),
        (one, other) if TEXTS.contains(&one) && TEXTS.contains(&other) => Some(Same),
        ("json", "jsonb") => cast("jsonb"),
        ("jsonb", "json") => cast("json"),
        // Each as UTC, which is the session's zone.
        ("timestamp", "timestamptz") => cast("timestamptz"),
        ("timestamptz", "timestamp") => cast("timestamp"),
        ("date", "timestamp") => cast("timestamp"),
        (one, "int2" | "int4" | "int8" | "numeric" | "float4" | "float8")
            if INTEGERS.contains(&one) =>
        {
            cast(&to.name)
        }
        ("numeric", "int2" | "int4" | "int8" | "float4" | "float8") | ("money", "numeric") => {
            cast(&to.name)
        }
        ("float4", "float8") | ("float8", "float4") => cast(&to.name),
        // By its shortest text: the cast to numeric keeps fifteen digits only.
        ("float4" | "float8", "numeric") => {
            Some(Cast(format!("{value}::pg_catalog.text::pg_catalog.numeric")))
        }
        (
            "int2" | "int4" | "int8" | "oid" | "numeric" | "uuid" | "date" | "json" | "jsonb"
            | "xml",
            "text" | "varchar",
        ) => cast("text"),
        _ => None,
    }
}

/// Element by element; a conversion of elements is one of the whole array.
fn array(value: &str, from: &PgType, to: &PgType) -> Option<Conversion> {
    let (from, to) = (from.base(), to.base());
    match convert("", from, to)? {
        Conversion::Same if from.name == to.name && is_one_of(from, &BINARY) => {
            Some(Conversion::Same)
        }
        // The element's object id stands in the binary form.
        Conversion::Same if is_one_of(to, &BINARY) && to.name != "citext" => {
            let from_system = !matches!(from.kind, TypeKind::Enum(_)) && from.name != "citext";
            let cast = format!("{value}::pg_catalog.{}[]", to.name);
            Some(if from_system { Conversion::Cast(cast) } else { Conversion::Text })
        }
        Conversion::Same | Conversion::Text => Some(Conversion::Text),
        Conversion::Cast(_) => Some(Conversion::Cast(format!("{value}::pg_catalog.{}[]", to.name))),
    }
}

/// What must hold for the target to keep the value as it is. Times are not among it: a coarser
/// time is the same one by the rules of comparing.
fn guard(value: &str, from: &PgType, to: &PgType, pair: &Pair) -> Option<String> {
    let (one, other) = (from.name.as_str(), to.name.as_str());
    let limit = pair.judged.shadow.type_modifier - MODIFIER_BASE;
    let had = pair.judged.primary.type_modifier - MODIFIER_BASE;
    match (one, other) {
        ("int8" | "int4" | "oid", "int2") => {
            Some(format!("{value}::pg_catalog.int8 BETWEEN -32768 AND 32767"))
        }
        ("int8" | "oid", "int4") => {
            Some(format!("{value}::pg_catalog.int8 BETWEEN -2147483648 AND 2147483647"))
        }
        ("numeric", "int2" | "int4" | "int8") => {
            Some(format!("{value} = pg_catalog.trunc({value})"))
        }
        ("numeric", "float4" | "float8") => Some(format!(
            "{value}::pg_catalog.{other}::pg_catalog.text::pg_catalog.numeric = {value}"
        )),
        ("int4" | "int8" | "oid", "float4") | ("int8", "float8") => {
            Some(format!("{value}::pg_catalog.{other}::pg_catalog.numeric = {value}"))
        }
        ("float8", "float4") => {
            Some(format!("{value}::pg_catalog.float4::pg_catalog.float8 = {value}"))
        }
        ("numeric", "numeric") | ("_numeric", "_numeric") if limit >= 0 => {
            let (precision, scale) = ((limit >> 16) & 0xffff, scale(limit));
            let fits = had >= 0 && self::scale(had) <= scale;
            match one {
                _ if fits => None,
                "numeric" => Some(format!("{value} = pg_catalog.round({value}, {scale})")),
                _ => Some(format!("{value} = {value}::pg_catalog.numeric({precision},{scale})[]")),
            }
        }
        // Spaces that are too many would be cut.
        (_, "varchar") if limit >= 0 && TEXTS.contains(&one) => {
            let fits = one == "varchar" && had >= 0 && had <= limit;
            let length = format!("pg_catalog.char_length({value}::pg_catalog.text) <= {limit}");
            (!fits).then_some(length)
        }
        _ => None,
    }
}

/// The scale in the lower eleven bits, which may be negative.
fn scale(limit: i32) -> i32 {
    ((limit & 0x7ff) ^ 1024) - 1024
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn simple(name: &str) -> PgType {
        PgType {
            oid: 0,
            name: name.to_owned(),
            schema: "pg_catalog".to_owned(),
            kind: TypeKind::Simple,
        }
    }

    fn array_of(element: PgType) -> PgType {
        let kind = TypeKind::Array(Arc::new(element.clone()));
        PgType { name: format!("_{}", element.name), kind, ..element }
    }

    fn labels(name: &str) -> PgType {
        PgType { kind: TypeKind::Enum(vec!["a".to_owned()]), ..simple(name) }
    }

    #[test]
    fn each_pair_of_types_has_its_way() {
        let cast = |sql: &str| Some(Conversion::Cast(sql.to_owned()));
        for (from, to, expected) in [
            (simple("int4"), simple("int8"), cast("x::pg_catalog.int8")),
            (simple("json"), simple("jsonb"), cast("x::pg_catalog.jsonb")),
            (simple("timestamptz"), simple("timestamptz"), Some(Conversion::Same)),
            (simple("text"), simple("varchar"), Some(Conversion::Same)),
            (simple("bpchar"), simple("text"), cast("x::pg_catalog.text")),
            (labels("mood"), labels("feeling"), Some(Conversion::Same)),
            (labels("mood"), simple("text"), Some(Conversion::Same)),
            (array_of(labels("mood")), array_of(labels("mood")), Some(Conversion::Text)),
            (array_of(simple("int4")), array_of(simple("int8")), cast("x::pg_catalog.int8[]")),
            (array_of(simple("varchar")), array_of(simple("text")), cast("x::pg_catalog.text[]")),
            (array_of(simple("text")), array_of(simple("text")), Some(Conversion::Same)),
            (simple("tsquery"), simple("tsquery"), Some(Conversion::Text)),
            (simple("hstore"), simple("hstore"), Some(Conversion::Text)),
            (simple("timestamptz"), simple("date"), None),
            (simple("bool"), simple("int4"), None),
            (array_of(simple("text")), simple("text"), None),
        ] {
            assert_eq!(convert("x", &from, &to), expected, "{} to {}", from.name, to.name);
        }
    }

    #[test]
    fn a_scale_may_be_negative() {
        assert_eq!(scale((10 << 16) | 2), 2);
        assert_eq!(scale((10 << 16) | (0x7ff & -3)), -3);
    }
}
