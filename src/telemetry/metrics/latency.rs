//! A histogram of durations that can be read, merged and exported.
//!
//! Log-linear, as in HDR histograms: every power of two of microseconds is cut into
//! `STEPS` equal parts, so that a quantile is off by at most one part in `STEPS` whatever
//! its size. All histograms have the same buckets: those of a fleet can be added up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Parts of a power of two.
const STEPS: usize = 16;
/// `log2(STEPS)`.
const STEPS_LOG2: u32 = 4;
/// Durations of 2^28 µs (268 s) and above share the last bucket.
const POWERS: usize = 28;
const BUCKETS: usize = (POWERS - STEPS_LOG2 as usize) * STEPS + STEPS;

/// Counts durations. Observing takes two relaxed additions and no lock. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Latency {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// The counts of one or more [`Latency`] at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyCounts {
    buckets: Vec<u64>,
    sum_us: u64,
}

// === impl Latency ===

impl Default for Latency {
    fn default() -> Self {
        let buckets = [const { AtomicU64::new(0) }; BUCKETS];
        Self { inner: Arc::new(Inner { buckets, sum_us: AtomicU64::new(0) }) }
    }
}

impl Latency {
    /// Counts one duration.
    pub fn observe(&self, elapsed: Duration) {
        let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.inner.buckets.get(bucket_of(us)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The counts so far.
    pub fn counts(&self) -> LatencyCounts {
        let buckets = self.inner.buckets.iter();
        LatencyCounts {
            buckets: buckets.map(|bucket| bucket.load(Ordering::Relaxed)).collect(),
            sum_us: self.inner.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.counts();
        encoder.encode_histogram::<NoLabelSet>(
            counts.sum_us as f64 / 1e6,
            counts.total(),
            &counts.by_power_of_two(),
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

// === impl LatencyCounts ===

impl Default for LatencyCounts {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], sum_us: 0 }
    }
}

impl LatencyCounts {
    /// How many durations were counted.
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum_us += other.sum_us;
    }

    /// What was counted since `earlier`, the counts of the same histogram at an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            buckets: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum_us: self.sum_us.saturating_sub(earlier.sum_us),
        }
    }

    /// The buckets that something was counted in, each with its count.
    pub fn filled(&self) -> Vec<(usize, u64)> {
        let counts = self.buckets.iter().copied().enumerate();
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Adds counts by bucket, as [`LatencyCounts::filled`] gives them. What lies beyond the
    /// last bucket belongs to it. The sum of the durations is not known from them.
    pub fn add(&mut self, filled: &[(usize, u64)]) {
        for (bucket, count) in filled {
            if let Some(mine) = self.buckets.get_mut((*bucket).min(BUCKETS - 1)) {
                *mine = mine.saturating_add(*count);
            }
        }
    }

    /// The duration that a share `quantile` (0 to 1) of the calls did not exceed, in
    /// milliseconds: the upper edge of its bucket, so never too good. 0 where nothing was counted.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let total = self.total();
        if total == 0 {
            return 0.0;
        }
        let rank = ((total as f64 * quantile.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_edge_us(index) as f64 / 1e3;
            }
        }
        upper_edge_us(BUCKETS - 1) as f64 / 1e3
    }

    /// Upper edges in seconds and counts, one bucket a power of two from 64 µs: fine enough for
    /// a dashboard, and a twentieth of the series.
    fn by_power_of_two(&self) -> Vec<(f64, u64)> {
        const FIRST_POWER: u32 = 6;
        let mut edges = Vec::with_capacity(POWERS);
        let mut index = 0;
        for power in FIRST_POWER..POWERS as u32 {
            let end = bucket_of(1 << power);
            let count = self.buckets.get(index..end).unwrap_or_default().iter().sum();
            edges.push(((1_u64 << power) as f64 / 1e6, count));
            index = end;
        }
        let rest = self.buckets.get(index..).unwrap_or_default().iter().sum();
        edges.push((f64::INFINITY, rest));
        edges
    }
}

/// Below `STEPS` each microsecond has a bucket; from there each power of two has `STEPS`.
fn bucket_of(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let power = us.ilog2();
    let step = (us >> (power - STEPS_LOG2)) as usize - STEPS;
    ((power - STEPS_LOG2) as usize * STEPS + STEPS + step).min(BUCKETS - 1)
}

fn upper_edge_us(index: usize) -> u64 {
    if index < STEPS {
        return index as u64 + 1;
    }
    let power = (index - STEPS) / STEPS;
    let step = (index - STEPS) % STEPS;
    ((STEPS + step + 1) as u64) << power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_just_below_its_edge() {
        for us in (0..5_000).chain((5_000..200_000_000).step_by(77_777)) {
            let edge = upper_edge_us(bucket_of(us));
            assert!(edge > us, "{us} in {edge}");
            assert!(edge <= us + us / STEPS as u64 + 1, "{us} in {edge}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_near_and_never_too_good() {
        let latency = Latency::default();
        for ms in 1..=1000 {
            latency.observe(Duration::from_millis(ms));
        }
        let counts = latency.counts();
        for (quantile, exact) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let estimate = counts.quantile_ms(quantile);
            assert!(estimate >= exact && estimate <= exact * 1.07, "{quantile}: {estimate}");
        }
        assert_eq!(LatencyCounts::default().quantile_ms(0.5), 0.0);
    }

    #[test]
    fn merging_adds_and_since_takes_away() {
        let (one, other) = (Latency::default(), Latency::default());
        one.observe(Duration::from_micros(10));
        other.observe(Duration::from_millis(10));
        let mut merged = one.counts();
        merged.merge(&other.counts());
        assert_eq!(merged.total(), 2);
        assert_eq!(merged.since(&other.counts()), one.counts());
    }
}
