//! Points and spans of time.

use crate::preflight::carry::{Carry, Declared};

/// Digits of a second that a type keeps where nothing else is said.
const DIGITS_MAX: i32 = 6;
/// An interval's modifier holds its fields above these bits.
const INTERVAL_PRECISION_BITS: i32 = 0xFFFF;
const INTERVAL_FIELDS_ALL: i32 = 0x7FFF;

pub(super) fn carry(from: Declared<'_>, to: Declared<'_>) -> Option<Carry> {
    let (a, b) = (from.name(), to.name());
    let is_point = |name: &str| matches!(name, "timestamp" | "timestamptz");
    if !(is_point(a) && is_point(b) || a == b && matches!(a, "time" | "timetz" | "interval")) {
        return None;
    }
    if a == "interval" && fields(from) != fields(to) && fields(to) != INTERVAL_FIELDS_ALL {
        return Some(Carry::Part("spans with fields that the other has not".to_owned()));
    }
    let (has, keeps) = (digits(from), digits(to));
    Some(if keeps < has {
        Carry::Less(format!("digits of the second after the {keeps}{}", ordinal(keeps)))
    } else if a != b {
        Carry::Less("whether the time has a zone; it is read as UTC".to_owned())
    } else {
        Carry::All
    })
}

fn digits(declared: Declared<'_>) -> i32 {
    if declared.modifier < 0 {
        return DIGITS_MAX;
    }
    let precision = match declared.name() {
        "interval" => declared.modifier & INTERVAL_PRECISION_BITS,
        _ => declared.modifier,
    };
    precision.min(DIGITS_MAX)
}

fn fields(declared: Declared<'_>) -> i32 {
    if declared.modifier < 0 { INTERVAL_FIELDS_ALL } else { declared.modifier >> 16 }
}

fn ordinal(number: i32) -> &'static str {
    match number {
        1 => "st",
        2 => "nd",
        3 => "rd",
        _ => "th",
    }
}
