//! Statements that need a session of their own, as far as is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::place::Manner;

/// Statements that are remembered.
const STATEMENTS_MAX: usize = 512;
/// Times in a row that a statement must have been slow: once may be the machine's doing.
const STRIKES: u32 = 2;
/// Afterwards it is seen anew: tables shrink, and indexes are made.
const REMEMBERED: Duration = Duration::from_secs(30);

/// So long a statement that kept others waiting, or was kept waiting, is not merged.
const APART: Duration = Duration::from_secs(1);

/// What a statement turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Weight {
    /// Nobody had to wait for it.
    Light,
    /// It was moved from one piece with others: one of them is slow, or all of them together.
    Waited,
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
    apart_until: Option<Instant>,
}

// === impl Heavy ===

impl Heavy {
    /// Whether nothing is remembered of any statement.
    pub(super) fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// How a statement shares a session; nothing where it needs one of its own.
    pub(super) fn manner(&mut self, sql: &str) -> Option<Manner> {
        if self.is_empty() {
            return Some(Manner::Merged);
        }
        let now = Instant::now();
        match self.statements.get(sql) {
            Some(standing) if standing.until <= now => {
                self.statements.remove(sql);
                Some(Manner::Merged)
            }
            Some(standing) if standing.strikes >= STRIKES => None,
            Some(standing) if standing.apart_until.is_some_and(|until| until > now) => {
                Some(Manner::Apart)
            }
            _ => Some(Manner::Merged),
        }
    }

    /// Notes what a statement was that shared a session in this manner.
    pub(super) fn note(&mut self, sql: &Arc<str>, weight: Weight, manner: Manner) {
        let now = Instant::now();
        if weight == Weight::Light {
            // It shared a session, so it was a suspect at most.
            match self.statements.get_mut(sql) {
                // This says nothing of what it is in one piece with others.
                Some(standing) if manner == Manner::Apart && standing.apart_until.is_some() => {
                    standing.strikes = 0;
                }
                _ => drop(self.statements.remove(sql)),
            }
            return;
        }
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.retain(|_, standing| standing.until > now);
        }
        // Where all are fresh a newcomer is found out again each time.
        if self.statements.len() < STATEMENTS_MAX || self.statements.contains_key(sql) {
            let standing = self.statements.entry(Arc::clone(sql)).or_insert_with(|| Standing {
                strikes: 0,
                until: now,
                apart_until: None,
            });
            match weight {
                Weight::Waited => standing.apart_until = Some(now + APART),
                Weight::Long => standing.strikes = STRIKES,
                Weight::Slow | Weight::Light => standing.strikes += 1,
            }
            standing.until = now + REMEMBERED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MERGED: Option<Manner> = Some(Manner::Merged);

    #[test]
    fn slow_twice_in_a_row_or_long_once() {
        let (mut heavy, sql) = (Heavy::default(), Arc::from("SELECT 1"));
        heavy.note(&sql, Weight::Slow, Manner::Apart);
        heavy.note(&sql, Weight::Light, Manner::Apart);
        heavy.note(&sql, Weight::Slow, Manner::Apart);
        assert_eq!(heavy.manner(&sql), MERGED);
        heavy.note(&sql, Weight::Slow, Manner::Apart);
        assert_eq!(heavy.manner(&sql), None);
        let long = Arc::from("SELECT 2");
        heavy.note(&long, Weight::Long, Manner::Merged);
        assert_eq!((heavy.manner(&long), heavy.manner("SELECT 3")), (None, MERGED));
    }

    #[test]
    fn what_had_to_wait_in_one_piece_is_kept_apart_until_it_has_not() {
        let (mut heavy, sql) = (Heavy::default(), Arc::from("SELECT 1"));
        heavy.note(&sql, Weight::Waited, Manner::Merged);
        heavy.note(&sql, Weight::Light, Manner::Apart);
        assert_eq!(heavy.manner(&sql), Some(Manner::Apart));
        // Another one of the same went well meanwhile.
        heavy.note(&sql, Weight::Light, Manner::Merged);
        assert_eq!(heavy.manner(&sql), MERGED);
        assert!(heavy.is_empty());
    }

    #[test]
    fn it_stays_within_its_bound() {
        let mut heavy = Heavy::default();
        for number in 0..2 * STATEMENTS_MAX {
            heavy.note(&Arc::from(number.to_string()), Weight::Long, Manner::Merged);
        }
        assert_eq!(heavy.statements.len(), STATEMENTS_MAX);
    }
}
