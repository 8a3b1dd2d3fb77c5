//! Statements that need a session of their own, as far as is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Statements that are remembered.
const STATEMENTS_MAX: usize = 512;
/// Afterwards it is seen anew: tables shrink, and indexes are made.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Statements that were slow, or whose answers were long, and until when that is believed.
#[derive(Debug, Default)]
pub(super) struct Heavy {
    until: HashMap<Arc<str>, Instant>,
}

// === impl Heavy ===

impl Heavy {
    pub(super) fn contains(&mut self, sql: &str) -> bool {
        if self.until.is_empty() {
            return false;
        }
        match self.until.get(sql) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                self.until.remove(sql);
                false
            }
            None => false,
        }
    }

    pub(super) fn insert(&mut self, sql: &Arc<str>) {
        let now = Instant::now();
        if self.until.len() >= STATEMENTS_MAX {
            self.until.retain(|_, until| *until > now);
        }
        // Where all are fresh the newcomer is found out again each time.
        if self.until.len() < STATEMENTS_MAX {
            self.until.insert(Arc::clone(sql), now + REMEMBERED);
        }
    }
}
