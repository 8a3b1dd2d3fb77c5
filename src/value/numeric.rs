//! `numeric`: base-10,000 digits on the wire, exact decimal text for people.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::value::error::DecodeError;
use crate::value::reader::Reader;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const POSITIVE_INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// Decimal digits in one digit of the wire.
const GROUP: i32 = 4;
const GROUP_LIMIT: u16 = 10_000;

/// Bits of the scale that the server uses.
const SCALE_MAX: u16 = 0x3FFF;

/// Decimal digits before the point that PostgreSQL's `numeric` takes.
const WHOLE_DIGITS_MAX: i64 = 131_072;

/// A `numeric` cell that was checked. `Display` writes PostgreSQL's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumericCell<'a> {
    sign: u16,
    weight: i16,
    scale: u16,
    digits: &'a [u8],
}

impl<'a> NumericCell<'a> {
    /// Reads a cell.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Malformed`].
    pub fn new(cell: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("numeric", cell);
        let count = usize::from(reader.u16()?);
        let weight = reader.i16()?;
        let sign = reader.u16()?;
        if !matches!(sign, POSITIVE | NEGATIVE | NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY) {
            return Err(reader.malformed("the sign is unknown"));
        }
        let scale = reader.u16()?;
        if scale > SCALE_MAX {
            return Err(reader.malformed("the scale is out of range"));
        }
        let digits = reader.take(count.saturating_mul(2))?;
        reader.end()?;
        let number = Self { sign, weight, scale, digits };
        if number.groups().any(|group| group >= GROUP_LIMIT) {
            return Err(reader.malformed("a digit is out of range"));
        }
        if number.hides_digits() {
            return Err(reader.malformed("there are digits beyond the scale"));
        }
        Ok(number)
    }

    /// Whether it is NaN.
    pub fn is_nan(&self) -> bool {
        self.sign == NAN
    }

    /// `Some(true)` for Infinity, `Some(false)` for -Infinity.
    pub fn infinity(&self) -> Option<bool> {
        match self.sign {
            POSITIVE_INFINITY => Some(true),
            NEGATIVE_INFINITY => Some(false),
            _ => None,
        }
    }

    /// Digits after the point that the server shows.
    pub fn scale(&self) -> u16 {
        self.scale
    }

    fn groups(&self) -> impl Iterator<Item = u16> + '_ {
        self.digits.chunks_exact(2).map(|pair| match pair {
            [high, low] => u16::from_be_bytes([*high, *low]),
            _ => 0,
        })
    }

    /// Whether the scale leaves out digits that count. The server never sends such.
    fn hides_digits(&self) -> bool {
        let shown = i64::from(self.scale);
        self.groups().zip(0i64..).any(|(group, index)| {
            let places = (index - i64::from(self.weight)) * i64::from(GROUP);
            let hidden = u32::try_from((places - shown).clamp(0, i64::from(GROUP))).unwrap_or(0);
            u32::from(group) % 10u32.pow(hidden) != 0
        })
    }

    /// The group that stands for 10,000 to the power of `power`.
    fn group(&self, power: i32) -> u16 {
        let index = i32::from(self.weight).saturating_sub(power);
        usize::try_from(index)
            .ok()
            .and_then(|index| index.checked_mul(2))
            .and_then(|start| self.digits.get(start..start.checked_add(2)?))
            .map_or(0, |pair| match pair {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0,
            })
    }
}

impl fmt::Display for NumericCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sign {
            NAN => return f.write_str("NaN"),
            POSITIVE_INFINITY => return f.write_str("Infinity"),
            NEGATIVE_INFINITY => return f.write_str("-Infinity"),
            NEGATIVE => f.write_str("-")?,
            _ => {}
        }
        let first = (0..=i32::from(self.weight)).rev().find(|power| self.group(*power) != 0);
        match first {
            None => f.write_str("0")?,
            Some(first) => {
                write!(f, "{}", self.group(first))?;
                for power in (0..first).rev() {
                    write!(f, "{:04}", self.group(power))?;
                }
            }
        }
        let mut left = i32::from(self.scale);
        if left > 0 {
            f.write_str(".")?;
        }
        let mut power = -1;
        while left > 0 {
            let group = self.group(power);
            match left {
                1 => write!(f, "{}", group / 1000)?,
                2 => write!(f, "{:02}", group / 100)?,
                3 => write!(f, "{:03}", group / 10)?,
                _ => write!(f, "{group:04}")?,
            }
            left -= GROUP;
            power -= 1;
        }
        Ok(())
    }
}

/// The parts of a decimal text: sign, digits before and after the point, exponent.
struct Literal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

fn literal(text: &str) -> Option<Literal<'_>> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            (mantissa, exponent.parse().ok()?)
        }
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    Some(Literal { negative, whole, fraction, exponent })
}

/// Why a text is not a `numeric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumericFault {
    /// It is not a decimal number.
    Syntax,
    /// PostgreSQL's `numeric` does not reach so far.
    Range,
}

/// Sign and kind of a special value in any case that PostgreSQL reads.
pub(crate) fn special(text: &str) -> Option<u16> {
    let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is(&["nan"]) {
        Some(NAN)
    } else if is(&["infinity", "+infinity", "inf", "+inf"]) {
        Some(POSITIVE_INFINITY)
    } else if is(&["-infinity", "-inf"]) {
        Some(NEGATIVE_INFINITY)
    } else {
        None
    }
}

/// Writes the binary form of a decimal text, its scale kept.
pub(crate) fn encode(text: &str, out: &mut BytesMut) -> Result<(), NumericFault> {
    if let Some(sign) = special(text) {
        out.put_u16(0);
        out.put_i16(0);
        out.put_u16(sign);
        out.put_u16(0);
        return Ok(());
    }
    let literal = literal(text).ok_or(NumericFault::Syntax)?;
    let length = |part: &str| i64::try_from(part.len()).map_err(|_| NumericFault::Range);
    let scale = length(literal.fraction)?.saturating_sub(literal.exponent).max(0);
    let scale = u16::try_from(scale).map_err(|_| NumericFault::Range)?;
    if scale > SCALE_MAX {
        return Err(NumericFault::Range);
    }
    let all = || literal.whole.bytes().chain(literal.fraction.bytes()).map(|byte| byte - b'0');
    let Some(first) = all().position(|digit| digit != 0) else {
        out.put_u16(0);
        out.put_i16(0);
        out.put_u16(POSITIVE);
        out.put_u16(scale);
        return Ok(());
    };
    // The decimal place of the first digit that counts: 0 for units, -1 for tenths.
    let first_place = length(literal.whole)?
        .saturating_add(literal.exponent)
        .saturating_sub(1)
        .saturating_sub(i64::try_from(first).map_err(|_| NumericFault::Range)?);
    if first_place >= WHOLE_DIGITS_MAX || first_place < -i64::from(SCALE_MAX) {
        return Err(NumericFault::Range);
    }
    let weight = first_place.div_euclid(i64::from(GROUP));
    let mut groups: Vec<u16> = Vec::new();
    let mut place = first_place;
    let mut group: u16 = 0;
    for digit in all().skip(first) {
        group = group * 10 + u16::from(digit);
        if place.rem_euclid(i64::from(GROUP)) == 0 {
            groups.push(group);
            group = 0;
        }
        place -= 1;
    }
    let begun = (place + 1).rem_euclid(i64::from(GROUP));
    if begun != 0 {
        for _ in 0..begun {
            group *= 10;
        }
        groups.push(group);
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    out.put_u16(u16::try_from(groups.len()).map_err(|_| NumericFault::Range)?);
    out.put_i16(i16::try_from(weight).map_err(|_| NumericFault::Range)?);
    out.put_u16(if literal.negative { NEGATIVE } else { POSITIVE });
    out.put_u16(scale);
    for group in groups {
        out.put_u16(group);
    }
    Ok(())
}

/// The value of a decimal text where it is whole and fits; `None` where it does not.
pub(crate) fn integral(text: &str) -> Option<i128> {
    let literal = literal(text)?;
    let point = i64::try_from(literal.whole.len()).ok()?.checked_add(literal.exponent)?;
    let mut value: i128 = 0;
    let mut index: i64 = 0;
    for byte in literal.whole.bytes().chain(literal.fraction.bytes()) {
        let digit = i128::from(byte - b'0');
        if index < point {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if digit != 0 {
            return None;
        }
        index += 1;
    }
    while index < point && value != 0 {
        value = value.checked_mul(10)?;
        index += 1;
    }
    Some(if literal.negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        let mut out = BytesMut::new();
        encode(text, &mut out).unwrap();
        NumericCell::new(&out).unwrap().to_string()
    }

    #[test]
    fn text_survives_with_its_scale() {
        for text in [
            "0",
            "0.00",
            "1",
            "-1",
            "10000",
            "9999",
            "12345678901234567890.1200",
            "0.0001",
            "0.00001",
            "-0.10",
            "100000000",
            "1000.0000",
            "NaN",
            "Infinity",
            "-Infinity",
            "123.456",
        ] {
            assert_eq!(round_trip(text), text);
        }
    }

    #[test]
    fn exponents_are_resolved_as_the_server_does() {
        for (text, wanted) in [
            ("1e5", "100000"),
            ("1.5e3", "1500"),
            ("1.50e1", "15.0"),
            ("12e-3", "0.012"),
            ("-0", "0"),
            ("+.5", "0.5"),
            ("5.", "5"),
            ("0e3", "0"),
            ("0e-3", "0.000"),
        ] {
            assert_eq!(round_trip(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let mut out = BytesMut::new();
        for text in ["", "-", ".", "1e", "1e+", "0x1", "1 ", "--1", "1e99999999999999999999"] {
            assert_eq!(encode(text, &mut out), Err(NumericFault::Syntax), "{text}");
        }
        for text in ["1e131072", "1e-16384", "1e9223372036854775807"] {
            assert_eq!(encode(text, &mut out), Err(NumericFault::Range), "{text}");
        }
    }

    #[test]
    fn cells_are_taken_as_other_servers_may_write_them() {
        let cell = |weight: i16, scale: u16, groups: &[u16]| {
            let mut out = BytesMut::new();
            out.put_u16(u16::try_from(groups.len()).unwrap());
            out.put_i16(weight);
            out.put_u16(POSITIVE);
            out.put_u16(scale);
            groups.iter().for_each(|group| out.put_u16(*group));
            NumericCell::new(&out).map(|cell| cell.to_string())
        };
        assert_eq!(cell(1, 0, &[0, 12]).unwrap(), "12");
        assert_eq!(cell(0, 2, &[1, 5000]).unwrap(), "1.50");
        assert!(cell(0, 2, &[1, 5010]).is_err());
        assert!(cell(-1, 0, &[1]).is_err());
        assert!(cell(0, 0, &[10_000]).is_err());
    }

    #[test]
    fn integral_values_are_seen() {
        assert_eq!(integral("12.000"), Some(12));
        assert_eq!(integral("-1.5e1"), Some(-15));
        assert_eq!(integral("1.5"), None);
        assert_eq!(integral("1e3"), Some(1000));
        assert_eq!(integral("0e999999999999"), Some(0));
        assert_eq!(integral("100e-2"), Some(1));
        assert_eq!(integral("1e-2"), None);
    }
}
