//! Measured times as people read them.

use std::time::Duration;

const SECOND: f64 = 1.0;
const MINUTE_S: f64 = 60.0;
const HOUR_S: f64 = 3600.0;
/// From here on so many seconds are told in minutes, and so many minutes in hours.
const OF_THE_SMALLER: f64 = 2.0;

/// A measured time with two digits in the unit that fits: `60 ms`, `1.5 ms`, `4 min`. The exact
/// one is for machines.
pub fn rounded(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let (value, unit) = match seconds {
        // What rounds up to the next unit belongs there.
        _ if seconds < 0.000_999_5 => (seconds * 1e6, "µs"),
        _ if seconds < 0.995 * SECOND => (seconds * 1e3, "ms"),
        _ if seconds < OF_THE_SMALLER * MINUTE_S => (seconds, "s"),
        _ if seconds < OF_THE_SMALLER * HOUR_S => (seconds / MINUTE_S, "min"),
        _ => (seconds / HOUR_S, "h"),
    };
    if value < 9.95 {
        let told = format!("{value:.1}");
        return format!("{} {unit}", told.strip_suffix(".0").unwrap_or(&told));
    }
    // 59.9 becomes 60, and 207 becomes 210.
    let step = if value < 99.5 { 1.0 } else { 10.0 };
    format!("{:.0} {unit}", (value / step).round() * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_time_is_told_with_two_digits() {
        for (nanos, told) in [
            (0, "0 µs"),
            (850_000, "850 µs"),
            (999_900, "1 ms"),
            (1_471_578, "1.5 ms"),
            (9_960_000, "10 ms"),
            (59_863_120, "60 ms"),
            (207_700_000, "210 ms"),
            (994_000_000, "990 ms"),
            (996_000_000, "1 s"),
            (1_019_400_000, "1 s"),
            (5_000_000_000, "5 s"),
            (119_000_000_000, "120 s"),
            (150_000_000_000, "2.5 min"),
            (10_800_000_000_000, "3 h"),
        ] {
            assert_eq!(rounded(Duration::from_nanos(nanos)), told, "{nanos} ns");
        }
    }
}
