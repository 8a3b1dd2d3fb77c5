//! Numbers of different width and spelling.

use crate::compare::cell::{CellVerdict, ColumnPair};
use crate::value::{Datum, Decimal, NumericDatum};

/// Digits that a quotient has at least, whoever computes it. A number with fewer is exact,
/// and its other digits are data.
const QUOTIENT_DIGITS_MIN: usize = 16;

pub(super) fn judge(pair: &ColumnPair, one: &Datum, other: &Datum) -> CellVerdict {
    use Datum as D;
    match (one, other) {
        (D::Int(a), D::Int(b)) => CellVerdict::by("int_width", a == b),
        (D::Int(int), D::Numeric(NumericDatum::Finite(decimal)))
        | (D::Numeric(NumericDatum::Finite(decimal)), D::Int(int)) => {
            CellVerdict::by("int_width", Decimal::from_int(*int) == *decimal)
        }
        (D::Numeric(a), D::Numeric(b)) => numerics(pair, a, b),
        (D::Float4(a), D::Float4(b)) => {
            if a.to_bits() == b.to_bits() {
                CellVerdict::Equal
            } else {
                tolerated(pair, f64::from(*a), f64::from(*b))
            }
        }
        (D::Float8(a), D::Float8(b)) => {
            if a.to_bits() == b.to_bits() {
                CellVerdict::Equal
            } else {
                tolerated(pair, *a, *b)
            }
        }
        (D::Float4(narrow), D::Float8(wide)) | (D::Float8(wide), D::Float4(narrow)) => {
            widened(pair, *narrow, *wide)
        }
        (D::Float8(float), D::Numeric(numeric)) | (D::Numeric(numeric), D::Float8(float)) => {
            mixed(pair, *float, numeric)
        }
        (D::Float8(float), D::Int(int)) | (D::Int(int), D::Float8(float)) => {
            mixed(pair, *float, &NumericDatum::Finite(Decimal::from_int(*int)))
        }
        _ => CellVerdict::Different,
    }
}

fn numerics(pair: &ColumnPair, one: &NumericDatum, other: &NumericDatum) -> CellVerdict {
    match (one, other) {
        (NumericDatum::Finite(a), NumericDatum::Finite(b)) if a == b => {
            if a.scale == b.scale {
                CellVerdict::Equal
            } else {
                CellVerdict::Normalized("numeric_scale")
            }
        }
        _ if one == other => CellVerdict::Equal,
        (NumericDatum::Finite(a), NumericDatum::Finite(b)) if !pair.stored => {
            let same = same_quotient(a, b) || same_quotient(b, a);
            CellVerdict::by("numeric_quotient", same)
        }
        _ => CellVerdict::Different,
    }
}

/// Whether `longer` becomes `shorter` when it is rounded or cut to its digits, both being
/// long enough to be quotients.
fn same_quotient(longer: &Decimal, shorter: &Decimal) -> bool {
    let place = -i64::from(shorter.scale);
    let dropped = place - longer.exponent;
    if longer.negative != shorter.negative
        || dropped <= 0
        || shorter.digits.len().max(digits_to(shorter, place)) < QUOTIENT_DIGITS_MIN
    {
        return false;
    }
    let Some(kept) =
        usize::try_from(dropped).ok().and_then(|dropped| longer.digits.len().checked_sub(dropped))
    else {
        return false;
    };
    let (head, tail) = longer.digits.split_at(kept);
    let exponent = format!("e{place}");
    let cut = Decimal::parse(&format!("0{head}{exponent}"));
    let rounded = if tail.as_bytes().first().is_some_and(|digit| *digit >= b'5') {
        Decimal::parse(&format!("{}{exponent}", increment(head)))
    } else {
        cut.clone()
    };
    let magnitude = Decimal { negative: false, ..shorter.clone() };
    [cut, rounded].into_iter().flatten().any(|candidate| candidate == magnitude)
}

/// Significant digits of a number written down to `place`, its zeros at the end included.
fn digits_to(number: &Decimal, place: i64) -> usize {
    usize::try_from(number.exponent - place).map_or(0, |zeros| number.digits.len() + zeros)
}

/// One more, on decimal digits.
fn increment(digits: &str) -> String {
    let kept = digits.trim_end_matches('9');
    let nines = digits.len() - kept.len();
    let mut out = match kept.as_bytes().last() {
        None => "1".to_owned(),
        Some(last) => {
            let mut out = kept.get(..kept.len() - 1).unwrap_or_default().to_owned();
            out.push(char::from(last + 1));
            out
        }
    };
    out.push_str(&"0".repeat(nines));
    out
}

/// A `real` in a double column: widened bit by bit, or written out and read again.
fn widened(pair: &ColumnPair, narrow: f32, wide: f64) -> CellVerdict {
    let same = f64::from(narrow).to_bits() == wide.to_bits()
        || (narrow.is_nan() && wide.is_nan())
        || narrow.to_string().parse::<f64>().is_ok_and(|read| read.to_bits() == wide.to_bits());
    if same {
        CellVerdict::Normalized("float_width")
    } else {
        tolerated(pair, f64::from(narrow), wide)
    }
}

/// A float where the other side has an exact number (`extract` and the like).
fn mixed(pair: &ColumnPair, float: f64, numeric: &NumericDatum) -> CellVerdict {
    let read = match numeric {
        NumericDatum::NaN => f64::NAN,
        NumericDatum::Infinity => f64::INFINITY,
        NumericDatum::NegInfinity => f64::NEG_INFINITY,
        NumericDatum::Finite(decimal) => {
            if Decimal::parse(&float.to_string()).as_ref() == Some(decimal) {
                return CellVerdict::Normalized("numeric_float");
            }
            decimal.to_string().parse().unwrap_or(f64::NAN)
        }
    };
    // A stored exact number must be held exactly; a computed one may be the nearest float.
    let same = (!pair.stored || !read.is_finite()) && read.total_cmp(&float).is_eq();
    if same { CellVerdict::Normalized("numeric_float") } else { tolerated(pair, float, read) }
}

/// Floats that a configured tolerance takes for equal.
fn tolerated(pair: &ColumnPair, one: f64, other: f64) -> CellVerdict {
    let Some(share) = pair.rules.float_tolerance else {
        return CellVerdict::Different;
    };
    let same = (one - other).abs() <= share * one.abs().max(other.abs());
    CellVerdict::by("float_tolerance", same)
}
