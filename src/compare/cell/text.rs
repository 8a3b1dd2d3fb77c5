//! Texts, and values that one of the sides has as text.

use crate::compare::cell::time::reaches;
use crate::compare::cell::{CellVerdict, ColumnPair};
use crate::value::{Datum, Decimal, parse_json};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Fewest and most digits of a second that a text is believed to have been cut to.
const DIGITS: std::ops::Range<u32> = 3..6;

pub(super) fn judge(pair: &ColumnPair, one: &Datum, other: &Datum) -> CellVerdict {
    use Datum as D;
    match (one, other) {
        (D::Text(a), D::Text(b)) if a == b => CellVerdict::Equal,
        (D::Text(a), D::Text(b)) => {
            // A stored text that looks like a time is a text all the same.
            CellVerdict::by("timestamp_text", !pair.stored && same_instant(a, b))
        }
        (D::PaddedText(a), D::PaddedText(b) | D::Text(b)) | (D::Text(b), D::PaddedText(a)) => {
            if a == b {
                return CellVerdict::Equal;
            }
            let padding = |text: &str| text.trim_end_matches(' ').len();
            let same = a.get(..padding(a)) == b.get(..padding(b));
            CellVerdict::by("char_padding", same)
        }
        (D::Label(a), D::Text(b)) | (D::Text(a), D::Label(b)) => {
            CellVerdict::by("enum_label", a == b)
        }
        (D::Json(json), D::Text(text)) | (D::Text(text), D::Json(json)) => {
            CellVerdict::by("json_text", parse_json(text).as_ref() == Some(json))
        }
        (D::Uuid(uuid), D::Text(text)) | (D::Text(text), D::Uuid(uuid)) => {
            let read = uuid::Uuid::try_parse(text).map(|read| read.as_u128());
            CellVerdict::by("uuid_text", read == Ok(*uuid))
        }
        (D::Other { text: a, .. }, D::Text(b)) | (D::Text(a), D::Other { text: b, .. }) => {
            CellVerdict::by("type_as_text", a == b)
        }
        (D::Timestamp(a), D::TimestampTz(b)) | (D::TimestampTz(a), D::Timestamp(b)) => {
            // Both in UTC, as the sessions that segue compares by.
            match crate::compare::cell::time::timestamps(pair, *a, *b) {
                CellVerdict::Equal => CellVerdict::Normalized("timestamp_zone"),
                verdict => verdict,
            }
        }
        _ => CellVerdict::Different,
    }
}

/// Whether two texts spell the same point in time, one of them perhaps cut to fewer digits.
fn same_instant(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (instant(one), instant(other)) else {
        return false;
    };
    one.zoned == other.zoned
        && (one.micros == other.micros
            || DIGITS.into_iter().any(|digits| {
                reaches(one.micros, other.micros, digits)
                    || reaches(other.micros, one.micros, digits)
            }))
}

/// A point in time out of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant {
    /// Microseconds since 1970.
    micros: i64,
    /// Whether the text names a zone.
    zoned: bool,
}

/// Reads `2024-01-02 03:04:05.678+00`, also with `T` and `Z`; `None` for anything else.
pub(super) fn instant(text: &str) -> Option<Instant> {
    let (date, rest) = text.split_at_checked(10)?;
    let time = rest.strip_prefix([' ', 'T'])?;
    let mut parts = date.splitn(3, '-');
    let (year, month, day) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let zone_at = time.find(['+', '-', 'Z']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.splitn(3, ':');
    let (hour, minute, second) =
        (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if fraction.len() > 6 || month == 0 || month > 12 || day == 0 || day > 31 {
        return None;
    }
    let micros = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<6}"), 6)? };
    let seconds =
        days_since_1970(year, month, day) * SECONDS_PER_DAY + (hour * 60 + minute) * 60 + second
            - zone_seconds(zone)?;
    Some(Instant { micros: seconds * MICROS_PER_SECOND + micros, zoned: !zone.is_empty() })
}

fn number(text: &str, width: usize) -> Option<i64> {
    let digits = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// `+02`, `-05:30`, `+0530` or `Z`, in seconds east of Greenwich.
fn zone_seconds(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let (sign, rest) = zone.split_at_checked(1)?;
    let digits: String = rest.chars().filter(|letter| *letter != ':').collect();
    let seconds = match digits.len() {
        2 => number(&digits, 2)? * 3600,
        4 => number(digits.get(..2)?, 2)? * 3600 + number(digits.get(2..)?, 2)? * 60,
        _ => return None,
    };
    Some(if sign == "-" { -seconds } else { seconds })
}

/// Days of the proleptic Gregorian calendar, by counting years from March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    const DAYS_BEFORE_1970: i64 = 719_468;
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - DAYS_BEFORE_1970
}

/// Whether two different texts are one JSON document.
pub(crate) fn equal_as_json(one: &str, other: &str) -> bool {
    let is_document = |text: &str| text.starts_with(['{', '[']);
    is_document(one)
        && is_document(other)
        && matches!((parse_json(one), parse_json(other)), (Some(a), Some(b)) if a == b)
}

/// Whether two different texts are one number.
pub(crate) fn equal_as_numbers(one: &str, other: &str) -> bool {
    matches!((Decimal::parse(one), Decimal::parse(other)), (Some(a), Some(b)) if a == b)
}
