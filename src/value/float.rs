//! Floats as PostgreSQL writes them: the shortest digits that read back the same.
//!
//! PostgreSQL leaves out digits that stand exactly between two floats, since not every
//! reader rounds them to even; Rust takes them. `1e23` is `9.999999999999999e+22` there.

use std::fmt::Write;

/// The layout of a binary float, as far as its printing needs it.
struct Layout {
    /// Bits of the significand after the first.
    fraction_bits: u32,
    /// Exponent of the last significand bit of the smallest normal number.
    exponent_min: i64,
    /// Decimal exponents from here on are written `1e+15`.
    scientific_from: i64,
    digits_max: usize,
}

const DOUBLE: Layout =
    Layout { fraction_bits: 52, exponent_min: -1074, scientific_from: 15, digits_max: 17 };
const SINGLE: Layout =
    Layout { fraction_bits: 23, exponent_min: -149, scientific_from: 6, digits_max: 9 };

/// Decimal exponents below this one are written `1e-05`.
const SCIENTIFIC_BELOW: i64 = -4;

/// A finite value as `0.digits`-free decimal: `digits` with the point after the first one.
struct Decimal {
    digits: String,
    exponent: i64,
}

pub(crate) fn write_double(value: f64, out: &mut String) {
    if write_special(value, out) {
        return;
    }
    let bits = value.to_bits();
    let magnitude = value.abs();
    let decimal = shortest(
        &DOUBLE,
        bits & ((1 << DOUBLE.fraction_bits) - 1),
        (bits >> DOUBLE.fraction_bits) & 0x7FF,
        |precision| match precision {
            None => format!("{magnitude:e}"),
            Some(precision) => format!("{magnitude:.precision$e}"),
        },
        |text| text.parse::<f64>() == Ok(magnitude),
    );
    write_decimal(&DOUBLE, &decimal, out);
}

pub(crate) fn write_single(value: f32, out: &mut String) {
    if write_special(f64::from(value), out) {
        return;
    }
    let bits = value.to_bits();
    let magnitude = value.abs();
    let decimal = shortest(
        &SINGLE,
        u64::from(bits & ((1 << SINGLE.fraction_bits) - 1)),
        u64::from((bits >> SINGLE.fraction_bits) & 0xFF),
        |precision| match precision {
            None => format!("{magnitude:e}"),
            Some(precision) => format!("{magnitude:.precision$e}"),
        },
        |text| text.parse::<f32>() == Ok(magnitude),
    );
    write_decimal(&SINGLE, &decimal, out);
}

/// Writes what has no digits, and the sign of what has.
fn write_special(value: f64, out: &mut String) -> bool {
    if value.is_nan() {
        out.push_str("NaN");
        return true;
    }
    if value.is_sign_negative() {
        out.push('-');
    }
    if value.is_infinite() {
        out.push_str("Infinity");
    } else if value == 0.0 {
        out.push('0');
    }
    value.is_infinite() || value == 0.0
}

fn shortest(
    layout: &Layout,
    fraction: u64,
    biased_exponent: u64,
    print: impl Fn(Option<usize>) -> String,
    reads_back: impl Fn(&str) -> bool,
) -> Decimal {
    let first = split(&print(None));
    let (significand, exponent) = if biased_exponent == 0 {
        (fraction, layout.exponent_min)
    } else {
        let exponent = i64::try_from(biased_exponent).unwrap_or(1) - 1 + layout.exponent_min;
        (fraction | (1 << layout.fraction_bits), exponent)
    };
    // Only an even significand draws to itself what stands between it and the next.
    let even = fraction.is_multiple_of(2);
    // Below the smallest number of a binade the next float is half as far away.
    let narrow = fraction == 0 && biased_exponent > 1;
    let on_edge = |decimal: &Decimal| {
        let lower = if narrow {
            is_exactly(decimal, 4 * significand - 1, exponent - 2)
        } else {
            significand > 0 && is_exactly(decimal, 2 * significand - 1, exponent - 1)
        };
        even && (lower || is_exactly(decimal, 2 * significand + 1, exponent - 1))
    };
    let written = |precision: usize| {
        let text = print(Some(precision.saturating_sub(1)));
        let candidate = split(&text);
        (reads_back(&text) && !on_edge(&candidate)).then_some(candidate)
    };
    // Of two decimals equally near, the printing with a precision takes the even one.
    let shortest = first.digits.len();
    match written(shortest) {
        Some(decimal) => decimal,
        None if !on_edge(&first) => first,
        None => (shortest + 1..=layout.digits_max).find_map(written).unwrap_or(first),
    }
}

/// Takes `1.2345e-7` apart, trailing zeros away.
fn split(text: &str) -> Decimal {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let kept = digits.trim_end_matches('0').len().max(1);
    digits.truncate(kept);
    Decimal { digits, exponent: exponent.parse().unwrap_or(0) }
}

/// Whether the decimal is `odd` times two to the power of `power`, exactly.
fn is_exactly(decimal: &Decimal, odd: u64, power: i64) -> bool {
    let Ok(digits) = decimal.digits.parse::<u64>() else { return false };
    if digits == 0 {
        return false;
    }
    let last_place = decimal.exponent - i64::try_from(decimal.digits.len()).unwrap_or(0) + 1;
    let twos = i64::from(digits.trailing_zeros());
    let digits = u128::from(digits >> digits.trailing_zeros());
    let odd = u128::from(odd);
    // digits · 2^twos · 10^last_place = odd · 2^power, with the fives on one side.
    let fives = |count: i64| u32::try_from(count).ok().and_then(|count| 5u128.checked_pow(count));
    let odd_parts_agree = if last_place >= 0 {
        fives(last_place).and_then(|fives| digits.checked_mul(fives)) == Some(odd)
    } else {
        fives(-last_place).and_then(|fives| odd.checked_mul(fives)) == Some(digits)
    };
    odd_parts_agree && twos + last_place == power
}

fn write_decimal(layout: &Layout, decimal: &Decimal, out: &mut String) {
    let Decimal { digits, exponent } = decimal;
    let (first, rest) = digits.split_at(1.min(digits.len()));
    if *exponent < SCIENTIFIC_BELOW || *exponent >= layout.scientific_from {
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let sign = if *exponent < 0 { '-' } else { '+' };
        // Writing to a String cannot fail.
        let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
    } else if *exponent < 0 {
        out.push_str("0.");
        for _ in 1..exponent.unsigned_abs() {
            out.push('0');
        }
        out.push_str(digits);
    } else {
        let whole = usize::try_from(*exponent).unwrap_or(0) + 1;
        if digits.len() <= whole {
            out.push_str(digits);
            for _ in digits.len()..whole {
                out.push('0');
            }
        } else {
            let (before, after) = digits.split_at(whole);
            out.push_str(before);
            out.push('.');
            out.push_str(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        let mut out = String::new();
        write_double(value, &mut out);
        out
    }

    fn single(value: f32) -> String {
        let mut out = String::new();
        write_single(value, &mut out);
        out
    }

    #[test]
    fn doubles_read_as_the_server_writes_them() {
        for (value, wanted) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1.0, "1"),
            (100_000_000_000_000.0, "100000000000000"),
            (1e15, "1e+15"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (1e300, "1e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (1e23, "9.999999999999999e+22"),
            (123_456.789, "123456.789"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), wanted);
        }
    }

    #[test]
    fn singles_read_as_the_server_writes_them() {
        for (value, wanted) in [
            (0.1, "0.1"),
            (1e6, "1e+06"),
            (999_999.0, "999999"),
            (3.402_823_5e38, "3.4028235e+38"),
            (1e-45, "1e-45"),
            (16_777_216.0, "1.6777216e+07"),
            (f32::INFINITY, "Infinity"),
        ] {
            assert_eq!(single(value), wanted);
        }
    }
}
