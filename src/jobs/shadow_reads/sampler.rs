//! Which reads are sampled.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rates of sampling.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Share of the reads, 0 to 1.
    pub rate: f64,
    /// Rates of statements by their name or fingerprint, in place of `rate`.
    pub by_statement: HashMap<String, f64>,
}

/// Decides by trace, so that either all reads of a trace are sampled or none.
pub(super) struct Sampler {
    rate_bits: AtomicU64,
    by_statement: HashMap<String, f64>,
    random: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler")
            .field("rate", &self.rate())
            .field("by_statement", &self.by_statement)
            .finish_non_exhaustive()
    }
}

impl Sampler {
    pub(super) fn new(params: &SamplingParams, random: Box<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            rate_bits: AtomicU64::new(params.rate.to_bits()),
            by_statement: params.by_statement.clone(),
            random,
        }
    }

    pub(super) fn rate(&self) -> f64 {
        f64::from_bits(self.rate_bits.load(Ordering::Relaxed))
    }

    /// Sets the rate and gives the previous one.
    pub(super) fn set_rate(&self, rate: f64) -> f64 {
        f64::from_bits(self.rate_bits.swap(rate.to_bits(), Ordering::Relaxed))
    }

    /// Whether a read is sampled. `fingerprint` is asked for only where a rate may hang on it.
    pub(super) fn selects(
        &self,
        name: Option<&str>,
        fingerprint: impl FnOnce() -> Option<String>,
        trace_id: Option<u128>,
    ) -> bool {
        let rate = self.own_rate(name, fingerprint).unwrap_or_else(|| self.rate());
        if rate <= 0.0 {
            return false;
        }
        if rate >= 1.0 {
            return true;
        }
        // The W3C asks for randomness in the low bits of a trace id.
        #[allow(clippy::cast_possible_truncation)]
        let dice = trace_id.map_or_else(|| (self.random)(), |id| id as u64);
        // 53 bits are what a float holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let position = (dice & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64;
        position < rate
    }

    fn own_rate(
        &self,
        name: Option<&str>,
        fingerprint: impl FnOnce() -> Option<String>,
    ) -> Option<f64> {
        if self.by_statement.is_empty() {
            return None;
        }
        let by_name = name.and_then(|name| self.by_statement.get(name));
        let found = by_name.or_else(|| self.by_statement.get(&fingerprint()?));
        found.copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown() -> Option<String> {
        None
    }

    fn sampler(rate: f64) -> Sampler {
        let params = SamplingParams {
            rate,
            by_statement: [("always".to_owned(), 1.0), ("ab12".to_owned(), 1.0)].into(),
        };
        Sampler::new(&params, Box::new(|| u64::MAX))
    }

    #[test]
    fn a_trace_is_sampled_whole() {
        let sampler = sampler(0.5);
        let low = 1_u128;
        let high = u128::from(u64::MAX);
        for _ in 0..10 {
            assert!(sampler.selects(None, unknown, Some(low)));
            assert!(!sampler.selects(None, unknown, Some(high)));
        }
    }

    #[test]
    fn a_statement_may_have_its_own_rate() {
        let sampler = sampler(0.0);
        assert!(sampler.selects(Some("always"), unknown, Some(u128::MAX)));
        assert!(!sampler.selects(Some("other"), unknown, Some(0)));
        assert!(sampler.selects(Some("other"), || Some("ab12".to_owned()), Some(u128::MAX)));
        assert!(!sampler.selects(None, || Some("cd34".to_owned()), Some(0)));
    }

    #[test]
    fn the_rate_can_be_changed_while_running() {
        let sampler = sampler(0.25);
        assert!((sampler.set_rate(1.0) - 0.25).abs() < f64::EPSILON);
        assert!(sampler.selects(None, unknown, None));
    }

    #[test]
    fn the_share_is_the_rate() {
        let sampler = sampler(0.1);
        let step = (1_u128 << 53) / 10_000;
        let chosen = (0..10_000).filter(|i| sampler.selects(None, unknown, Some(step * i))).count();
        assert_eq!(chosen, 1_000 + usize::from(chosen > 1_000));
    }
}
