//! Exact decimals in canonical form.

use std::fmt;
use std::hash::{Hash, Hasher};

/// An exact decimal: its digits, read as a whole number, times ten to the power of
/// `exponent`. Equal values are equal here, however many zeros they were written with.
#[derive(Debug, Clone)]
pub struct Decimal {
    /// Below zero. Zero itself is never negative.
    pub negative: bool,
    /// Without zeros in front or at the end; empty for zero.
    pub digits: String,
    /// Power of ten of the last digit; 0 for zero.
    pub exponent: i64,
    /// Digits after the point as it was written, zeros included. Not part of the value.
    pub scale: u32,
}

impl Decimal {
    /// Reads `-12.3400`, `1e-7` and the like; `None` where it is none, or its exponent is
    /// beyond counting.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, text.get(1..)?),
            b'+' => (false, text.get(1..)?),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = String::with_capacity(mantissa.len());
        digits.push_str(whole);
        digits.push_str(fraction);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        let scale = u32::try_from(exponent.checked_neg()?.max(0)).unwrap_or(u32::MAX);
        let all = digits.len();
        digits.truncate(digits.trim_end_matches('0').len());
        let cut = i64::try_from(all.saturating_sub(digits.len())).ok()?;
        let digits = digits.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0, scale });
        }
        Some(Self { negative, digits, exponent: exponent.checked_add(cut)?, scale })
    }

    /// A whole number.
    pub fn from_int(number: i64) -> Self {
        let all = number.unsigned_abs().to_string();
        let digits = all.trim_end_matches('0');
        if digits.is_empty() {
            return Self { negative: false, digits: String::new(), exponent: 0, scale: 0 };
        }
        Self {
            negative: number < 0,
            digits: digits.to_owned(),
            exponent: i64::try_from(all.len() - digits.len()).unwrap_or(0),
            scale: 0,
        }
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.negative == other.negative
            && self.exponent == other.exponent
            && self.digits == other.digits
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.negative.hash(state);
        self.exponent.hash(state);
        self.digits.hash(state);
    }
}

impl fmt::Display for Decimal {
    /// In canonical form: zeros at the end are an exponent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        if self.negative {
            f.write_str("-")?;
        }
        f.write_str(&self.digits)?;
        if self.exponent == 0 { Ok(()) } else { write!(f, "e{}", self.exponent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_equal() {
        for (left, right) in [
            ("2.50", "2.5"),
            ("1e5", "100000"),
            ("-0", "0"),
            ("-0.00", "0E+1"),
            ("0.1", "1E-1"),
            ("1E+4", "10000.00"),
            ("00012", "12"),
        ] {
            assert_eq!(Decimal::parse(left).unwrap(), Decimal::parse(right).unwrap());
        }
        assert_ne!(Decimal::parse("1"), Decimal::parse("-1"));
        assert_ne!(Decimal::parse("1"), Decimal::parse("10"));
        assert_eq!(Decimal::from_int(-1200), Decimal::parse("-1200").unwrap());
        assert_eq!(Decimal::from_int(i64::MIN), Decimal::parse("-9223372036854775808").unwrap());
    }

    #[test]
    fn the_scale_is_as_written() {
        assert_eq!(Decimal::parse("2.5000").unwrap().scale, 4);
        assert_eq!(Decimal::parse("0.00").unwrap().scale, 2);
        assert_eq!(Decimal::parse("1e3").unwrap().scale, 0);
    }

    #[test]
    fn what_is_no_decimal_is_none() {
        for text in ["", "-", "e5", "1e", "NaN", "1e9223372036854775808", "1.2.3", "é"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }
}
