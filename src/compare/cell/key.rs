//! A key by which rows of both sides are sorted into small heaps before they are matched.

use std::hash::{DefaultHasher, Hash};

use crate::compare::cell::{ColumnPair, is_text, same_type};
use crate::value::{self, Datum, Decimal, NumericDatum};

/// How the cells of a column take part in the key of their row. Cells that are the same
/// always have the same key; the converse need not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// By their bytes.
    Bytes,
    /// By their bytes without spaces at the end.
    Trimmed,
    /// By their bytes, but for what may be a time.
    TextButTimes,
    /// By their value as a number.
    Number,
    /// Only whether they are NULL.
    Presence,
    /// Not at all.
    None,
}

impl KeyKind {
    /// The kind that is right for a column.
    pub(crate) fn of(pair: &ColumnPair) -> Self {
        if pair.rules.ignore {
            return Self::None;
        }
        let (one, other) = (pair.primary.ty.base(), pair.shadow.ty.base());
        let both = |test: fn(&str) -> bool| test(&one.name) && test(&other.name);
        if both(|name| matches!(name, "int2" | "int4" | "int8" | "oid")) {
            return Self::Number;
        }
        if both(|name| matches!(name, "int2" | "int4" | "int8" | "oid" | "numeric" | "money")) {
            // Quotients may differ in their last digits.
            return if pair.stored { Self::Number } else { Self::Presence };
        }
        if both(is_text) {
            return if pair.stored { Self::Bytes } else { Self::TextButTimes };
        }
        if both(|name| is_text(name) || name == "bpchar") {
            return Self::Trimmed;
        }
        let exact = |name: &str| matches!(name, "bool" | "uuid" | "bytea" | "date" | "inet");
        if same_type(one, other) && exact(&one.name) {
            return Self::Bytes;
        }
        Self::Presence
    }

    /// Takes a cell into the key of its row.
    pub(crate) fn hash(
        self,
        ty: &crate::domain::pg_type::PgType,
        cell: Option<&[u8]>,
        hasher: &mut DefaultHasher,
    ) {
        let Some(cell) = cell.filter(|_| self != Self::None) else {
            return (self == Self::None).hash(hasher);
        };
        match self {
            Self::Bytes => cell.hash(hasher),
            Self::Trimmed => {
                let end = cell.iter().rposition(|byte| *byte != b' ').map_or(0, |at| at + 1);
                cell.get(..end).hash(hasher);
            }
            Self::TextButTimes => {
                let may_be_time = cell.first().is_some_and(u8::is_ascii_digit);
                if may_be_time { 1.hash(hasher) } else { cell.hash(hasher) }
            }
            Self::Number => number(ty, cell).hash(hasher),
            Self::Presence | Self::None => 1.hash(hasher),
        }
    }
}

fn number(ty: &crate::domain::pg_type::PgType, cell: &[u8]) -> Option<Decimal> {
    match value::datum(ty, cell).ok()? {
        Datum::Int(int) => Some(Decimal::from_int(int)),
        Datum::Numeric(NumericDatum::Finite(decimal)) => Some(decimal),
        // Its place of the point is the server's affair; money keeps to the common two.
        Datum::Money(units) => Decimal::parse(&format!("{units}e-2")),
        _ => None,
    }
}
