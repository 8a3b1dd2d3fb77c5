//! Points and spans of time, of different precision.

use crate::compare::cell::{CellVerdict, ColumnPair};
use crate::domain::pg_type::{Column, PgType, TypeKind};
use crate::domain::value::Interval;

const DIGITS_MAX: u32 = 6;
/// An interval's type modifier holds its fields above these bits.
const INTERVAL_PRECISION_BITS: i32 = 0xFFFF;
/// The last and the first instants of `CockroachDB`, which stand for infinity in its older
/// versions: 294276-12-31 23:59:59.999999 and 4714-11-24 BC, in microseconds since 2000.
const FAR_FUTURE: i64 = 9_223_371_331_199_999_999;
const FAR_PAST: i64 = -211_813_488_000_000_000;
/// Fewest digits that a computed value is believed to have been cut to: coarser columns are
/// rare, and a whole second is a difference of data.
const INFERRED_DIGITS_MIN: u32 = 3;

pub(super) fn timestamps(pair: &ColumnPair, one: i64, other: i64) -> CellVerdict {
    if is_infinite(one) || is_infinite(other) {
        let same = far(one, &pair.primary) == far(other, &pair.shadow);
        return if one == other {
            CellVerdict::Equal
        } else {
            CellVerdict::by("timestamp_infinity", same)
        };
    }
    times(pair, one, other, "timestamp_precision")
}

fn is_infinite(micros: i64) -> bool {
    micros == i64::MAX || micros == i64::MIN
}

/// A far date as the infinity it stands for.
fn far(micros: i64, column: &Column) -> i64 {
    // The far date is cut to the column's precision like any other.
    let unit = unit(digits(column));
    if micros >= FAR_FUTURE - FAR_FUTURE.rem_euclid(unit) {
        i64::MAX
    } else if micros <= FAR_PAST {
        i64::MIN
    } else {
        micros
    }
}

/// Equal if the coarser value is the finer one rounded or cut to its precision.
pub(super) fn times(pair: &ColumnPair, one: i64, other: i64, rule: &'static str) -> CellVerdict {
    if one == other {
        return CellVerdict::Equal;
    }
    let (first, second) = (digits(&pair.primary), digits(&pair.shadow));
    let same = match first.cmp(&second) {
        std::cmp::Ordering::Less => reaches(other, one, first),
        std::cmp::Ordering::Greater => reaches(one, other, second),
        // No precision is known of a computed value: it may come from a coarser column.
        std::cmp::Ordering::Equal => {
            !pair.stored
                && first == DIGITS_MAX
                && (INFERRED_DIGITS_MIN..DIGITS_MAX)
                    .any(|digits| reaches(one, other, digits) || reaches(other, one, digits))
        }
    };
    if same {
        return CellVerdict::Normalized(rule);
    }
    match pair.rules.precision {
        Some(digits) => {
            let unit = unit(u32::from(digits));
            let shared = coarsened(one, unit)
                .into_iter()
                .any(|value| coarsened(other, unit).contains(&value));
            CellVerdict::by("configured_precision", shared)
        }
        None => CellVerdict::Different,
    }
}

/// Intervals are equal part by part; one day is not 24 hours.
pub(super) fn intervals(pair: &ColumnPair, one: Interval, other: Interval) -> CellVerdict {
    match (one, other) {
        (
            Interval::Finite { months, days, micros },
            Interval::Finite { months: months_b, days: days_b, micros: micros_b },
        ) if months == months_b && days == days_b => {
            times(pair, micros, micros_b, "interval_precision")
        }
        _ if one == other => CellVerdict::Equal,
        _ => CellVerdict::Different,
    }
}

/// Whether `fine` becomes `coarse` when it is rounded or cut to so many digits.
pub(super) fn reaches(fine: i64, coarse: i64, digits: u32) -> bool {
    coarsened(fine, unit(digits)).contains(&coarse)
}

/// The multiples of `unit` that a value may have become: cut, or rounded to the nearest. A
/// half goes either way, since databases round it up, to even, or away from 2000.
fn coarsened(value: i64, unit: i64) -> [i64; 2] {
    let rest = value.rem_euclid(unit);
    let below = value - rest;
    let nearest = if rest * 2 >= unit { below.saturating_add(unit) } else { below };
    [below, nearest]
}

fn unit(digits: u32) -> i64 {
    10_i64.pow(DIGITS_MAX - digits.min(DIGITS_MAX))
}

/// Digits of a second that the coarser of two columns keeps, where they are not the same.
pub(crate) fn coarser_digits(pair: &ColumnPair) -> Option<u32> {
    let (one, other) = (digits(&pair.primary), digits(&pair.shadow));
    (one != other).then(|| one.min(other))
}

/// Digits of a second that a column keeps.
fn digits(column: &Column) -> u32 {
    let modifier = column.type_modifier;
    if modifier < 0 {
        return DIGITS_MAX;
    }
    let precision =
        if is_interval(&column.ty) { modifier & INTERVAL_PRECISION_BITS } else { modifier };
    u32::try_from(precision).unwrap_or(DIGITS_MAX).min(DIGITS_MAX)
}

pub(crate) fn is_interval(ty: &PgType) -> bool {
    match &ty.base().kind {
        TypeKind::Array(element) => is_interval(element),
        _ => ty.base().name == "interval",
    }
}
