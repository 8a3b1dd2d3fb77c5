//! Two cells of one column.

use crate::compare::rules::ColumnRules;
use crate::domain::pg_type::{Column, PgType, TypeKind};
use crate::value::{self, Datum, RangeDatum};

mod json;
mod key;
mod number;
mod text;
mod time;

pub(crate) use crate::compare::cell::key::KeyKind;
pub(crate) use crate::compare::cell::text::{equal_as_json, equal_as_numbers};
pub(crate) use crate::compare::cell::time::{coarser_digits, is_interval};

/// A column as both sides have it.
#[derive(Debug, Clone)]
pub struct ColumnPair {
    /// On the primary.
    pub primary: Column,
    /// On the shadow.
    pub shadow: Column,
    /// A plain column of a table on both sides: numerics are compared exactly, and nothing is
    /// taken for a computed value of another spelling.
    pub stored: bool,
    /// What the configuration says about it.
    pub rules: ColumnRules,
}

/// What two cells are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellVerdict {
    /// The same.
    Equal,
    /// The same by the named rule.
    Normalized(&'static str),
    /// Not the same.
    Different,
}

// === impl CellVerdict ===

impl CellVerdict {
    /// Whether the cells hold the same value.
    pub fn is_same(self) -> bool {
        self != Self::Different
    }

    /// `rule` where the values are the same.
    fn by(rule: &'static str, same: bool) -> Self {
        if same { Self::Normalized(rule) } else { Self::Different }
    }
}

/// Judges two cells in PostgreSQL's binary format; `None` is NULL.
///
/// A cell that cannot be read is different from any but an equal one of the same type.
pub fn judge(pair: &ColumnPair, primary: Option<&[u8]>, shadow: Option<&[u8]>) -> CellVerdict {
    if pair.rules.ignore {
        let same = primary == shadow && same_type(&pair.primary.ty, &pair.shadow.ty);
        return if same { CellVerdict::Equal } else { CellVerdict::Normalized("ignored") };
    }
    let (Some(one), Some(other)) = (primary, shadow) else {
        return if primary.is_none() && shadow.is_none() {
            CellVerdict::Equal
        } else {
            CellVerdict::Different
        };
    };
    if one == other && same_type(&pair.primary.ty, &pair.shadow.ty) {
        return CellVerdict::Equal;
    }
    match (value::datum(&pair.primary.ty, one), value::datum(&pair.shadow.ty, other)) {
        (Ok(mut first), Ok(mut second)) => {
            // What stands in a JSON cell shows its spelling only in the text.
            if let (Datum::Json(_), Datum::Json(_)) = (&first, &second) {
                return json::judge(pair, one, other, &first, &second);
            }
            spell_money(&pair.primary.ty, &mut first);
            spell_money(&pair.shadow.ty, &mut second);
            Judge { pair }.data(&first, &second)
        }
        _ => CellVerdict::Different,
    }
}

/// Whether equal bytes of the two types mean equal values.
pub(crate) fn same_type(one: &PgType, other: &PgType) -> bool {
    let (one, other) = (one.base(), other.base());
    if is_text(&one.name) && is_text(&other.name) {
        return true;
    }
    one.name == other.name
        && match (&one.kind, &other.kind) {
            (TypeKind::Array(a), TypeKind::Array(b))
            | (TypeKind::Range(a), TypeKind::Range(b))
            | (TypeKind::Multirange(a), TypeKind::Multirange(b)) => same_type(a, b),
            (TypeKind::Composite(a), TypeKind::Composite(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_type(&a.1, &b.1))
            }
            _ => true,
        }
}

/// Types whose binary form is their text and whose text is all of their meaning.
pub(crate) fn is_text(name: &str) -> bool {
    matches!(name, "text" | "varchar" | "citext" | "name")
}

/// `money` has its fraction's digits from the server's locale, which the wire does not
/// tell; all but a few have two.
fn spell_money(ty: &PgType, datum: &mut Datum) {
    if ty.base().name == "money"
        && let Datum::Money(units) = datum
    {
        let sign = if *units < 0 { "-" } else { "" };
        let (whole, cents) = (units.unsigned_abs() / 100, units.unsigned_abs() % 100);
        if let Some(found) = value::Decimal::parse(&format!("{sign}{whole}.{cents:02}")) {
            *datum = Datum::Numeric(value::NumericDatum::Finite(found));
        }
    }
}

/// Judges decoded values of one column.
#[derive(Clone, Copy)]
struct Judge<'a> {
    pair: &'a ColumnPair,
}

impl Judge<'_> {
    fn data(self, one: &Datum, other: &Datum) -> CellVerdict {
        use Datum as D;
        match (one, other) {
            (D::Bool(a), D::Bool(b)) => equal(a == b),
            (D::Uuid(a), D::Uuid(b)) => equal(a == b),
            (D::Bytes(a), D::Bytes(b)) => equal(a == b),
            (D::Date(a), D::Date(b)) => equal(a == b),
            (D::Net(a), D::Net(b)) => equal(a == b),
            (D::Bits(a), D::Bits(b)) => equal(a == b),
            (D::Label(a), D::Label(b)) => equal(a == b),
            (D::Hstore(a), D::Hstore(b)) => equal(a == b),
            (D::Timestamp(a), D::Timestamp(b)) | (D::TimestampTz(a), D::TimestampTz(b)) => {
                time::timestamps(self.pair, *a, *b)
            }
            (D::Time(a), D::Time(b)) => time::times(self.pair, *a, *b, "time_precision"),
            (
                D::TimeTz { micros: a, seconds_west: west_a },
                D::TimeTz { micros: b, seconds_west: west_b },
            ) if west_a == west_b => time::times(self.pair, *a, *b, "timetz_precision"),
            (D::Interval(a), D::Interval(b)) => time::intervals(self.pair, *a, *b),
            (D::Json(a), D::Json(b)) => CellVerdict::by("json_format", a == b),
            (D::Array(a), D::Array(b)) => {
                if a.dimensions != b.dimensions {
                    return CellVerdict::Different;
                }
                self.all(a.elements.iter().zip(&b.elements).map(|(a, b)| (a.as_ref(), b.as_ref())))
            }
            (D::Composite(a), D::Composite(b)) if a.len() == b.len() => {
                self.all(a.iter().zip(b).map(|(a, b)| (a.as_ref(), b.as_ref())))
            }
            (D::Range(a), D::Range(b)) => self.ranges(a, b),
            (D::Multirange(a), D::Multirange(b)) if a.len() == b.len() => {
                strongest(a.iter().zip(b).map(|(a, b)| self.ranges(a, b)))
            }
            (D::Opaque { type_name: a, data: one }, D::Opaque { type_name: b, data: other }) => {
                equal(a == b && one == other)
            }
            (D::Other { type_name: a, text: one }, D::Other { type_name: b, text: other }) => {
                equal(a == b && one == other)
            }
            (
                D::Int(_) | D::Numeric(_) | D::Float4(_) | D::Float8(_),
                D::Int(_) | D::Numeric(_) | D::Float4(_) | D::Float8(_),
            ) => number::judge(self.pair, one, other),
            _ => text::judge(self.pair, one, other),
        }
    }

    fn all<'d>(
        self,
        pairs: impl Iterator<Item = (Option<&'d Datum>, Option<&'d Datum>)>,
    ) -> CellVerdict {
        strongest(pairs.map(|pair| match pair {
            (None, None) => CellVerdict::Equal,
            (Some(a), Some(b)) => self.data(a, b),
            _ => CellVerdict::Different,
        }))
    }

    fn ranges(self, one: &RangeDatum, other: &RangeDatum) -> CellVerdict {
        if one.empty || other.empty {
            return equal(one.empty && other.empty);
        }
        strongest([(&one.lower, &other.lower), (&one.upper, &other.upper)].into_iter().map(
            |bounds| match bounds {
                (None, None) => CellVerdict::Equal,
                (Some((a, inclusive_a)), Some((b, inclusive_b))) if inclusive_a == inclusive_b => {
                    self.data(a, b)
                }
                _ => CellVerdict::Different,
            },
        ))
    }
}

/// Values that have one spelling only: unequal bytes came from another type's name.
fn equal(same: bool) -> CellVerdict {
    if same { CellVerdict::Equal } else { CellVerdict::Different }
}

/// Different if any is; else the first rule that any needed.
fn strongest(verdicts: impl Iterator<Item = CellVerdict>) -> CellVerdict {
    let mut found = CellVerdict::Equal;
    for verdict in verdicts {
        match verdict {
            CellVerdict::Different => return CellVerdict::Different,
            CellVerdict::Normalized(_) if found == CellVerdict::Equal => found = verdict,
            _ => {}
        }
    }
    found
}
