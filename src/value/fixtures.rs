//! Types for the tests of this module.

use std::sync::Arc;
use std::time::Duration;

use bolero::TypeGenerator;

use crate::domain::pg_type::{PgType, TypeKind};
use crate::value::class;

/// How long a fuzz target runs as a test. `BOLERO_RANDOM_TEST_TIME_MS` goes before it.
pub(crate) const FUZZ_TIME: Duration = Duration::from_secs(2);

/// A part of a cell, such that readers get further than by bytes alone: counts, lengths and
/// object ids are words, and most of them are small.
#[derive(Debug, Clone, TypeGenerator)]
pub(crate) enum Piece {
    Byte(u8),
    Small(u8),
    Length(u8),
    Word(u32),
    Long(u64),
    Minus,
    Text(String),
    Raw(Vec<u8>),
}

/// The cell of such parts.
pub(crate) fn cell(pieces: &[Piece]) -> Vec<u8> {
    let mut cell = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Byte(byte) => cell.push(*byte),
            Piece::Small(number) => cell.extend(u16::from(*number % 8).to_be_bytes()),
            Piece::Length(number) => cell.extend(u32::from(*number % 32).to_be_bytes()),
            Piece::Word(word) => cell.extend(word.to_be_bytes()),
            Piece::Long(long) => cell.extend(long.to_be_bytes()),
            Piece::Minus => cell.extend((-1_i32).to_be_bytes()),
            Piece::Text(text) => cell.extend(text.as_bytes()),
            Piece::Raw(bytes) => cell.extend(bytes),
        }
    }
    cell
}

/// How a cell is made.
#[derive(Debug, Clone, TypeGenerator)]
pub(crate) enum Made {
    /// Of anything.
    Of(Vec<Piece>),
    /// Such that the type takes it, where its form is a simple one: a number, small ones more
    /// often, or a text.
    Fit(bool, u64, String),
}

impl Made {
    /// The cell, for a column of the type.
    pub(crate) fn cell(&self, ty: &PgType) -> Vec<u8> {
        let (number, text) = match self {
            Self::Of(pieces) => return cell(pieces),
            Self::Fit(small, number, text) => (if *small { number % 5 } else { *number }, text),
        };
        let bytes = number.to_be_bytes();
        let text = text.replace('\0', "");
        match ty.base().name.as_str() {
            "bool" => vec![u8::from(number % 2 == 1)],
            "int2" => bytes[6..].to_vec(),
            "int4" | "oid" | "date" | "float4" => bytes[4..].to_vec(),
            "time" => (number % 86_400_000_001).to_be_bytes().to_vec(),
            "int8" | "float8" | "timestamp" | "timestamptz" | "money" => bytes.to_vec(),
            "uuid" | "interval" => [bytes, (number / 3).to_be_bytes()].concat(),
            // One digit of four, a weight and a scale.
            "numeric" => {
                let digit = u16::try_from(number % 9_999).unwrap_or(0) + 1;
                let header = [1, u16::from(bytes[0] % 3), u16::from(bytes[1] % 2) << 14, 4];
                header.iter().chain([&digit]).flat_map(|part| part.to_be_bytes()).collect()
            }
            "jsonb" => [&[1][..], number.to_string().as_bytes()].concat(),
            "json" => format!("{{\"a\": {number}}}").into_bytes(),
            _ => text.into_bytes(),
        }
    }
}

/// Types that columns mostly have.
const COMMON: [&str; 18] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "text",
    "varchar",
    "bpchar",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "uuid",
    "jsonb",
    "json",
];

/// One of the types; half of the numbers choose a common one.
pub(crate) fn chosen(types: &[Arc<PgType>], number: u16) -> &Arc<PgType> {
    let at = usize::from(number / 2);
    let common = COMMON[at % COMMON.len()];
    let common = types.iter().find(|ty| number % 2 == 1 && ty.name == common);
    common.unwrap_or(&types[at % types.len()])
}

/// A built-in type by its name.
pub(crate) fn named(name: &str) -> Arc<PgType> {
    all_built_in().into_iter().find(|ty| ty.name == name).expect("a built-in type")
}

/// All built-in types that segue knows, and their arrays.
pub(crate) fn all_built_in() -> Vec<Arc<PgType>> {
    (1..6_000).filter_map(class::built_in).map(Arc::new).collect()
}

pub(crate) fn made(oid: u32, name: &str, kind: TypeKind) -> Arc<PgType> {
    Arc::new(PgType { oid, name: name.to_owned(), schema: "public".to_owned(), kind })
}

pub(crate) fn array(element: &Arc<PgType>) -> Arc<PgType> {
    made(element.oid + 100_000, &format!("_{}", element.name), TypeKind::Array(Arc::clone(element)))
}

pub(crate) fn mood(oid: u32) -> Arc<PgType> {
    made(oid, "mood", TypeKind::Enum(vec!["sad".to_owned(), "ok".to_owned()]))
}

/// The built-in types and one of each kind that users make.
pub(crate) fn all() -> Vec<Arc<PgType>> {
    let mut all = all_built_in();
    let fields = vec![
        ("a".to_owned(), named("int4")),
        ("b".to_owned(), named("text")),
        ("c".to_owned(), array(&mood(50_000))),
    ];
    let range = made(50_010, "span", TypeKind::Range(named("numeric")));
    all.extend([
        made(2249, "record", TypeKind::Pseudo),
        mood(50_000),
        array(&mood(50_000)),
        made(50_004, "positive", TypeKind::Domain(named("int4"))),
        made(50_006, "pair", TypeKind::Composite(fields)),
        Arc::clone(&range),
        array(&range),
        made(50_012, "spans", TypeKind::Multirange(named("numeric"))),
        made(50_014, "hstore", TypeKind::Simple),
        made(50_016, "citext", TypeKind::Simple),
        made(50_018, "vector", TypeKind::Simple),
    ]);
    all
}
