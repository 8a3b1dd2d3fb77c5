//! The statements that a session has prepared.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Statement;

use crate::domain::pg_type::{Column, PgType};

/// A statement as the server prepared it, with its types in segue's words.
#[derive(Debug)]
pub struct Prepared {
    /// The driver's handle.
    pub statement: Statement,
    /// Types of `$1`, `$2`, ….
    pub parameters: Vec<Arc<PgType>>,
    /// The result's columns.
    pub columns: Arc<[Column]>,
}

/// Statements kept prepared in one session.
const STATEMENTS_MAX: usize = 256;

/// Prepared statements, the least recently used of which make room.
#[derive(Debug, Default)]
pub(super) struct StatementCache {
    entries: HashMap<Arc<str>, (Arc<Prepared>, u64)>,
    uses: u64,
}

impl StatementCache {
    pub(super) fn get(&mut self, sql: &str) -> Option<Arc<Prepared>> {
        self.uses += 1;
        let (prepared, used) = self.entries.get_mut(sql)?;
        *used = self.uses;
        Some(Arc::clone(prepared))
    }

    /// Keeps none of them.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn insert(&mut self, sql: &str, prepared: &Arc<Prepared>) {
        if self.entries.len() >= STATEMENTS_MAX && !self.entries.contains_key(sql) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(key) = oldest.map(|(key, _)| Arc::clone(key)) {
                self.entries.remove(&key);
            }
        }
        self.entries.insert(sql.into(), (Arc::clone(prepared), self.uses));
    }
}
