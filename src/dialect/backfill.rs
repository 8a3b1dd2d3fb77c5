//! The backfill: how rows go in, and how a target is emptied before.

use super::{Dialect, Engine};

impl Dialect {
    /// Whether rows can go in by `COPY`. CockroachDB refuses it in the extended protocol, and
    /// changes bytea and jsonb by the simple one.
    pub fn takes_copy(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Empties tables, children last, in the transaction that is open.
    pub fn empty(self, tables: &[String]) -> String {
        match self.engine {
            Engine::PostgreSql => format!("TRUNCATE {}; ", tables.join(", ")),
            // A TRUNCATE commits what is open, and is ordered against no flip.
            Engine::CockroachDb => {
                tables.iter().rev().map(|table| format!("DELETE FROM {table}; ")).collect()
            }
        }
    }
}
