//! How long what is written waits for its reconcile.

use std::time::{Duration, Instant, SystemTime};

/// The key that has waited longest; the default where none waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// When it was written, by the clock of the primary's server.
    pub since: Option<SystemTime>,
    /// How long ago that is.
    pub age: Duration,
}

/// The same over many looks, by the clock of this process: that of a server may be set while keys
/// wait, and then they are neither as old nor as young as it says.
#[derive(Debug, Default)]
pub struct Lag {
    last: Option<(Instant, Waiting)>,
}

// === impl Lag ===

impl Lag {
    /// Notes a look, and answers what it is worth: the same key is older by the time between the two
    /// looks, and another one by no more than that.
    pub fn seen(&mut self, at: Instant, waiting: Waiting) -> Waiting {
        let age = match self.last {
            None => waiting.age,
            Some((before, last)) => {
                let most = last.age + at.saturating_duration_since(before);
                let is_same = waiting.since.is_some() && waiting.since == last.since;
                if is_same { most } else { waiting.age.min(most) }
            }
        };
        let waiting = Waiting { age, ..waiting };
        self.last = Some((at, waiting));
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn written(at: Duration, age: Duration) -> Waiting {
        Waiting { since: Some(SystemTime::UNIX_EPOCH + at), age }
    }

    #[test]
    fn a_clock_that_is_set_makes_no_key_older_or_younger() {
        let begun = Instant::now();
        let mut lag = Lag::default();
        assert_eq!(lag.seen(begun, Waiting::default()).age, Duration::ZERO);
        let key = |age| written(HOUR, age);
        assert_eq!(lag.seen(begun + SECOND, key(SECOND / 2)).age, SECOND / 2);
        // Forward by an hour, and back by two.
        assert_eq!(lag.seen(begun + SECOND * 2, key(HOUR)).age, SECOND * 3 / 2);
        assert_eq!(lag.seen(begun + SECOND * 3, key(Duration::ZERO)).age, SECOND * 5 / 2);
        // Another that was written before the clock was set.
        let other = written(HOUR + SECOND, HOUR);
        assert_eq!(lag.seen(begun + SECOND * 4, other).age, SECOND * 7 / 2);
        assert_eq!(lag.seen(begun + SECOND * 5, Waiting::default()).age, Duration::ZERO);
    }

    #[test]
    fn the_first_look_goes_by_the_server() {
        assert_eq!(Lag::default().seen(Instant::now(), written(HOUR, HOUR)).age, HOUR);
    }
}
