//! Integers, exact numbers, floats, money.

use crate::preflight::carry::{Carry, Declared};

/// Added to the modifier of `numeric`.
const MODIFIER_BASE: i32 = 4;
/// Digits of money before the point: 92,233,720,368,547,758.07.
const MONEY_DIGITS: i32 = 17;
const MONEY_SCALE: i32 = 2;

/// What an exact number may be: digits before and after the point; `None` for no limit.
#[derive(Debug, Clone, Copy)]
struct Exact {
    whole: Option<i32>,
    scale: Option<i32>,
}

pub(super) fn carry(from: Declared<'_>, to: Declared<'_>) -> Option<Carry> {
    let (a, b) = (from.name(), to.name());
    if a == "money" && b == "money" {
        return None;
    }
    if let (Some((low, high)), Some((least, most))) = (range(a), range(b)) {
        let fits = low >= least && high <= most;
        return Some(if fits { Carry::All } else { beyond(least.max(low), most.min(high)) });
    }
    match (a, b) {
        ("float4", "float4" | "float8") | ("float8", "float8") => return Some(Carry::All),
        ("float8", "float4") => {
            return Some(Carry::Part("numbers of more than 6 digits".to_owned()));
        }
        // The comparer does not take a real for an exact number.
        ("float4", _) if exact(from, to).1.is_some() => return Some(Carry::Never),
        (_, "float4") if exact(from, to).0.is_some() => return Some(Carry::Never),
        ("int2" | "int4" | "oid", "float8") => return Some(Carry::All),
        ("int8", "float8") => return Some(Carry::Part("numbers beyond 2^53".to_owned())),
        ("numeric" | "money", "float8") => {
            return Some(Carry::Part("numbers of more than 15 digits".to_owned()));
        }
        ("float8", "numeric") if to.modifier < MODIFIER_BASE => return Some(Carry::All),
        ("float8", _) if exact(from, to).1.is_some() => {
            return Some(Carry::Part("fractions, and what is not a number".to_owned()));
        }
        _ => {}
    }
    let (Some(has), Some(takes)) = exact(from, to) else { return None };
    Some(exactly(has, takes))
}

fn exact(from: Declared<'_>, to: Declared<'_>) -> (Option<Exact>, Option<Exact>) {
    (exact_of(from, true), exact_of(to, false))
}

/// As a source a type counts with all digits that it may have, as a place to go to only with
/// those that it surely takes.
fn exact_of(declared: Declared<'_>, as_source: bool) -> Option<Exact> {
    let whole = |all: i32, sure: i32| Some(if as_source { all } else { sure });
    let exact = |whole, scale| Some(Exact { whole, scale: Some(scale) });
    match declared.name() {
        "int2" => exact(whole(5, 4), 0),
        "int4" | "oid" => exact(whole(10, 9), 0),
        "int8" => exact(whole(19, 18), 0),
        "money" => exact(whole(MONEY_DIGITS, MONEY_DIGITS - 1), MONEY_SCALE),
        "numeric" if declared.modifier < MODIFIER_BASE => Some(Exact { whole: None, scale: None }),
        "numeric" => {
            let packed = declared.modifier - MODIFIER_BASE;
            let precision = packed >> 16 & 0xffff;
            let scale = ((packed & 0x7ff) ^ 1024) - 1024;
            Some(Exact { whole: Some(precision - scale), scale: Some(scale) })
        }
        _ => None,
    }
}

fn exactly(has: Exact, takes: Exact) -> Carry {
    let mut lost = Vec::new();
    if let Some(limit) = takes.whole
        && has.whole.is_none_or(|whole| whole > limit)
    {
        lost.push(format!("numbers of more than {limit} digits before the point"));
    }
    if let Some(limit) = takes.scale
        && has.scale.is_none_or(|scale| scale > limit)
    {
        lost.push(format!("numbers of more than {limit} digits after the point"));
    }
    if lost.is_empty() { Carry::All } else { Carry::Part(lost.join(", ")) }
}

fn beyond(least: i64, most: i64) -> Carry {
    Carry::Part(format!("numbers below {least} or above {most}"))
}

/// The smallest and the largest number of an integer type.
pub(in crate::preflight) fn range(name: &str) -> Option<(i64, i64)> {
    Some(match name {
        "int2" => (i64::from(i16::MIN), i64::from(i16::MAX)),
        "int4" => (i64::from(i32::MIN), i64::from(i32::MAX)),
        "int8" => (i64::MIN, i64::MAX),
        "oid" => (0, i64::from(u32::MAX)),
        _ => return None,
    })
}
