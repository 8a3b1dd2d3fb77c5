//! Verifying: snapshots, and what sums are made of.

use super::{Dialect, Engine};

impl Dialect {
    /// Whether the binary form of a row can be hashed.
    pub fn hashes_records(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// A number of at most 60 bits from so many hexadecimal digits.
    pub fn number_of_digits(self, digits: &str) -> String {
        match self.engine {
            Engine::PostgreSql => {
                format!("('x0' || {digits})::pg_catalog.\"bit\"(64)::pg_catalog.int8")
            }
            Engine::CockroachDb => format!("('0x' || {digits})::INT8"),
        }
    }

    /// The snapshot that a transaction sees, as text that can be held against others; nothing where
    /// there is no such thing.
    pub fn current_snapshot(self) -> Option<&'static str> {
        match self.engine {
            Engine::PostgreSql => Some("SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text"),
            Engine::CockroachDb => None,
        }
    }

    /// Whether parallel workers and their like are a matter of settings.
    pub fn has_planner_settings(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }
}
