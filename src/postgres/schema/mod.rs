//! Segue's own schema, `segue`, on both sides: made by versioned migrations.

mod callers;
mod error;
mod grants;
mod migrations;

use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::{Client, GenericClient, Transaction};

use crate::dialect::Dialect;
use crate::domain::side::Side;
use migrations::{FOUNDATION, MIGRATIONS, note};

use crate::domain::sqlstate;
use crate::postgres::session::fault::sqlstate_of;
pub use callers::{admit_callers, callers_lack};
pub use error::SetupError;
pub use grants::{GrantParams, always_for, grants, membership};
pub use migrations::{OUTBOX_SLOTS, SLOT_SECONDS};

/// Holds off other sidecars that set up the same database: `segue` and a number.
pub(in crate::postgres) const SETUP_LOCK: i64 = 0x7365_6775_6500_0001;

/// The version that has `segue.outbox_state`.
pub(in crate::postgres) const OUTBOX_STATE_SINCE: i32 = 4;

/// The version that has `segue.retired_table`.
pub(in crate::postgres) const RETIRED_SINCE: i32 = 17;

/// The version that has `segue.identity`.
pub const IDENTITY_SINCE: i32 = 20;

/// For a lock on one of segue's tables at the first attempt: writers queue behind who waits for it.
/// Twice as long at each later attempt, and never longer than half the server's `deadlock_timeout`,
/// after which a caller's write may be chosen to give way.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);
/// How long it is tried again where a lock is not to be had or the server asks for it, as
/// CockroachDB does.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before the second attempt; twice as long before each later one, and never longer than
/// [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

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
/// Writers go on meanwhile: a table that one of them is at is waited for for a moment, then all of
/// it is rolled back, and tried again a little later.
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
    let (begun, mut pause, mut lock) = (Instant::now(), PAUSE, LOCK_TIMEOUT);
    loop {
        match migrate_once(client, side, permission, lock).await {
            Err(error) if begun.elapsed() < PATIENCE && may_retry(&error) => {
                sleep(rand::random_range(pause / 2..=pause)).await;
                pause = (pause * 2).min(PAUSE_MAX);
                lock = (lock * 2).min(PATIENCE);
            }
            Err(SetupError::Database { source, .. })
                if sqlstate_of(&source) == sqlstate::INSUFFICIENT_PRIVILEGE =>
            {
                return Err(privilege(client, side, &source).await);
            }
            Err(SetupError::Database { source, .. })
                if sqlstate_of(&source) == sqlstate::LOCK_NOT_AVAILABLE =>
            {
                let waited_ms = begun.elapsed().as_millis();
                let holders = holders(client, side, None).await?;
                return Err(SetupError::InUse { side, waited_ms, holders });
            }
            result => return result,
        }
    }
}

async fn migrate_once(
    client: &mut Client,
    side: Side,
    permission: Permission,
    lock: Duration,
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
        if dialect.has_advisory_locks() {
            give_way(&transaction, lock).await.map_err(&failed)?;
        }
        transaction.batch_execute(&sql).await.map_err(&failed)?;
    }
    transaction.commit().await.map_err(&failed)?;
    Ok(Migrated { dialect, from, to: needed })
}

/// Has a lock given up on in time, wherever one is waited for.
async fn give_way(
    transaction: &Transaction<'_>,
    wait: Duration,
) -> Result<(), tokio_postgres::Error> {
    let limit = format!(
        "SELECT pg_catalog.set_config('lock_timeout', \
            greatest(1, least({}, setting::int8 / 2))::text, true) \
         FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout'",
        wait.as_millis()
    );
    transaction.batch_execute(&limit).await
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
        sqlstate::SERIALIZATION_FAILURE,
        sqlstate::DEADLOCK_DETECTED,
        sqlstate::LOCK_NOT_AVAILABLE,
        sqlstate::UNIQUE_VIOLATION,
        sqlstate::DUPLICATE_TABLE,
        sqlstate::DUPLICATE_SCHEMA,
        sqlstate::DUPLICATE_OBJECT,
    ];
    retryable.contains(&error.sqlstate())
}

/// Who changes a table, or any of segue's where none is given: processes and what they do.
///
/// # Errors
///
/// What the database says.
pub(in crate::postgres) async fn holders(
    client: &Client,
    side: Side,
    table: Option<u32>,
) -> Result<String, SetupError> {
    let row = client
        .query_one(
            "SELECT coalesce(pg_catalog.string_agg(CASE
                    WHEN l.pid IS NULL THEN pg_catalog.format('the prepared transaction %L', p.gid)
                    ELSE pg_catalog.format('process %s (%s, %s, since %s)', l.pid,
                        coalesce(nullif(a.application_name, ''), a.backend_type), a.state,
                        a.xact_start) END, ', '), 'no one any more')
             FROM (SELECT DISTINCT l.pid, l.virtualtransaction FROM pg_catalog.pg_locks AS l
                JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
                WHERE (c.oid = $1 OR $1::oid IS NULL
                        AND c.relnamespace = pg_catalog.to_regnamespace('segue'))
                    AND l.granted AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
                    AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')) AS l
             LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
             LEFT JOIN pg_catalog.pg_locks AS x ON l.pid IS NULL AND x.pid IS NULL
                AND x.locktype = 'transactionid' AND x.virtualtransaction = l.virtualtransaction
             LEFT JOIN pg_catalog.pg_prepared_xacts AS p ON p.transaction = x.transactionid
             WHERE a.pid IS NOT NULL OR p.gid IS NOT NULL",
            &[&table],
        )
        .await;
    row.and_then(|row| row.try_get(0)).map_err(SetupError::database(side))
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
