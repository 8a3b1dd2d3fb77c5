//! Output for people: tables, numbers, times.

use std::io::{self, Write};
use std::time::SystemTime;

/// Writes to the standard output. A reader that has gone away (`| head`) is no fault.
pub(super) fn out(text: &str) {
    let mut stdout = io::stdout().lock();
    // Nothing sensible is left to do when the output cannot be written.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Entries of the next page of a list of which `limit` are shown; nothing where there are so many.
pub(super) fn left_of(limit: u32, shown: usize) -> Option<u32> {
    let shown = u32::try_from(shown).unwrap_or(u32::MAX);
    limit.checked_sub(shown).filter(|left| *left > 0)
}

/// Columns side by side, each as wide as its widest cell. A column of numbers is set right.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let head = heads.get(column).map_or(0, |head| head.chars().count());
        cells.chain([head]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let numeric: Vec<bool> = (0..heads.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).all(|cell| is_number(cell)))
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for ((cell, width), right) in cells.zip(&widths).zip(&numeric) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            line += &if *right { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut page = line(&mut heads.iter().copied());
    for row in rows {
        page += &line(&mut row.iter().map(String::as_str));
    }
    page
}

fn is_number(cell: &str) -> bool {
    let words = cell.contains(['-', ':', '…']) || cell.contains(", ");
    cell.starts_with(|c: char| c.is_ascii_digit()) && !words
}

/// `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `no samples`, `1 sample`, `1,234 samples`.
pub(super) fn counted(number: u64, thing: &str) -> String {
    match number {
        0 => format!("no {thing}s"),
        1 => format!("1 {thing}"),
        _ => format!("{} {thing}s", count(number)),
    }
}

/// `8.0 KiB`.
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = Some(next);
    }
    let digits = usize::from(number >= 1024);
    format!("{value:.digits$} {}", unit.unwrap_or(&""))
}

/// `0.8 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `2026-01-31T12:00:00Z`; a dash where there is no time.
pub(super) fn time(stamp: Option<prost_types::Timestamp>) -> String {
    let time = stamp.and_then(|stamp| SystemTime::try_from(stamp).ok());
    time.map_or_else(|| "-".to_owned(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

/// So much of a text as fits into `width`.
pub(super) fn clipped(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of at most `width` where the words allow it; the lines that there are stay.
pub(super) fn wrapped(text: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut now = String::new();
        for word in line.split(' ') {
            let long = now.chars().count() + 1 + word.chars().count() > width;
            if !now.is_empty() && long {
                lines.push(std::mem::take(&mut now));
            } else if !now.is_empty() {
                now.push(' ');
            }
            now += word;
        }
        lines.push(now);
    }
    lines.join("\n")
}

/// The text with each line moved in.
pub(super) fn indented(text: &str, by: usize) -> String {
    let margin = " ".repeat(by);
    text.lines().map(|line| format!("{margin}{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            (count(0), count(999), count(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!((counted(0, "key"), counted(1, "key")), ("no keys".into(), "1 key".into()));
        assert_eq!((bytes(512), bytes(8192)), ("512 B".into(), "8.0 KiB".into()));
        assert_eq!((seconds(0.84), seconds(200.0)), ("0.8 s".into(), "3 min 20 s".into()));
    }

    #[test]
    fn numbers_stand_right_and_words_left() {
        let rows =
            [vec!["a".to_owned(), "1,000".to_owned()], vec!["bcd".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["word", "count"], &rows), "word  count\na     1,000\nbcd       2\n");
    }
}
