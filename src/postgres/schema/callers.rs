//! What the role of callers' statements may do in segue's schema, where it is not segue's own.
//!
//! On PostgreSQL it may call a few functions, which run as segue's role, and touch no table. On
//! CockroachDB, whose trigger functions run as whoever fires them, it needs the tables that capture
//! and the fence go by.

use tokio_postgres::{Client, Error};

use super::error::SetupError;
use super::migrations::Flavour;
use super::{Permission, SETUP_LOCK};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::Side;
use crate::domain::table::quote_identifier;

/// `insufficient_privilege`.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// The reason of a fault: the role of callers' statements lacks what `segue init` grants.
pub const NOT_ADMITTED: &str = "refused.not_admitted";

/// The functions that sessions of callers call, see `callers.sql` and `whose.sql`.
const CALLED: [&str; 7] = [
    "segue.control_state()",
    "segue.take_key(text, bytea)",
    "segue.keep_answer(text, bytea)",
    "segue.find_answer(text, bytea)",
    "segue.is_noted(uuid)",
    "segue.has_crashed_since(numeric)",
    "segue.whose()",
];

/// The tables that they use on CockroachDB, each with one right.
const USED: [(&str, &str); 7] = [
    ("segue.control", "SELECT"),
    ("segue.outbox", "SELECT"),
    ("segue.outbox", "INSERT"),
    ("segue.idempotency", "SELECT"),
    ("segue.idempotency", "INSERT"),
    ("segue.idempotency", "UPDATE"),
    ("segue.identity", "SELECT"),
];

const LACKS_FUNCTIONS: &str = "\
    SELECT NOT pg_catalog.has_schema_privilege($1, 'segue', 'USAGE') OR EXISTS ( \
        SELECT FROM pg_catalog.unnest($2::text[]) AS f(name) \
        WHERE NOT coalesce(pg_catalog.has_function_privilege( \
            $1, pg_catalog.to_regprocedure(f.name)::pg_catalog.oid, 'EXECUTE'), false))";
const LACKS_TABLES: &str = "\
    SELECT NOT pg_catalog.has_schema_privilege($1, 'segue', 'USAGE') OR EXISTS ( \
        SELECT 1 FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) \
            AS t(name, privilege) \
        WHERE NOT pg_catalog.has_table_privilege($1, t.name, t.privilege))";

/// What a role of callers has on segue's tables on CockroachDB: `outbox INSERT`.
pub fn used_by_callers() -> impl Iterator<Item = String> {
    USED.into_iter().map(|(table, right)| format!("{} {right}", table.trim_start_matches("segue.")))
}

/// Statements that give a role what callers' sessions ask of segue's schema, and nothing else.
/// Segue's role may run them, which owns the schema.
pub fn for_callers(role: &str, flavour: Flavour) -> String {
    let role = quote_identifier(role);
    let mut sql = format!("GRANT USAGE ON SCHEMA segue TO {role};\n");
    match flavour {
        Flavour::PostgreSql => {
            let called = CALLED.join(", ");
            sql.push_str(&format!("GRANT EXECUTE ON FUNCTION {called} TO {role};\n"));
        }
        Flavour::CockroachDb => {
            for (table, right) in USED {
                sql.push_str(&format!("GRANT {right} ON TABLE {table} TO {role};\n"));
            }
            sql.push_str(&format!(
                "GRANT EXECUTE ON FUNCTION segue.refuse_write(text) TO {role};\n"
            ));
        }
    }
    sql
}

/// Whether a role lacks some of it.
///
/// # Errors
///
/// Whatever the database says.
pub async fn callers_lack(client: &Client, role: &str, flavour: Flavour) -> Result<bool, Error> {
    let row = match flavour {
        Flavour::PostgreSql => {
            client.query_one(LACKS_FUNCTIONS, &[&role, &CALLED.as_slice()]).await?
        }
        Flavour::CockroachDb => {
            let (tables, rights): (Vec<_>, Vec<_>) = USED.into_iter().unzip();
            client.query_one(LACKS_TABLES, &[&role, &tables, &rights]).await?
        }
    };
    row.try_get(0)
}

/// Sees to it that a role has it; whether something had to be granted.
///
/// If we crash here, it was granted as a whole or not at all, and the next start looks again.
///
/// # Errors
///
/// [`SetupError::Privilege`] with the statements, where it may not be granted here.
pub async fn admit_callers(
    client: &Client,
    side: Side,
    role: &str,
    permission: Permission,
) -> Result<bool, SetupError> {
    let failed = SetupError::database(side);
    let flavour = super::flavour(client).await.map_err(&failed)?;
    if !callers_lack(client, role, flavour).await.map_err(&failed)? {
        return Ok(false);
    }
    let sql = for_callers(role, flavour);
    let refused = |message: String, sql: String| SetupError::Privilege {
        side,
        role: role.to_owned(),
        action: "call segue's functions, as callers' sessions must".to_owned(),
        message,
        sql,
    };
    if permission == Permission::Look {
        return Err(refused("it has not been granted".to_owned(), sql));
    }
    let granted = match flavour {
        // Two that grant at once would meet in one row of the catalogue.
        Flavour::PostgreSql => {
            format!("BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({SETUP_LOCK}); {sql} COMMIT")
        }
        Flavour::CockroachDb => sql.clone(),
    };
    match client.batch_execute(&granted).await {
        Ok(()) => Ok(true),
        Err(error) => {
            // Nothing is left open in a session that goes back to its pool.
            let _ = client.batch_execute("ROLLBACK").await;
            match error.as_db_error() {
                Some(db) => Err(refused(db.message().to_owned(), sql)),
                None => Err(failed(error)),
            }
        }
    }
}

/// A fault of something of segue's own in a session of callers, whose role lacks the right to it.
pub fn not_admitted(fault: SqlFault) -> SqlFault {
    if fault.sqlstate != INSUFFICIENT_PRIVILEGE {
        return fault;
    }
    let hint = "the role of callers' statements may not call segue's functions: run `segue init`";
    SqlFault { kind: FaultKind::Precondition, reason: NOT_ADMITTED, hint: hint.to_owned(), ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_get_functions_on_postgresql_and_never_the_copies_token() {
        let sql = for_callers("a \"b\"", Flavour::PostgreSql);
        assert!(sql.contains("GRANT USAGE ON SCHEMA segue TO \"a \"\"b\"\"\";"), "{sql}");
        assert!(!sql.contains("ON TABLE"), "{sql}");
        let made = [include_str!("callers.sql"), include_str!("whose.sql")].concat();
        for name in CALLED {
            let bare = name.trim_start_matches("segue.").split('(').next().unwrap_or_default();
            assert!(made.contains(&format!("FUNCTION segue.{bare}(")), "{name}");
        }
        let there = for_callers("app", Flavour::CockroachDb);
        assert!(there.contains("GRANT INSERT ON TABLE segue.outbox TO \"app\""), "{there}");
        assert!(!there.contains("copy_token"), "{there}");
    }
}
