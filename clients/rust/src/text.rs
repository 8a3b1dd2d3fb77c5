//! Clocks and words as PostgreSQL writes them.

use std::fmt;

use crate::time::MICROS_PER_SECOND;

const MICROS_PER_SECOND_U: u64 = MICROS_PER_SECOND.unsigned_abs();
const MICROS_DIGITS: usize = 6;
const BELOW_SIXTY: i64 = 60;

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    expected: &'static str,
    found: String,
}

impl Unreadable {
    pub(crate) fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.to_owned() }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} as PostgreSQL writes it, found {:?}", self.expected, self.found)
    }
}

impl std::error::Error for Unreadable {}

/// The words of a text, and no empty ones.
pub(crate) struct Words<'a>(std::str::SplitAsciiWhitespace<'a>);

impl<'a> Words<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self(text.split_ascii_whitespace())
    }

    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.0.next()
    }
}

/// `HH:MM:SS` with a fraction where there is one; more than 24 hours in an interval.
pub(crate) fn clock(micros: u64) -> String {
    let (seconds, fraction) = (micros / MICROS_PER_SECOND_U, micros % MICROS_PER_SECOND_U);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!(".{fraction:06}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

/// Microseconds of `HH:MM:SS` with a fraction, and what stands behind it.
pub(crate) fn parse_clock(text: &str) -> Option<(i64, &str)> {
    let end =
        text.find(|it: char| !it.is_ascii_digit() && it != ':' && it != '.').unwrap_or(text.len());
    let (time, rest) = text.split_at(end);
    let mut parts = time.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    if fraction.len() > MICROS_DIGITS {
        return None;
    }
    let number = |digits: &str| digits.parse::<i64>().ok();
    let (hours, minutes, seconds) = (number(hours)?, number(minutes)?, number(seconds)?);
    let fraction = number(&format!("{fraction:0<MICROS_DIGITS$}"))?;
    if minutes >= BELOW_SIXTY || seconds >= BELOW_SIXTY {
        return None;
    }
    let seconds = hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)?;
    Some((seconds.checked_mul(MICROS_PER_SECOND)?.checked_add(fraction)?, rest))
}

/// Seconds east of UTC; nothing stands for none.
pub(crate) fn parse_offset(text: &str) -> Option<i64> {
    if text.is_empty() || text == "Z" {
        return Some(0);
    }
    let (sign, digits) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(digits), _) => (1, digits),
        (_, Some(digits)) => (-1, digits),
        _ => return None,
    };
    let (mut seconds, mut unit) = (0i64, 3600);
    for part in digits.split(':') {
        seconds += i64::from(part.parse::<u8>().ok()?) * unit;
        unit /= 60;
    }
    Some(sign * seconds)
}
