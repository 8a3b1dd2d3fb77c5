//! How fast the backfill may go: ceilings, and slowing down for the sake of others.
//!
//! Pure: time is handed in, as time since the start.

use std::collections::VecDeque;
use std::time::Duration;

/// A ceiling on an amount per second. More may pass at once than a second allows; what follows
/// waits for it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBucket {
    per_s: f64,
    level: f64,
    at: Duration,
}

/// What passes at once without a wait, in seconds of the rate.
const BURST_S: f64 = 0.25;

// === impl TokenBucket ===

impl TokenBucket {
    /// A ceiling; `None` or zero is none.
    pub fn new(per_s: Option<f64>) -> Self {
        let per_s = per_s.filter(|rate| *rate > 0.0).unwrap_or(f64::INFINITY);
        Self { per_s, level: per_s * BURST_S, at: Duration::ZERO }
    }

    /// Lets an amount pass, and answers how long to wait before the next.
    pub fn take(&mut self, amount: f64, now: Duration) -> Duration {
        if self.per_s.is_infinite() {
            return Duration::ZERO;
        }
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.level = (self.level + since * self.per_s).min(self.per_s * BURST_S) - amount;
        Duration::from_secs_f64((-self.level / self.per_s).max(0.0))
    }
}

/// Where slowing down begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Time of a small statement on the source.
    pub source_latency: Duration,
    /// Age of the oldest key that is due and not yet reconciled.
    pub outbox_age: Duration,
    /// Time of a small commit on the target.
    pub target_latency: Duration,
}

/// One look at both sides. `None` is not known, and slows nothing down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// As in [`ThrottleLimits`].
    pub source_latency: Option<Duration>,
    /// As in [`ThrottleLimits`].
    pub outbox_age: Option<Duration>,
    /// As in [`ThrottleLimits`].
    pub target_latency: Option<Duration>,
}

/// What passed its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The source is slow.
    SourceLatency,
    /// Reconcile does not keep up.
    OutboxAge,
    /// The target is slow.
    TargetLatency,
}

impl Cause {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SourceLatency => "the source's latency",
            Self::OutboxAge => "the outbox's age",
            Self::TargetLatency => "the target's latency",
        }
    }
}

/// What a look changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// A limit was passed.
    Slower {
        /// Which.
        cause: Cause,
        /// What was seen.
        seen: Duration,
        /// The limit.
        limit: Duration,
        /// The share of the time that is worked from now on.
        share: f64,
    },
    /// All limits have been kept for a while.
    Faster {
        /// The share of the time that is worked from now on; 1 is full speed.
        share: f64,
    },
}

/// Halves the share of the time that is worked while a limit is passed, and brings it back
/// slowly when all are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Throttle {
    limits: ThrottleLimits,
    source: VecDeque<Duration>,
    target: VecDeque<Duration>,
    share: f64,
    cause: Option<Cause>,
    calm: u32,
    since_change: u32,
}

/// Looks whose median counts: one slow answer is no trend.
const LOOKS: usize = 5;
/// Looks between two steps down, so that each has time to show.
const LOOKS_DOWN: u32 = 3;
/// Calm looks before a step up.
const LOOKS_UP: u32 = 5;
const STEP_UP: f64 = 1.5;
/// The copy never stops for good: some share of the time is always worked.
const SHARE_MIN: f64 = 1.0 / 64.0;

// === impl Throttle ===

impl Throttle {
    /// At full speed.
    pub fn new(limits: ThrottleLimits) -> Self {
        Self {
            limits,
            source: VecDeque::new(),
            target: VecDeque::new(),
            share: 1.0,
            cause: None,
            calm: 0,
            since_change: LOOKS_DOWN,
        }
    }

    /// The share of the time that is worked, above 0 and at most 1.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// What slowed it down, while it is slower.
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// How long to rest after so long a piece of work.
    pub fn rest(&self, worked: Duration) -> Duration {
        worked.mul_f64(1.0 / self.share - 1.0)
    }

    /// Takes one look into account.
    pub fn see(&mut self, look: Look) -> Option<Change> {
        remember(&mut self.source, look.source_latency);
        remember(&mut self.target, look.target_latency);
        self.since_change = self.since_change.saturating_add(1);
        let seen = [
            (Cause::OutboxAge, look.outbox_age, self.limits.outbox_age),
            (Cause::SourceLatency, median(&self.source), self.limits.source_latency),
            (Cause::TargetLatency, median(&self.target), self.limits.target_latency),
        ];
        let passed = seen
            .into_iter()
            .find_map(|(cause, seen, limit)| Some((cause, seen.filter(|it| *it > limit)?, limit)));
        if let Some((cause, seen, limit)) = passed {
            self.calm = 0;
            if self.since_change < LOOKS_DOWN || self.share <= SHARE_MIN {
                return None;
            }
            self.since_change = 0;
            self.cause = Some(cause);
            self.share = (self.share / 2.0).max(SHARE_MIN);
            return Some(Change::Slower { cause, seen, limit, share: self.share });
        }
        self.calm = self.calm.saturating_add(1);
        if self.share >= 1.0 || self.calm < LOOKS_UP {
            return None;
        }
        self.calm = 0;
        self.share = (self.share * STEP_UP).min(1.0);
        if self.share >= 1.0 {
            self.cause = None;
        }
        Some(Change::Faster { share: self.share })
    }
}

fn remember(looks: &mut VecDeque<Duration>, look: Option<Duration>) {
    looks.extend(look);
    while looks.len() > LOOKS {
        looks.pop_front();
    }
}

fn median(looks: &VecDeque<Duration>) -> Option<Duration> {
    let mut sorted: Vec<Duration> = looks.iter().copied().collect();
    sorted.sort_unstable();
    // Of a few looks the faster one: a connection that was just opened says nothing.
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn the_rate_is_kept_over_any_time_longer_than_the_burst() {
        let mut bucket = TokenBucket::new(Some(1000.0));
        let mut now = Duration::ZERO;
        let mut passed = 0.0;
        for amount in [10.0, 700.0, 1.0, 90.0, 2500.0, 400.0, 3.0].repeat(20) {
            now += bucket.take(amount, now);
            passed += amount;
        }
        let rate = passed / now.as_secs_f64();
        assert!((990.0..=1010.0).contains(&rate), "{rate} a second");
        assert_eq!(TokenBucket::new(None).take(1e12, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn what_was_not_used_does_not_add_up() {
        let mut bucket = TokenBucket::new(Some(100.0));
        let after_an_hour = Duration::from_secs(3600);
        assert_eq!(bucket.take(25.0, after_an_hour), Duration::ZERO);
        assert_eq!(bucket.take(100.0, after_an_hour), Duration::from_secs(1));
    }

    fn throttle() -> Throttle {
        Throttle::new(ThrottleLimits {
            source_latency: MS(100),
            outbox_age: MS(30_000),
            target_latency: MS(500),
        })
    }

    fn look(source: u64, age: u64, target: u64) -> Look {
        Look {
            source_latency: Some(MS(source)),
            outbox_age: Some(MS(age)),
            target_latency: Some(MS(target)),
        }
    }

    #[test]
    fn each_limit_slows_it_down_and_calm_brings_it_back() {
        for (bad, cause) in [
            (look(200, 0, 1), Cause::SourceLatency),
            (look(1, 31_000, 1), Cause::OutboxAge),
            (look(1, 0, 900), Cause::TargetLatency),
        ] {
            let mut throttle = throttle();
            let first = throttle.see(bad);
            assert!(
                matches!(first, Some(Change::Slower { cause: found, .. }) if found == cause),
                "{first:?}"
            );
            for _ in 0..100 {
                throttle.see(bad);
            }
            assert_eq!(throttle.share(), SHARE_MIN);
            assert_eq!(throttle.rest(MS(100)), MS(6300));
            for _ in 0..100 {
                throttle.see(look(1, 0, 1));
            }
            assert_eq!((throttle.share(), throttle.cause()), (1.0, None));
            assert_eq!(throttle.rest(MS(100)), Duration::ZERO);
        }
    }

    #[test]
    fn one_slow_answer_is_no_trend() {
        let mut throttle = throttle();
        for _ in 0..4 {
            assert_eq!(throttle.see(look(1, 0, 1)), None);
        }
        assert_eq!(throttle.see(look(5_000, 0, 5_000)), None);
        assert_eq!(throttle.see(Look::default()), None);
        assert_eq!(throttle.share(), 1.0);
    }
}
