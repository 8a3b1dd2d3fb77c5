//! Dates, times and intervals: microseconds and days since 2000 on the wire, ISO text in UTC.

use std::fmt::Write;

use crate::domain::value::{Date, Interval, Timestamp};

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
const MICROS_PER_HOUR: u64 = 3_600_000_000;
const MICROS_PER_MINUTE: u64 = 60_000_000;

/// Seconds and days from 1970-01-01 to 2000-01-01, where PostgreSQL's count begins.
pub(crate) const EPOCH_SECONDS: i64 = 946_684_800;
pub(crate) const EPOCH_DAYS: i32 = 10_957;

/// PostgreSQL's range: 4714-11-24 BC to the end of 294276 AD, in its own microseconds.
pub(crate) const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
pub(crate) const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;
/// The same for dates, in days since 2000.
pub(crate) const DATE_MIN: i32 = -2_451_545;
pub(crate) const DATE_END: i32 = 2_145_031_949;

/// A timestamp cell's microseconds as a point in time.
pub(crate) fn timestamp(micros: i64) -> Timestamp {
    match micros {
        i64::MAX => Timestamp::Infinity,
        i64::MIN => Timestamp::NegInfinity,
        _ => Timestamp::Finite {
            seconds: micros.div_euclid(MICROS_PER_SECOND) + EPOCH_SECONDS,
            micros: u32::try_from(micros.rem_euclid(MICROS_PER_SECOND)).unwrap_or(0),
        },
    }
}

/// A point in time as a cell's microseconds; `None` where PostgreSQL does not reach.
pub(crate) fn timestamp_micros(value: Timestamp) -> Option<i64> {
    match value {
        Timestamp::Infinity => Some(i64::MAX),
        Timestamp::NegInfinity => Some(i64::MIN),
        Timestamp::Finite { seconds, micros } => {
            if i64::from(micros) >= MICROS_PER_SECOND {
                return None;
            }
            let whole = seconds.checked_sub(EPOCH_SECONDS)?.checked_mul(MICROS_PER_SECOND)?;
            let all = whole.checked_add(i64::from(micros))?;
            (TIMESTAMP_MIN..TIMESTAMP_END).contains(&all).then_some(all)
        }
    }
}

/// A date cell's days as a date. `None` where the days since 1970 do not fit.
pub(crate) fn date(days: i32) -> Option<Date> {
    match days {
        i32::MAX => Some(Date::Infinity),
        i32::MIN => Some(Date::NegInfinity),
        _ => days.checked_add(EPOCH_DAYS).map(Date::Finite),
    }
}

/// A date as a cell's days; `None` where PostgreSQL does not reach.
pub(crate) fn date_days(value: Date) -> Option<i32> {
    match value {
        Date::Infinity => Some(i32::MAX),
        Date::NegInfinity => Some(i32::MIN),
        Date::Finite(days) => {
            let days = days.checked_sub(EPOCH_DAYS)?;
            (DATE_MIN..DATE_END).contains(&days).then_some(days)
        }
    }
}

/// An interval cell's parts. The extremes of all three are infinite, as from PostgreSQL 17.
pub(crate) fn interval(micros: i64, days: i32, months: i32) -> Interval {
    match (micros, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => Interval::Infinity,
        (i64::MIN, i32::MIN, i32::MIN) => Interval::NegInfinity,
        _ => Interval::Finite { months, days, micros },
    }
}

struct Civil {
    /// Astronomical: 0 is 1 BC.
    year: i64,
    month: i64,
    day: i64,
}

/// The Gregorian date so many days from 2000-01-01, by eras of 400 years that begin in March.
fn civil(days_since_2000: i64) -> Civil {
    const DAYS_PER_ERA: i64 = 146_097;
    let days = days_since_2000 + i64::from(EPOCH_DAYS) + 719_468;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil { year, month, day }
}

/// Writes the date without its era; `true` if it is before Christ.
fn write_civil(days: i64, out: &mut String) -> bool {
    let Civil { year, month, day } = civil(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year };
    let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
    before_christ
}

fn write_era(before_christ: bool, out: &mut String) {
    if before_christ {
        out.push_str(" BC");
    }
}

/// `HH:MM:SS` with as many digits of the second as count.
fn write_clock(micros: u64, out: &mut String) {
    let hours = micros / MICROS_PER_HOUR;
    let minutes = micros % MICROS_PER_HOUR / MICROS_PER_MINUTE;
    let _ = write!(out, "{hours:02}:{minutes:02}:");
    write_seconds(micros % MICROS_PER_MINUTE, out);
}

fn write_seconds(micros: u64, out: &mut String) {
    let _ = write!(out, "{:02}", micros / 1_000_000);
    let fraction = micros % 1_000_000;
    if fraction > 0 {
        let digits = format!("{fraction:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

pub(crate) fn write_date(days: i32, out: &mut String) {
    match days {
        i32::MAX => out.push_str("infinity"),
        i32::MIN => out.push_str("-infinity"),
        _ => {
            let before_christ = write_civil(i64::from(days), out);
            write_era(before_christ, out);
        }
    }
}

/// Text of a timestamp; `zoned` adds `+00`.
pub(crate) fn write_timestamp(micros: i64, zoned: bool, out: &mut String) {
    match micros {
        i64::MAX => out.push_str("infinity"),
        i64::MIN => out.push_str("-infinity"),
        _ => {
            let before_christ = write_civil(micros.div_euclid(MICROS_PER_DAY), out);
            out.push(' ');
            write_clock(micros.rem_euclid(MICROS_PER_DAY).unsigned_abs(), out);
            if zoned {
                out.push_str("+00");
            }
            write_era(before_christ, out);
        }
    }
}

/// Text of microseconds since midnight, which must not be negative.
pub(crate) fn write_time(micros: i64, out: &mut String) {
    write_clock(micros.unsigned_abs(), out);
}

/// Text of a zone given as seconds *west* of Greenwich, as the wire has it.
pub(crate) fn write_zone(seconds_west: i32, out: &mut String) {
    out.push(if seconds_west > 0 { '-' } else { '+' });
    let seconds = seconds_west.unsigned_abs();
    let _ = write!(out, "{:02}", seconds / 3600);
    if !seconds.is_multiple_of(3600) {
        let _ = write!(out, ":{:02}", seconds % 3600 / 60);
    }
    if !seconds.is_multiple_of(60) {
        let _ = write!(out, ":{:02}", seconds % 60);
    }
}

/// Text of an interval in style `postgres`.
pub(crate) fn write_interval(value: Interval, out: &mut String) {
    let (months, days, micros) = match value {
        Interval::Infinity => return out.push_str("infinity"),
        Interval::NegInfinity => return out.push_str("-infinity"),
        Interval::Finite { months, days, micros } => (months, days, micros),
    };
    let mut first = true;
    let mut after_negative = false;
    for (count, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if count == 0 {
            continue;
        }
        let space = if first { "" } else { " " };
        let plus = if after_negative && count > 0 { "+" } else { "" };
        let plural = if count == 1 { "" } else { "s" };
        let _ = write!(out, "{space}{plus}{count} {unit}{plural}");
        first = false;
        after_negative = count < 0;
    }
    if first || micros != 0 {
        if !first {
            out.push(' ');
        }
        if micros < 0 {
            out.push('-');
        } else if after_negative {
            out.push('+');
        }
        write_clock(micros.unsigned_abs(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn days_have_their_date() {
        for (days, wanted) in [
            (0, "2000-01-01"),
            (-1, "1999-12-31"),
            (59, "2000-02-29"),
            (366, "2001-01-01"),
            (-730_119, "0001-01-01"),
            (-730_120, "0001-12-31 BC"),
            (DATE_MIN, "4714-11-24 BC"),
            (DATE_END - 1, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| write_date(days, out)), wanted);
        }
    }

    #[test]
    fn timestamps_have_their_text() {
        for (micros, zoned, wanted) in [
            (0, false, "2000-01-01 00:00:00"),
            (-1, true, "1999-12-31 23:59:59.999999+00"),
            (1_500_000, true, "2000-01-01 00:00:01.5+00"),
            (TIMESTAMP_MIN, true, "4714-11-24 00:00:00+00 BC"),
            (TIMESTAMP_END - 1, false, "294276-12-31 23:59:59.999999"),
        ] {
            assert_eq!(text(|out| write_timestamp(micros, zoned, out)), wanted);
        }
    }

    #[test]
    fn intervals_have_their_text() {
        let interval = |months, days, micros| Interval::Finite { months, days, micros };
        for (value, wanted) in [
            (interval(0, 0, 0), "00:00:00"),
            (interval(14, 3, 14_706_789_000), "1 year 2 mons 3 days 04:05:06.789"),
            (interval(-1, 1, -1), "-1 mons +1 day -00:00:00.000001"),
            (interval(0, -1, 3_600_000_000), "-1 days +01:00:00"),
            (interval(-13, 0, 0), "-1 years -1 mons"),
            (Interval::NegInfinity, "-infinity"),
        ] {
            assert_eq!(text(|out| write_interval(value, out)), wanted);
        }
    }

    #[test]
    fn points_in_time_go_both_ways() {
        for micros in [0, -1, 1, TIMESTAMP_MIN, TIMESTAMP_END - 1, i64::MAX, i64::MIN] {
            assert_eq!(timestamp_micros(timestamp(micros)), Some(micros));
        }
        assert_eq!(timestamp_micros(Timestamp::Finite { seconds: i64::MAX, micros: 0 }), None);
        assert_eq!(timestamp_micros(Timestamp::Finite { seconds: 0, micros: 1_000_000 }), None);
    }
}
