//! Capture: how writes are noted, and what it cannot see.

use super::{Dialect, Engine};

/// Capture's triggers by the functions that they call.
const TRIGGERS: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.array_agg(t.tgname::text)
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace AND s.nspname = 'segue'
JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE t.tgparentid = 0 AND pg_catalog.starts_with(p.proname::text, $1) GROUP BY 1, 2, 3";
/// The same where triggers have no parents.
const TRIGGERS_OF_COCKROACH: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.array_agg(t.tgname::text)
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace AND s.nspname = 'segue'
JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE pg_catalog.left(p.proname::text, pg_catalog.length($1::text)) = $1::text GROUP BY 1, 2, 3";

impl Dialect {
    /// Whether capture's trigger fires for each row, rather than once for a statement with tables
    /// of what it changed.
    pub fn captures_by_row(self) -> bool {
        match self.engine {
            Engine::PostgreSql => false,
            Engine::CockroachDb => true,
        }
    }

    /// Whether capture's functions can be replaced by ones that do nothing, at once and without a
    /// lock on a table. Otherwise they look at the phase by themselves.
    pub fn captures_until_switched_off(self) -> bool {
        !self.captures_by_row()
    }

    /// Whether a `TRUNCATE` can be captured. On CockroachDB it changes the schema: no trigger sees
    /// it, and it commits what is open, ordered against no flip.
    pub fn captures_truncate(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether it can be the source of a migration: capture there must be switched off at once.
    pub fn can_be_source(self) -> bool {
        self.captures_until_switched_off()
    }

    /// Whether the side that follows notes what others write there, rather than refusing it; and
    /// whether statistics give away what capture did not see.
    pub fn notes_foreign_writes(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Capture's triggers whose functions' names begin so ($1), with the tables that they are of.
    pub fn triggers_of_capture(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => TRIGGERS,
            Engine::CockroachDb => TRIGGERS_OF_COCKROACH,
        }
    }
}
