//! What the role of callers' statements may do in segue's schema, where it is not segue's own.
//!
//! Which functions or tables these are is the dialect's (`dialect/callers.rs`).

use tokio_postgres::{Client, Error};

use super::error::SetupError;
use super::{Permission, SETUP_LOCK};
use crate::dialect::Dialect;
use crate::domain::side::Side;

/// Whether a role lacks some of it.
///
/// # Errors
///
/// Whatever the database says.
pub async fn callers_lack(client: &Client, role: &str, dialect: Dialect) -> Result<bool, Error> {
    let needed = dialect.needed_by_callers();
    let row = match needed.rights {
        None => client.query_one(needed.lacks, &[&role, &needed.things]).await?,
        Some(rights) => client.query_one(needed.lacks, &[&role, &needed.things, &rights]).await?,
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
    let dialect = super::dialect(client).await.map_err(&failed)?;
    if !callers_lack(client, role, dialect).await.map_err(&failed)? {
        return Ok(false);
    }
    let sql = dialect.for_callers(role);
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
    let granted = match dialect.has_advisory_locks() {
        // Two that grant at once would meet in one row of the catalogue.
        true => {
            format!("BEGIN; SELECT pg_catalog.pg_advisory_xact_lock({SETUP_LOCK}); {sql} COMMIT")
        }
        false => sql.clone(),
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
