//! Durations and sizes with their units.

use std::time::Duration;

const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

/// `5s`, `250ms`, `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text.parse::<f64>().is_ok() {
        return Err(format!("a duration needs a unit; write \"{text}s\" or \"{text}ms\""));
    }
    let wanted = "is not a duration; write it as \"250ms\", \"5s\", \"2m\" or \"24h\"";
    let parsed = humantime::parse_duration(text).map_err(|_| wanted.to_owned())?;
    if parsed.is_zero() { Err("must be above zero".to_owned()) } else { Ok(parsed) }
}

/// `64MiB`; a number alone is bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wanted = || "is not a size; write it as \"64KiB\", \"256MiB\" or \"1GiB\"".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(unit_at).ok_or_else(wanted)?;
    let unit = unit.trim();
    let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?;
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    match number.checked_mul(*factor) {
        Some(0) => Err("must be above zero".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err("is more than 2^64 bytes".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("5").unwrap_err().contains("write \"5s\""));
        assert!(duration("soon").is_err() && duration("0s").is_err() && duration("-1s").is_err());
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("1 GB"), Ok(1_000_000_000));
        assert_eq!(size("512"), Ok(512));
        assert!(size("0").is_err() && size("1XB").is_err() && size("").is_err());
        assert!(size("99999999999GiB").is_err() && size("1.5GiB").is_err());
    }
}
