//! How long a failed key waits.

use std::time::Duration;

/// Exponential backoff with jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(250), max: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The wait after so many failed attempts (from 1). `unit` is a random number from 0 to
    /// 1: half of the wait is fixed, so that nothing spins, and half is spread, so that
    /// members do not come back together.
    pub fn wait(&self, attempts: u32, unit: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1_u32 << doublings).min(self.max);
        full.mul_f64(0.5 + unit.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
        let waits: Vec<_> = (1..=6).map(|n| backoff.wait(n, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.wait(u32::MAX, 1.0), Duration::from_secs(10));
    }

    #[test]
    fn at_most_half_of_a_wait_is_chance() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
        assert_eq!(backoff.wait(1, 0.0), Duration::from_millis(500));
        assert_eq!(backoff.wait(1, 7.0), Duration::from_secs(1));
    }
}
