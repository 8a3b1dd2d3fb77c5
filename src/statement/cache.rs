//! Analyses kept for statements that come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::fault::SqlFault;
use crate::statement::{Analysis, analyse};

/// Longer texts are analysed each time: they are rarely the same twice, and few of them
/// would fill the memory meant for many.
const SQL_BYTES_MAX: usize = 32 * 1024;

type Kept = HashMap<Arc<str>, Result<Arc<Analysis>, SqlFault>>;

/// A bounded cache of analyses, for many threads. What was not asked for during the last
/// half of its capacity goes first.
#[derive(Debug)]
pub struct Cache {
    half: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: Kept,
    old: Kept,
}

// === impl Cache ===

impl Cache {
    /// A cache of at most `capacity` statements.
    pub fn new(capacity: usize) -> Self {
        Self { half: capacity.div_ceil(2).max(1), generations: Mutex::default() }
    }

    /// The analysis of a statement, made now where it is not kept.
    ///
    /// # Errors
    ///
    /// As [`analyse`].
    pub fn get(&self, sql: &str) -> Result<Arc<Analysis>, SqlFault> {
        if sql.len() > SQL_BYTES_MAX {
            return analyse(sql).map(Arc::new);
        }
        if let Some(kept) = self.kept(sql) {
            return kept;
        }
        // Made outside the lock: a second thread with the same text does the same work once.
        let made = analyse(sql).map(Arc::new);
        self.keep(sql.into(), made.clone());
        made
    }

    /// Statements kept now.
    pub fn len(&self) -> usize {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.len() + generations.old.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn kept(&self, sql: &str) -> Option<Result<Arc<Analysis>, SqlFault>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = generations.young.get(sql) {
            return Some(kept.clone());
        }
        let (text, kept) = generations.old.remove_entry(sql)?;
        self.insert(&mut generations, text, kept.clone());
        Some(kept)
    }

    fn keep(&self, sql: Arc<str>, made: Result<Arc<Analysis>, SqlFault>) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        self.insert(&mut generations, sql, made);
    }

    fn insert(
        &self,
        generations: &mut Generations,
        sql: Arc<str>,
        made: Result<Arc<Analysis>, SqlFault>,
    ) {
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(sql, made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        let first = cache.get("SELECT 0").unwrap();
        for i in 1..100 {
            cache.get(&format!("SELECT {i}")).unwrap();
            assert!(Arc::ptr_eq(&first, &cache.get("SELECT 0").unwrap()), "lost at {i}");
            assert!(cache.len() <= 10);
        }
    }

    #[test]
    fn faults_are_kept_too() {
        let cache = Cache::new(10);
        assert_eq!(cache.get("SELEC 1").unwrap_err(), cache.get("SELEC 1").unwrap_err());
        assert_eq!(cache.len(), 1);
    }
}
