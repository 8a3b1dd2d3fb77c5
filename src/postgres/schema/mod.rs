//! Segue's own schema, `segue`, on both sides: made by versioned migrations.

mod callers;
mod error;
mod grants;
mod migrations;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

use crate::dialect::Dialect;
use crate::domain::side::Side;

pub use callers::{admit_callers, callers_lack, not_admitted};
pub use error::SetupError;
pub use grants::{GrantParams, always_for, grants, membership};
use migrations::{FOUNDATION, MIGRATIONS, note};
pub use migrations::{OUTBOX_SLOTS, SLOT_SECONDS};

/// Holds off other sidecars that set up the same database: `segue` and a number.
pub(in crate::postgres) const SETUP_LOCK: i64 = 0x7365_6775_6500_0001;

/// The version that has `segue.outbox_state`.
pub(in crate::postgres) const OUTBOX_STATE_SINCE: i32 = 4;

/// The version that has `segue.retired_table`.
pub(in crate::postgres) const RETIRED_SINCE: i32 = 17;

/// The version that has `segue.identity`.
pub const IDENTITY_SINCE: i32 = 20;

/// Attempts where the server asks to try again, as CockroachDB does.
const ATTEMPTS_MAX: u32 = 5;

/// Whether the schema may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Bring it up to date.
    Change,
    /// Only look; an outdated schema is an error that says what to run.
    Look,
}

/// What [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// What the server speaks.
    pub dialect: Dialect,
    /// The version found, 0 for none.
    pub from: i32,
    /// The version that stands now.
    pub to: i32,
}

/// The version that this segue needs.
pub fn version_needed() -> i32 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// The whole schema as a script that is safe to run again.
pub fn script(side: Side, dialect: Dialect) -> String {
    format!("-- segue's schema on the {side}\nBEGIN;\n{}COMMIT;\n", statements(0, dialect))
}

fn statements(from: i32, dialect: Dialect) -> String {
    let mut sql = FOUNDATION.to_owned();
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > from) {
        sql.push_str(&migration.sql(dialect));
        sql.push_str(&note(migration.version));
    }
    sql
}

/// Brings segue's schema up to date, in one transaction.
///
/// If we crash here, the transaction is rolled back and the next start begins again. Two
/// sidecars that start at once wait for one another, and the second finds it done.
///
/// # Errors
///
/// [`SetupError`], with the SQL to run where privileges are missing.
pub async fn migrate(
    client: &mut Client,
    side: Side,
    permission: Permission,
) -> Result<Migrated, SetupError> {
    let mut attempt = 1;
    loop {
        match migrate_once(client, side, permission).await {
            Err(error) if attempt < ATTEMPTS_MAX && may_retry(&error) => attempt += 1,
            Err(SetupError::Database { source, .. })
                if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) =>
            {
                return Err(privilege(client, side, &source).await);
            }
            result => return result,
        }
    }
}

async fn migrate_once(
    client: &mut Client,
    side: Side,
    permission: Permission,
) -> Result<Migrated, SetupError> {
    let failed = SetupError::database(side);
    let dialect = dialect(client).await.map_err(&failed)?;
    let found = version(client).await.map_err(&failed)?;
    check_known(side, found)?;
    let needed = version_needed();
    if found == needed {
        return Ok(Migrated { dialect, from: found, to: found });
    }
    if permission == Permission::Look {
        let sql = script(side, dialect);
        return Err(SetupError::Outdated { side, found, needed, sql });
    }
    let transaction = client.transaction().await.map_err(&failed)?;
    if dialect.has_advisory_locks() {
        transaction
            .query_one("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[&SETUP_LOCK])
            .await
            .map_err(&failed)?;
    }
    // Read again under the lock: another sidecar may have been faster.
    let from = version(&transaction).await.map_err(&failed)?;
    check_known(side, from)?;
    if from < needed {
        let sql = if from == 0 && schema_exists(&transaction).await.map_err(&failed)? {
            // `CREATE SCHEMA IF NOT EXISTS` asks for the right to make one even where it is
            // there, and whoever made it for us may have kept that right to himself.
            statements(from, dialect).replacen("CREATE SCHEMA IF NOT EXISTS segue;\n", "", 1)
        } else {
            statements(from, dialect)
        };
        transaction.batch_execute(&sql).await.map_err(&failed)?;
    }
    transaction.commit().await.map_err(&failed)?;
    Ok(Migrated { dialect, from, to: needed })
}

fn check_known(side: Side, found: i32) -> Result<(), SetupError> {
    let known = version_needed();
    if found > known { Err(SetupError::Newer { side, found, known }) } else { Ok(()) }
}

/// What the server speaks, asked in a session that is not segue's own kind.
///
/// # Errors
///
/// Whatever the database says.
pub async fn dialect<C: GenericClient>(client: &C) -> Result<Dialect, tokio_postgres::Error> {
    let row = client.query_one("SELECT pg_catalog.version()", &[]).await?;
    Ok(Dialect::of_version(row.try_get(0)?))
}

/// The version of segue's schema, 0 where there is none.
///
/// # Errors
///
/// Whatever the database says.
pub async fn version<C: GenericClient>(client: &C) -> Result<i32, tokio_postgres::Error> {
    let exists = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_class AS c
                JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = 'segue' AND c.relname = 'schema_version')",
            &[],
        )
        .await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let row = client
        .query_one(
            "SELECT coalesce(pg_catalog.max(version), 0)::int4 FROM segue.schema_version",
            &[],
        )
        .await?;
    row.try_get(0)
}

async fn schema_exists<C: GenericClient>(client: &C) -> Result<bool, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'segue')",
            &[],
        )
        .await?;
    row.try_get(0)
}

/// Serialization failures, a lock that another sidecar has for longer than it should, and the collisions of `IF NOT EXISTS` with a concurrent start
/// where no advisory lock holds it off.
fn may_retry(error: &SetupError) -> bool {
    let retryable = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_OBJECT,
    ];
    error.sqlstate().is_some_and(|state| retryable.contains(state))
}

async fn privilege(client: &Client, side: Side, source: &tokio_postgres::Error) -> SetupError {
    let row = client
        .query_one(
            "SELECT current_user::text,
                EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'segue')",
            &[],
        )
        .await;
    let found = row.and_then(|row| Ok((row.try_get::<_, String>(0)?, row.try_get::<_, bool>(1)?)));
    let (role, exists) = match found {
        Ok(found) => found,
        Err(source) => return SetupError::Database { side, source },
    };
    let sql = if exists { grants::owner_for(&role) } else { grants::schema_for(&role) };
    let message =
        source.as_db_error().map_or_else(|| source.to_string(), |e| e.message().to_owned());
    SetupError::Privilege { side, role, action: "make segue's schema".to_owned(), message, sql }
}
