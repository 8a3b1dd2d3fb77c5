//! How old a proof may be, and when it is renewed. Pure.

use std::time::Duration;

use crate::domain::gate::told;
use crate::domain::history::Figures;
use crate::domain::pattern::{TablePattern, narrowest};
use crate::domain::status::TableProven;
use crate::domain::table::TableName;

/// The earliest and the latest share of its age at which a chunk is read again, where nobody
/// wrote to it. At half the age there is as much time left for a sweep that is slow.
const EARLIEST: f64 = 0.25;
const LATEST: f64 = 0.5;
/// From this share on a chunk is read before anything else.
const URGENT: f64 = 0.75;
/// Tables in the record of a cutover.
const RECORDED_MAX: usize = 200;
/// Multiples of the golden ratio, less their whole part, spread evenly however many are taken.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// How old the proofs may be that a gate goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofAges {
    /// Of every table for which nothing else is said.
    pub max: Duration,
    /// Of some tables.
    pub of: Vec<(TablePattern, Duration)>,
}

// === impl ProofAges ===

impl ProofAges {
    /// How old the proof of a chunk of the table may be; by its name on the source.
    pub fn max_of(&self, table: &TableName) -> Duration {
        narrowest(&self.of, table).copied().unwrap_or(self.max)
    }
}

/// When a chunk that was proven is read again by a sweep: between a quarter and half of the age
/// at which its proof is too old, each chunk at another moment. Chunks that were proven together
/// are not read together.
pub fn renewed_after(age_max: Duration, chunk: i64) -> Duration {
    let spread = (chunk.unsigned_abs() as f64 * GOLDEN).fract();
    age_max.mul_f64(EARLIEST + (LATEST - EARLIEST) * spread)
}

/// Whether so old a proof is renewed before chunks that were written since theirs.
pub fn is_urgent(age_max: Duration, age: Duration) -> bool {
    age >= age_max.mul_f64(URGENT)
}

/// Which table was proven when, added to the record of a cutover: those with the oldest proofs, where
/// there are too many.
pub fn record(mut figures: Figures, proofs: &[TableProven]) -> Figures {
    let proven = |it: &TableProven| {
        let TableProven { chunks, proven, oldest_age_s, rows_under_fence, .. } = it;
        let age = Duration::try_from_secs_f64(*oldest_age_s).unwrap_or_default();
        let whole = rows_under_fence.map(|rows| format!("; all its {rows} rows under the fence"));
        let whole = whole.unwrap_or_default();
        match it.oldest {
            None => format!("never proven{whole}"),
            Some(_) => {
                let oldest = told(age);
                format!("{proven} of {chunks} chunks proven, the oldest {oldest} before{whole}")
            }
        }
    };
    for it in proofs.iter().take(RECORDED_MAX) {
        figures = figures.text(&format!("proof of {}", it.table), proven(it));
    }
    match proofs.len().saturating_sub(RECORDED_MAX) {
        0 => figures,
        more => figures.count("tables_proven_later", more as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_table_may_have_an_age_of_its_own() {
        let audit = TableName::new("public", "audit");
        let ages = ProofAges { max: DAY, of: vec![(TablePattern::Table(audit.clone()), DAY * 7)] };
        assert_eq!(ages.max_of(&audit), DAY * 7);
        assert_eq!(ages.max_of(&TableName::new("public", "orders")), DAY);
    }

    #[test]
    fn proofs_are_renewed_in_time_and_not_all_at_once() {
        let mut after: Vec<Duration> = (0..1000).map(|chunk| renewed_after(DAY, chunk)).collect();
        assert!(after.iter().all(|it| (DAY / 4..=DAY / 2).contains(it)));
        // In no hour of the six more than a little over a sixth.
        after.sort();
        for hour in 0..6 {
            let begin = DAY / 4 + DAY / 24 * hour;
            let within = after.iter().filter(|it| (begin..begin + DAY / 24).contains(it)).count();
            assert!((150..=180).contains(&within), "hour {hour}: {within}");
        }
        assert!(!is_urgent(DAY, DAY / 2) && is_urgent(DAY, DAY / 10 * 9));
    }
}
