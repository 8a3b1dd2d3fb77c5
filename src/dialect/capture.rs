//! Capture: how writes are noted, and what it cannot see.

use super::{Dialect, Engine};
use crate::domain::table::quote_identifier;

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

/// Roles that log in, may write to one of these tables ($1), and may not do what capture's trigger
/// does as whoever fires it.
const WRITERS_WITHOUT_CAPTURE: &str = "
SELECT r.rolname::text FROM pg_catalog.pg_roles AS r
WHERE r.rolcanlogin AND NOT r.rolsuper AND EXISTS (
        SELECT 1 FROM pg_catalog.pg_class AS c WHERE c.oid = ANY ($1)
            AND (pg_catalog.has_table_privilege(r.rolname, c.oid, 'INSERT')
                OR pg_catalog.has_table_privilege(r.rolname, c.oid, 'UPDATE')
                OR pg_catalog.has_table_privilege(r.rolname, c.oid, 'DELETE')))
    AND NOT (pg_catalog.has_schema_privilege(r.rolname, 'segue', 'USAGE')
        AND pg_catalog.has_table_privilege(r.rolname, 'segue.control', 'SELECT')
        AND pg_catalog.has_table_privilege(r.rolname, 'segue.outbox', 'INSERT'))
ORDER BY 1";

impl Dialect {
    /// Which roles' own writes would fail in capture's trigger. Nothing where triggers run as
    /// segue's role: CockroachDB ignores `SECURITY DEFINER` of a trigger's function (issue 172407).
    pub fn writers_without_capture(self) -> Option<&'static str> {
        match self.engine {
            Engine::PostgreSql => None,
            Engine::CockroachDb => Some(WRITERS_WITHOUT_CAPTURE),
        }
    }

    /// Statements that let a role fire capture's triggers: the role can add keys to the outbox then,
    /// which costs a look at equal rows, and take none away.
    pub fn grants_for_capture(self, role: &str) -> Vec<String> {
        let role = quote_identifier(role);
        match self.engine {
            Engine::PostgreSql => Vec::new(),
            Engine::CockroachDb => vec![
                format!("GRANT USAGE ON SCHEMA segue TO {role}"),
                format!("GRANT SELECT ON TABLE segue.control TO {role}"),
                format!("GRANT INSERT ON TABLE segue.outbox TO {role}"),
            ],
        }
    }

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
