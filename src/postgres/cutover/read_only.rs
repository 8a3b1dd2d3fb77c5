//! Roles of applications, made read-only on a database that is the primary no more.
//!
//! The capture trigger refuses their writes to migrated tables in any case; this refuses all
//! their writes, tells them early, and ends the sessions in which they believe otherwise. A role
//! can take the setting back for its own session; it cannot get past the trigger.

use std::time::SystemTime;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::table::quote_identifier;
use crate::postgres::session::Session;

/// Whether a role exists, has the setting in this database, can be ended, and is segue's own.
const ROLE: &str = "\
    SELECT coalesce((SELECT true FROM pg_catalog.pg_db_role_setting AS s \
            JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase \
            WHERE s.setrole = r.oid AND d.datname = pg_catalog.current_database() \
            AND 'default_transaction_read_only=on' = ANY (s.setconfig)), false), \
        pg_catalog.pg_has_role(r.oid, 'USAGE') \
            OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE') AND NOT r.rolsuper, \
        r.rolname = SESSION_USER, pg_catalog.current_database()::text \
    FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1";

/// Sessions of these roles that began before a moment.
const END: &str = "\
    SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
    WHERE datname = pg_catalog.current_database() AND usename = ANY ($1) \
        AND pid <> pg_catalog.pg_backend_pid() \
        AND backend_start < coalesce($2, pg_catalog.clock_timestamp())";

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// Roles that were changed.
    pub roles: u64,
    /// Sessions that were ended.
    pub ended: u64,
}

struct Role {
    read_only: bool,
    may_end: bool,
    is_own: bool,
    database: String,
}

/// Tries the change and takes it back, so that what is missing is known before it is needed.
///
/// # Errors
///
/// `refused.role` with what is missing, or what the database reports.
pub async fn check(session: &Session, roles: &[String]) -> Result<(), SqlFault> {
    for name in roles {
        let role = look(session, name).await?;
        if role.is_own {
            let message = format!("segue connects as {name} itself, and must go on writing");
            return Err(refused(session, message)
                .with_hint("give segue a role of its own, or take this one off the list"));
        }
        if !role.may_end {
            let message = format!("segue may not end sessions of the role {name}");
            return Err(refused(session, message).with_hint("GRANT pg_signal_backend to it"));
        }
        let change = statement(name, &role.database, true);
        session.set_busy(true);
        let tried = session.repeatable().batch_execute(&format!("BEGIN; {change}")).await;
        session.repeatable().batch_execute("ROLLBACK").await?;
        session.set_busy(false);
        if let Err(fault) = tried {
            let message = format!("the role {name} cannot be made read-only: {}", fault.message);
            return Err(refused(session, message)
                .with_hint("segue's role needs CREATEROLE, and ADMIN OPTION on this one"));
        }
    }
    Ok(())
}

/// Makes the roles read-only in this database and ends their sessions, or takes that back. What
/// is so already stays, but for sessions that are older than `since`.
///
/// # Errors
///
/// What the database reports; it may be done again.
pub async fn apply(
    session: &Session,
    roles: &[String],
    wanted: bool,
    since: SystemTime,
) -> Result<Made, SqlFault> {
    let mut made = Made::default();
    for name in roles {
        let role = look(session, name).await?;
        if role.read_only != wanted {
            let change = statement(name, &role.database, wanted);
            session.batch_execute(&change).await?;
            made.roles += 1;
        }
    }
    if !wanted || roles.is_empty() {
        return Ok(made);
    }
    // Sessions that began before the roles were changed have the old default.
    let until = (made.roles == 0).then_some(since);
    let end = session.prepared(END).await?;
    let row = session.repeatable().query_one(&end.statement, &[&roles, &until]).await;
    made.ended = row?.try_get::<_, i64>(0)?.unsigned_abs();
    Ok(made)
}

async fn look(session: &Session, name: &str) -> Result<Role, SqlFault> {
    let prepared = session.prepared(ROLE).await?;
    let row = session.repeatable().query_opt(&prepared.statement, &[&name]).await;
    let Some(row) = row? else {
        let message = format!("there is no role {name} on the {}", session.side());
        return Err(refused(session, message).with_hint("see cutover.read_only_roles"));
    };
    Ok(Role {
        read_only: row.try_get(0)?,
        may_end: row.try_get(1)?,
        is_own: row.try_get(2)?,
        database: row.try_get(3)?,
    })
}

fn statement(role: &str, database: &str, read_only: bool) -> String {
    let (role, database) = (quote_identifier(role), quote_identifier(database));
    let change = if read_only { "SET" } else { "RESET" };
    let value = if read_only { " TO on" } else { "" };
    format!(
        "ALTER ROLE {role} IN DATABASE {database} {change} default_transaction_read_only{value}"
    )
}

fn refused(session: &Session, message: String) -> SqlFault {
    SqlFault::new(FaultKind::Precondition, Reason::RefusedRole, message).on(session.side())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_and_the_setting_is_taken_back_as_a_whole() {
        assert_eq!(
            statement("App \"x\"", "shop", true),
            "ALTER ROLE \"App \"\"x\"\"\" IN DATABASE \"shop\" \
             SET default_transaction_read_only TO on"
        );
        assert_eq!(
            statement("app", "shop", false),
            "ALTER ROLE \"app\" IN DATABASE \"shop\" RESET default_transaction_read_only"
        );
    }
}
