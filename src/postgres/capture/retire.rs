//! Tables that are no longer part of the migration, though they were: gone, or excluded.
//!
//! Their ids stay theirs, since outbox rows may still name them, and whoever meets such a key
//! knows that there is nothing left to do for it.

use tokio_postgres::{Client, Error, GenericClient, Row};

use super::Params;
use super::form::FUNCTION_PREFIX;
use super::setup_lock::{lock_setup, under_lock};
use crate::dialect::Dialect;
use crate::domain::sqlstate;
use crate::domain::table::{TableMapping, TableName, quote_identifier};
use crate::postgres::schema::{self, SetupError};

/// Both in one statement: a table is never in both lists, or in neither.
const MOVE: &str = "
WITH gone AS (DELETE FROM segue.migrated_table WHERE source_schema = $1 AND source_name = $2
    RETURNING table_id, source_schema, source_name, target_schema, target_name)
INSERT INTO segue.retired_table (table_id, source_schema, source_name, target_schema, target_name,
    reason, retired_by) SELECT gone.*, $3, $4 FROM gone";
const IDS: &str = "
SELECT table_id FROM segue.retired_table
WHERE source_schema = $1 AND source_name = $2 AND adopted_at IS NULL";
const SETTLE: &str = "
UPDATE segue.outbox SET forgotten_at = pg_catalog.clock_timestamp()
WHERE table_id = ANY ($1) AND forgotten_at IS NULL";
/// A table that was pending as a whole is so no longer.
const UNFOLD: &str = "DELETE FROM segue.pending_table WHERE table_id = ANY ($1)";
const UNCUT: &str = "DELETE FROM segue.key_range WHERE table_id = ANY ($1)";
const LIST: &str = "
SELECT source_schema, source_name, target_schema, target_name, reason, retired_by, retired_at::text
FROM segue.retired_table WHERE adopted_at IS NULL ORDER BY 1, 2";
const ADOPT: &str = "
UPDATE segue.retired_table SET adopted_at = pg_catalog.clock_timestamp()
WHERE source_schema = $1 AND source_name = $2 AND adopted_at IS NULL";
/// A table that is no longer part of the migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retired {
    /// Where it was.
    pub mapping: TableMapping,
    /// Why.
    pub reason: String,
    /// By whom.
    pub by: String,
    /// When, as the database writes it.
    pub at: String,
}

/// What became of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retirement {
    /// It was part of the migration, or is retired already.
    pub known: bool,
    /// Keys of it that waited, and are settled.
    pub settled: u64,
    /// Triggers that were taken off it.
    pub triggers: u64,
}

/// Tables that are retired on this side; none where segue's schema is older.
///
/// # Errors
///
/// Whatever the database says.
pub async fn retired<C: GenericClient>(client: &C) -> Result<Vec<Retired>, Error> {
    if schema::version(client).await? < schema::RETIRED_SINCE {
        return Ok(Vec::new());
    }
    client.query(LIST, &[]).await?.iter().map(read).collect()
}

/// Those of them that are not retired: whatever a member's configuration says, capture stays off
/// a retired table until it is adopted.
pub(super) async fn without_retired<C: GenericClient>(
    client: &C,
    mappings: &[TableMapping],
) -> Result<Vec<TableMapping>, Error> {
    let retired = retired(client).await?;
    let is_retired = |it: &TableMapping| retired.iter().any(|out| out.mapping.source == it.source);
    Ok(mappings.iter().filter(|it| !is_retired(it)).cloned().collect())
}

fn read(row: &Row) -> Result<Retired, Error> {
    let name = |schema: usize, name: usize| -> Result<TableName, Error> {
        Ok(TableName { schema: row.try_get(schema)?, name: row.try_get(name)? })
    };
    Ok(Retired {
        mapping: TableMapping { source: name(0, 1)?, target: name(2, 3)? },
        reason: row.try_get(4)?,
        by: row.try_get(5)?,
        at: row.try_get(6)?,
    })
}

/// Takes a table out of the migration on this side: its place in the registry, its keys that
/// wait, its triggers. Safe to repeat.
///
/// *If we crash here*, the table is retired, and keys that its triggers still note are taken for
/// done by whoever claims them; running it again takes the triggers off.
///
/// # Errors
///
/// [`SetupError`], where a lock on the table was not to be had.
pub async fn retire(
    client: &mut Client,
    params: &Params,
    table: &TableName,
    reason: &str,
    by: &str,
) -> Result<Retirement, SetupError> {
    let failed = SetupError::database(params.side);
    let dialect = schema::dialect(client).await.map_err(&failed)?;
    let transaction = client.transaction().await.map_err(&failed)?;
    if dialect.has_advisory_locks() {
        lock_setup(&transaction).await.map_err(&failed)?;
    }
    transaction
        .execute(MOVE, &[&table.schema, &table.name, &reason, &by])
        .await
        .map_err(&failed)?;
    let rows = transaction.query(IDS, &[&table.schema, &table.name]).await.map_err(&failed)?;
    let ids: Vec<i32> =
        rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(&failed)?;
    let settled = transaction.execute(SETTLE, &[&ids]).await.map_err(&failed)?;
    transaction.execute(UNFOLD, &[&ids]).await.map_err(&failed)?;
    transaction.execute(UNCUT, &[&ids]).await.map_err(&failed)?;
    transaction.commit().await.map_err(&failed)?;
    let mut triggers = 0;
    for id in &ids {
        triggers += uncapture(client, params, dialect, *id).await?;
    }
    Ok(Retirement { known: !ids.is_empty(), settled, triggers })
}

/// Makes it one that may be part of the migration again, under another id; says whether it was
/// retired.
///
/// # Errors
///
/// Whatever the database says.
pub async fn adopt(client: &Client, table: &TableName) -> Result<bool, Error> {
    Ok(client.execute(ADOPT, &[&table.schema, &table.name]).await? > 0)
}

async fn uncapture(
    client: &mut Client,
    params: &Params,
    dialect: Dialect,
    id: i32,
) -> Result<u64, SetupError> {
    let failed = SetupError::database(params.side);
    let prefix = format!("{FUNCTION_PREFIX}{id}_");
    let rows = client.query(dialect.triggers_of_capture(), &[&prefix]).await.map_err(&failed)?;
    let mut taken = 0;
    for row in &rows {
        let found = || -> Result<(u32, TableName, Vec<String>), Error> {
            let table = TableName { schema: row.try_get(1)?, name: row.try_get(2)? };
            Ok((row.try_get(0)?, table, row.try_get(3)?))
        };
        let (oid, table, names) = found().map_err(&failed)?;
        let drop = |name: &String| {
            let name = quote_identifier(name);
            format!("DROP TRIGGER IF EXISTS {name} ON {};\n", table.quoted())
        };
        let sql: String = names.iter().map(drop).collect();
        if dialect.has_advisory_locks() {
            match under_lock(client, params, &table, oid, &sql).await {
                // It went meanwhile, and its triggers with it.
                Err(error) if error.sqlstate() == sqlstate::UNDEFINED_TABLE => continue,
                done => done?,
            }
        } else {
            client.batch_execute(&sql).await.map_err(&failed)?;
        }
        taken += names.len() as u64;
    }
    Ok(taken)
}
