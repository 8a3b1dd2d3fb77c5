//! What sessions of callers ask of segue's schema, and what their role needs for it.
//!
//! On PostgreSQL they call functions that run as segue's role, and touch no table. On CockroachDB,
//! whose trigger functions run as whoever fires them, their role has the tables that capture and
//! the fence go by.

use super::{Dialect, Engine};
use crate::domain::table::quote_identifier;

/// The functions that sessions of callers call, see `postgresql/callers.sql` and `postgresql/whose.sql`.
const CALLED: [&str; 7] = [
    "segue.control_state()",
    "segue.take_key(text, bytea)",
    "segue.keep_answer(text, bytea)",
    "segue.find_answer(text, bytea)",
    "segue.is_noted(uuid)",
    "segue.has_crashed_since(numeric)",
    "segue.whose()",
];

/// The tables that they use on CockroachDB.
const USED: [&str; 7] = [
    "segue.control",
    "segue.outbox",
    "segue.outbox",
    "segue.idempotency",
    "segue.idempotency",
    "segue.idempotency",
    "segue.identity",
];
/// What they do to each.
const USED_AS: [&str; 7] = ["SELECT", "SELECT", "INSERT", "SELECT", "INSERT", "UPDATE", "SELECT"];

const LACKS_FUNCTIONS: &str = "\
    SELECT NOT pg_catalog.has_schema_privilege($1::text, 'segue', 'USAGE') OR EXISTS ( \
        SELECT FROM pg_catalog.unnest($2::text[]) AS f(name) \
        WHERE NOT coalesce(pg_catalog.has_function_privilege( \
            $1::text, pg_catalog.to_regprocedure(f.name)::pg_catalog.oid, 'EXECUTE'), false))";
const LACKS_TABLES: &str = "\
    SELECT NOT pg_catalog.has_schema_privilege($1::text, 'segue', 'USAGE') OR EXISTS ( \
        SELECT 1 FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) \
            AS t(name, privilege) \
        WHERE NOT pg_catalog.has_table_privilege($1::text, t.name, t.privilege))";

/// Behind the settings of a session, in the same round trip: a function that sessions of callers may
/// call as well.
const WHOSE: &str = "; SELECT w.migration_id::text, w.own_id::text, w.generation::text, w.place, \
    w.system, w.database FROM segue.whose() AS w";
/// There places are compared when it is joined.
const WHOSE_COCKROACH: &str = "; SELECT i.migration_id::text, i.own_id::text, i.generation::text, \
    i.place, ''::text, ''::text FROM segue.identity AS i WHERE i.id = 1";

/// By functions that run as segue's role: that of callers may not look at the outbox, nor at the
/// server's processes.
const IN_OUTBOX: &str = "SELECT segue.is_noted($1::text::uuid)";
const IN_OUTBOX_COCKROACH: &str = "SELECT EXISTS (SELECT 1 FROM segue.outbox \
     WHERE write_id = $1::text::uuid \
     AND created_at > pg_catalog.clock_timestamp() - interval '10 minutes')";

/// Functions that run as segue's role: that of callers has no right on the table. On CockroachDB it
/// has, for capture's sake.
const TAKE: &str = "SELECT segue.take_key($1, $2)";
const TAKE_COCKROACH: &str = "INSERT INTO segue.idempotency (key, content, created_at) \
     VALUES ($1, $2, pg_catalog.clock_timestamp())";
const KEEP: &str = "SELECT segue.keep_answer($1, $2)";
const KEEP_COCKROACH: &str = "UPDATE segue.idempotency SET response = $2 WHERE key = $1";
const FIND: &str = "SELECT is_same, answer FROM segue.find_answer($1, $2)";
const FIND_COCKROACH: &str = "SELECT content = $2, response FROM segue.idempotency WHERE key = $1";

/// Asked as segue's role: a member of the role that logs in sees its sessions and may end them; and
/// whether callers' role may become segue's.
const BETWEEN: &str = "\
    SELECT pg_catalog.pg_has_role($2::text::name, current_user, 'MEMBER'), \
        pg_catalog.pg_has_role(r.oid, 'USAGE') OR NOT r.rolsuper \
        AND pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') \
        AND pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') \
    FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1";
/// Nobody can end a session of CockroachDB, and none need be.
const BETWEEN_COCKROACH: &str = "\
    SELECT pg_catalog.pg_has_role($2::text::name, current_user, 'MEMBER'), $1::text IS NOT NULL";

/// What a role of callers is asked for: these things, each with a right where it is a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needed {
    /// A question of a role ($1), of things ($2) and where it has a $3 of rights. It answers
    /// whether the role lacks one.
    pub lacks: &'static str,
    /// Functions with their arguments, or tables.
    pub things: &'static [&'static str],
    /// A right for each table; none for functions.
    pub rights: Option<&'static [&'static str]>,
}

impl Dialect {
    /// What sessions of callers need in segue's schema.
    pub fn needed_by_callers(self) -> Needed {
        match self.engine {
            Engine::PostgreSql => Needed { lacks: LACKS_FUNCTIONS, things: &CALLED, rights: None },
            Engine::CockroachDb => {
                Needed { lacks: LACKS_TABLES, things: &USED, rights: Some(&USED_AS) }
            }
        }
    }

    /// What a role of callers has on segue's tables by that: `outbox INSERT`.
    pub fn used_by_callers(self) -> Vec<String> {
        let needed = self.needed_by_callers();
        let rights = needed.rights.unwrap_or_default().iter();
        let pairs = needed.things.iter().zip(rights);
        pairs
            .map(|(table, right)| format!("{} {right}", table.trim_start_matches("segue.")))
            .collect()
    }

    /// Statements that give a role what callers' sessions ask of segue's schema, and nothing else.
    /// Segue's role may run them, which owns the schema.
    pub fn for_callers(self, role: &str) -> String {
        let role = quote_identifier(role);
        let needed = self.needed_by_callers();
        let mut sql = format!("GRANT USAGE ON SCHEMA segue TO {role};\n");
        match needed.rights {
            None => {
                let called = needed.things.join(", ");
                sql.push_str(&format!("GRANT EXECUTE ON FUNCTION {called} TO {role};\n"));
            }
            Some(rights) => {
                for (table, right) in needed.things.iter().zip(rights) {
                    sql.push_str(&format!("GRANT {right} ON TABLE {table} TO {role};\n"));
                }
                let refusing = "GRANT EXECUTE ON FUNCTION segue.refuse_write(text)";
                sql.push_str(&format!("{refusing} TO {role};\n"));
            }
        }
        sql
    }

    /// Whether segue's schema has what callers need.
    pub fn is_set_up_for_callers(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => {
                "SELECT pg_catalog.to_regclass('segue.outbox') IS NOT NULL \
                    AND pg_catalog.to_regproc('segue.control_state') IS NOT NULL"
            }
            Engine::CockroachDb => "SELECT pg_catalog.to_regclass('segue.outbox') IS NOT NULL",
        }
    }

    /// What is between segue's role, which asks, and callers' login ($1) and role ($2).
    pub fn between_roles(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => BETWEEN,
            Engine::CockroachDb => BETWEEN_COCKROACH,
        }
    }

    /// Behind the settings of a new session: whose database it is.
    pub fn and_whose(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => WHOSE,
            Engine::CockroachDb => WHOSE_COCKROACH,
        }
    }

    /// Whether the outbox has rows of a write ($1).
    pub fn is_in_outbox(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => IN_OUTBOX,
            Engine::CockroachDb => IN_OUTBOX_COCKROACH,
        }
    }

    /// Takes an idempotency key ($1) for a content ($2); a duplicate is an error.
    pub fn take_key(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => TAKE,
            Engine::CockroachDb => TAKE_COCKROACH,
        }
    }

    /// Keeps an answer ($2) with its key ($1).
    pub fn keep_answer(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => KEEP,
            Engine::CockroachDb => KEEP_COCKROACH,
        }
    }

    /// Whether a key ($1) was taken for this content ($2), and the answer kept with it.
    pub fn find_answer(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => FIND,
            Engine::CockroachDb => FIND_COCKROACH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_get_functions_on_postgresql_and_never_the_copies_token() {
        let sql = Dialect::POSTGRESQL.for_callers("a \"b\"");
        assert!(sql.contains("GRANT USAGE ON SCHEMA segue TO \"a \"\"b\"\"\";"), "{sql}");
        assert!(!sql.contains("ON TABLE"), "{sql}");
        let made = [include_str!("postgresql/callers.sql"), include_str!("postgresql/whose.sql")];
        let made = made.concat();
        for name in CALLED {
            let bare = name.trim_start_matches("segue.").split('(').next().unwrap_or_default();
            assert!(made.contains(&format!("FUNCTION segue.{bare}(")), "{name}");
        }
        let there = Dialect::COCKROACHDB.for_callers("app");
        assert!(there.contains("GRANT INSERT ON TABLE segue.outbox TO \"app\""), "{there}");
        assert!(!there.contains("copy_token"), "{there}");
        let used = Dialect::COCKROACHDB.used_by_callers();
        assert!(used.contains(&"outbox INSERT".to_owned()), "{used:?}");
    }
}
