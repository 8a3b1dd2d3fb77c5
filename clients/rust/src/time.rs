//! Dates and times as PostgreSQL has them: microseconds, infinities, years before Christ.
//!
//! Their text, by `Display` and `FromStr`, is PostgreSQL's (`DateStyle` ISO). `FromStr` also reads ISO 8601
//! with `T` and `Z`.

use std::fmt;
use std::str::FromStr;

use crate::text::{Unreadable, Words, clock, parse_clock, parse_offset};

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;
const MONTHS_PER_YEAR: i32 = 12;
/// The proleptic Gregorian calendar repeats after 400 years, which an era is.
const DAYS_PER_ERA: i64 = 146_097;
/// Later years have a sign in ISO 8601.
const ISO_YEAR_MAX: i64 = 9_999;
/// Days from 1 March of the year 0 to 1 January 1970.
const DAYS_TO_1970: i64 = 719_468;

const BC: &str = " BC";
pub(crate) const INFINITY: &str = "infinity";
pub(crate) const NEG_INFINITY: &str = "-infinity";

/// A point in time with microseconds, over all of PostgreSQL's range. Of a `timestamp` without a time zone it is
/// the wall clock, as if that were UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timestamp {
    /// `-infinity`: earlier than everything.
    NegInfinity,
    /// A point in time.
    Finite {
        /// Seconds since 1970-01-01T00:00:00Z, rounded down.
        seconds: i64,
        /// 0 to 999,999.
        micros: u32,
    },
    /// `infinity`: later than everything.
    Infinity,
}

impl Timestamp {
    /// The point so many microseconds after 1970-01-01T00:00:00Z.
    pub fn from_unix_micros(micros: i64) -> Self {
        let fraction = micros.rem_euclid(MICROS_PER_SECOND);
        Self::Finite {
            seconds: micros.div_euclid(MICROS_PER_SECOND),
            micros: u32::try_from(fraction).unwrap_or_default(),
        }
    }

    /// Microseconds since 1970-01-01T00:00:00Z; none where it is infinite or 64 bits do not hold it.
    pub fn unix_micros(self) -> Option<i64> {
        let Self::Finite { seconds, micros } = self else { return None };
        let micros = i128::from(seconds) * i128::from(MICROS_PER_SECOND) + i128::from(micros);
        i64::try_from(micros).ok()
    }

    /// As PostgreSQL writes a `timestamptz` in UTC.
    pub(crate) fn zoned(self) -> String {
        self.written(' ', "+00", day_text)
    }

    /// As ISO 8601 writes it; `zone` is `Z` or nothing.
    pub(crate) fn iso(self, zone: &str) -> String {
        self.written('T', zone, iso_day)
    }

    fn written(self, between: char, zone: &str, write_day: fn(i64) -> String) -> String {
        match self {
            Self::Infinity => INFINITY.to_owned(),
            Self::NegInfinity => NEG_INFINITY.to_owned(),
            Self::Finite { seconds, micros } => {
                let day = write_day(seconds.div_euclid(SECONDS_PER_DAY));
                let (day, era) = day.strip_suffix(BC).map_or((day.as_str(), ""), |day| (day, BC));
                let of_day = seconds.rem_euclid(SECONDS_PER_DAY).unsigned_abs();
                let time = clock(of_day * MICROS_PER_SECOND.unsigned_abs() + u64::from(micros));
                format!("{day}{between}{time}{zone}{era}")
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(' ', "", day_text))
    }
}

impl FromStr for Timestamp {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            INFINITY => return Ok(Self::Infinity),
            NEG_INFINITY => return Ok(Self::NegInfinity),
            _ => {}
        }
        let read = || {
            let (rest, before_christ) = era(text);
            let (day, time) = rest.split_once([' ', 'T'])?;
            let days = parse_day(day, before_christ)?;
            let (micros, zone) = parse_clock(time)?;
            let offset = parse_offset(zone)?;
            let seconds =
                days.checked_mul(SECONDS_PER_DAY)?.checked_add(micros / MICROS_PER_SECOND)?;
            let fraction = u32::try_from(micros % MICROS_PER_SECOND).ok()?;
            Some(Self::Finite { seconds: seconds.checked_sub(offset)?, micros: fraction })
        };
        read().ok_or_else(|| Unreadable::new("a timestamp", text))
    }
}

/// A day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Date {
    /// `-infinity`: earlier than everything.
    NegInfinity,
    /// Days since 1970-01-01.
    Finite(i32),
    /// `infinity`: later than everything.
    Infinity,
}

impl Date {
    /// As ISO 8601 writes it.
    pub(crate) fn iso(self) -> String {
        match self {
            Self::Finite(days) => iso_day(i64::from(days)),
            infinite => infinite.to_string(),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Infinity => f.write_str(INFINITY),
            Self::NegInfinity => f.write_str(NEG_INFINITY),
            Self::Finite(days) => f.write_str(&day_text(i64::from(*days))),
        }
    }
}

impl FromStr for Date {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            INFINITY => return Ok(Self::Infinity),
            NEG_INFINITY => return Ok(Self::NegInfinity),
            _ => {}
        }
        let (day, before_christ) = era(text);
        let days = parse_day(day, before_christ).and_then(|days| i32::try_from(days).ok());
        days.map(Self::Finite).ok_or_else(|| Unreadable::new("a date", text))
    }
}

/// A time of day: microseconds since midnight, up to 24:00:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub(crate) i64);

impl Time {
    /// None above 86,400,000,000, which is 24:00:00, and below zero.
    pub fn from_micros(micros: i64) -> Option<Self> {
        (0..=MICROS_PER_DAY).contains(&micros).then_some(Self(micros))
    }

    /// Microseconds since midnight.
    pub fn micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&clock(self.0.unsigned_abs()))
    }
}

impl FromStr for Time {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let read = parse_clock(text).filter(|(_, rest)| rest.is_empty());
        let made = read.and_then(|(micros, _)| Self::from_micros(micros));
        made.ok_or_else(|| Unreadable::new("a time without a zone", text))
    }
}

/// A span of time in PostgreSQL's three units, which do not convert into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    /// `-infinity`; from PostgreSQL 17 on.
    NegInfinity,
    /// A span with an end.
    Finite {
        /// Months; twelve for a year.
        months: i32,
        /// Days, of which not all have 24 hours.
        days: i32,
        /// Microseconds.
        micros: i64,
    },
    /// `infinity`; from PostgreSQL 17 on.
    Infinity,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (months, days, micros) = match *self {
            Self::Infinity => return f.write_str(INFINITY),
            Self::NegInfinity => return f.write_str(NEG_INFINITY),
            Self::Finite { months, days, micros } => (months, days, micros),
        };
        let parts =
            [(months / MONTHS_PER_YEAR, "year"), (months % MONTHS_PER_YEAR, "mon"), (days, "day")];
        let (mut written, mut negative) = (false, false);
        for (value, unit) in parts.into_iter().filter(|(value, _)| *value != 0) {
            let space = if written { " " } else { "" };
            let sign = if negative && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            write!(f, "{space}{sign}{value} {unit}{plural}")?;
            (written, negative) = (true, value < 0);
        }
        if micros == 0 && written {
            return Ok(());
        }
        let space = if written { " " } else { "" };
        let sign = if micros < 0 {
            "-"
        } else if negative {
            "+"
        } else {
            ""
        };
        write!(f, "{space}{sign}{}", clock(micros.unsigned_abs()))
    }
}

impl FromStr for Interval {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match text {
            INFINITY => Ok(Self::Infinity),
            NEG_INFINITY => Ok(Self::NegInfinity),
            _ => parse_interval(text).ok_or_else(|| Unreadable::new("an interval", text)),
        }
    }
}

fn parse_interval(text: &str) -> Option<Interval> {
    let (mut months, mut days, mut micros, mut seen) = (0i32, 0i32, 0i64, false);
    let mut words = Words::of(text);
    while let Some(word) = words.next() {
        seen = true;
        if word.contains(':') {
            let digits = word.trim_start_matches(['+', '-']);
            let (span, rest) = parse_clock(digits)?;
            // The last word, and nothing behind it.
            if !rest.is_empty() || words.next().is_some() {
                return None;
            }
            micros = if word.starts_with('-') { span.checked_neg()? } else { span };
            break;
        }
        let number: i32 = word.parse().ok()?;
        match words.next()?.trim_end_matches('s') {
            "year" => months = number.checked_mul(MONTHS_PER_YEAR)?.checked_add(months)?,
            "mon" => months = months.checked_add(number)?,
            "day" => days = days.checked_add(number)?,
            _ => return None,
        }
    }
    seen.then_some(Interval::Finite { months, days, micros })
}

/// Splits `BC` off.
fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(BC).map_or((text, false), |rest| (rest, true))
}

/// The day as PostgreSQL writes it.
fn day_text(days: i64) -> String {
    let (year, month, day) = civil(days);
    if year > 0 {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{:04}-{month:02}-{day:02} BC", 1 - year)
    }
}

/// The day as ISO 8601 writes it, where the year before the year 1 is the year 0.
fn iso_day(days: i64) -> String {
    let (year, month, day) = civil(days);
    if (0..=ISO_YEAR_MAX).contains(&year) {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{year:+05}-{month:02}-{day:02}")
    }
}

fn parse_day(text: &str, before_christ: bool) -> Option<i64> {
    let (unsigned, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text.strip_prefix('+').unwrap_or(text), false),
    };
    let mut parts = unsigned.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let year = i64::from(year.parse::<u32>().ok()?);
    let year = match (before_christ, negative) {
        (true, true) => return None,
        (true, false) => 1 - year,
        (false, true) => -year,
        (false, false) => year,
    };
    let (month, day) = (month.parse::<u32>().ok()?, day.parse::<u32>().ok()?);
    let days = days_of(year, month, day);
    // What is no day of the calendar comes back as another.
    (civil(days) == (year, month, day)).then_some(days)
}

/// Year, month and day of so many days after 1970-01-01.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + DAYS_TO_1970;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or_default(), u32::try_from(day).unwrap_or_default())
}

fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let (month, day) = (i64::from(month), i64::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * DAYS_PER_ERA + of_era - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_ways<T>(texts: &[&str])
    where
        T: FromStr<Err = Unreadable> + fmt::Display,
    {
        for text in texts {
            assert_eq!(text.parse::<T>().unwrap().to_string(), *text);
        }
    }

    #[test]
    fn texts_are_read_and_written_as_postgresql_does() {
        both_ways::<Timestamp>(&[
            "2024-02-29 23:59:59.999999",
            "1969-12-31 23:59:59.999999",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "0001-01-01 00:00:00",
            "infinity",
            "-infinity",
        ]);
        both_ways::<Date>(&[
            "2024-02-29",
            "0001-12-31 BC",
            "5874897-12-31",
            "1900-03-01",
            "infinity",
        ]);
        both_ways::<Time>(&["00:00:00", "23:59:59.9", "24:00:00"]);
        both_ways::<Interval>(&[
            "00:00:00",
            "1 day",
            "1 year 2 mons 3 days 04:05:06.000007",
            "-1 mons +2 days -00:00:00.000001",
            "-00:30:00",
            "178000000 years",
            "2562047788:00:54.775807",
        ]);
    }

    #[test]
    fn what_is_no_date_or_time_is_refused() {
        for text in
            ["2023-02-29 00:00:00", "2024-13-01 00:00:00", "2024-01-01", "2024-01-01 00:60:00", ""]
        {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        for text in ["24:00:00.000001", "1:2", "-01:00:00", "01:00:00+00"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
        for text in ["", "1", "1 week", "01:00:00 1 day", "1 day 1:00"] {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
    }

    #[test]
    fn offsets_and_iso_8601_are_read() {
        let utc: Timestamp = "2024-02-29 12:00:00".parse().unwrap();
        for text in ["2024-02-29 12:00:00+00", "2024-02-29T12:00:00Z", "2024-02-29 17:30:00+05:30"]
        {
            assert_eq!(text.parse::<Timestamp>().unwrap(), utc, "{text}");
        }
        assert_eq!(utc.zoned(), "2024-02-29 12:00:00+00");
        for (text, iso) in [
            ("0044-03-15 12:00:00 BC", "-0043-03-15T12:00:00Z"),
            ("0001-01-01 00:00:00 BC", "0000-01-01T00:00:00Z"),
            ("10000-01-01 00:00:00", "+10000-01-01T00:00:00Z"),
        ] {
            let point: Timestamp = text.parse().unwrap();
            assert_eq!(point.iso("Z"), iso);
            assert_eq!(iso.parse::<Timestamp>().unwrap(), point);
        }
        assert_eq!(Timestamp::from_unix_micros(-1).to_string(), "1969-12-31 23:59:59.999999");
        assert_eq!(Timestamp::from_unix_micros(-1).unix_micros(), Some(-1));
    }
}
