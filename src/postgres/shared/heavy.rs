//! Statements that need a session of their own, as far as is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Statements that are remembered.
const STATEMENTS_MAX: usize = 512;
/// Times in a row that a statement must have been slow: once may be the machine's doing.
const STRIKES: u32 = 2;
/// Afterwards it is seen anew: tables shrink, and indexes are made.
const REMEMBERED: Duration = Duration::from_secs(30);

/// What a statement turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Weight {
    /// Nobody had to wait for it.
    Light,
    /// Others had to wait for it.
    Slow,
    /// Its answer has more than one batch.
    Long,
}

/// Statements that were slow, or whose answers were long.
#[derive(Debug, Default)]
pub(super) struct Heavy {
    statements: HashMap<Arc<str>, Standing>,
}

#[derive(Debug)]
struct Standing {
    strikes: u32,
    until: Instant,
}

// === impl Heavy ===

impl Heavy {
    /// Whether nothing is remembered of any statement.
    pub(super) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    pub(super) fn contains(&mut self, sql: &str) -> bool {
        if self.is_empty() {
            return false;
        }
        match self.statements.get(sql) {
            Some(standing) if standing.until > Instant::now() => standing.strikes >= STRIKES,
            Some(_) => {
                self.statements.remove(sql);
                false
            }
            None => false,
        }
    }

    pub(super) fn note(&mut self, sql: &Arc<str>, weight: Weight) {
        if weight == Weight::Light {
            // It shared a session, so it was a suspect at most.
            self.statements.remove(sql);
            return;
        }
        let now = Instant::now();
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.retain(|_, standing| standing.until > now);
        }
        // Where all are fresh a newcomer is found out again each time.
        if self.statements.len() < STATEMENTS_MAX || self.statements.contains_key(sql) {
            let standing = self
                .statements
                .entry(Arc::clone(sql))
                .or_insert_with(|| Standing { strikes: 0, until: now });
            standing.strikes = if weight == Weight::Long { STRIKES } else { standing.strikes + 1 };
            standing.until = now + REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_twice_in_a_row_or_long_once() {
        let (mut heavy, sql) = (Heavy::default(), Arc::from("SELECT 1"));
        heavy.note(&sql, Weight::Slow);
        heavy.note(&sql, Weight::Light);
        heavy.note(&sql, Weight::Slow);
        assert!(!heavy.contains(&sql));
        heavy.note(&sql, Weight::Slow);
        assert!(heavy.contains(&sql));
        let long = Arc::from("SELECT 2");
        heavy.note(&long, Weight::Long);
        assert!(heavy.contains(&long) && !heavy.contains("SELECT 3"));
    }

    #[test]
    fn it_stays_within_its_bound() {
        let mut heavy = Heavy::default();
        for number in 0..2 * STATEMENTS_MAX {
            heavy.note(&Arc::from(number.to_string()), Weight::Long);
        }
        assert_eq!(heavy.statements.len(), STATEMENTS_MAX);
    }
}
