//! One change of a table's triggers at a time, under the lock of the setup, and what to do where the
//! table itself is locked.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Transaction};

use super::Params;
use crate::domain::sqlstate;
use crate::domain::table::TableName;
use crate::postgres::schema::{self, SETUP_LOCK, SetupError};
use crate::postgres::session::fault::sqlstate_of;

/// The pause between two attempts at a lock: long enough for the writers that had queued
/// behind the last one to pass.
const PAUSE: Duration = Duration::from_millis(250);

/// Runs statements that lock a table, each attempt with a short timeout, until they pass.
pub(super) async fn under_lock(
    client: &mut Client,
    params: &Params,
    relation: &TableName,
    oid: u32,
    sql: &str,
) -> Result<(), SetupError> {
    let begun = Instant::now();
    loop {
        let Err(source) = attempt(client, params, sql).await else { return Ok(()) };
        let retryable = [sqlstate::LOCK_NOT_AVAILABLE, sqlstate::DEADLOCK_DETECTED];
        if !retryable.contains(&sqlstate_of(&source)) {
            return Err(SetupError::Database { side: params.side, source });
        }
        if begun.elapsed() >= params.patience {
            return Err(SetupError::Locked {
                side: params.side,
                table: relation.to_string(),
                waited_ms: begun.elapsed().as_millis(),
                holders: schema::holders(client, params.side, Some(oid)).await?,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(
    client: &mut Client,
    params: &Params,
    sql: &str,
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    lock_setup(&transaction).await?;
    let timeout_ms = params.lock_timeout.as_millis().max(1);
    transaction.batch_execute(&format!("SET LOCAL lock_timeout = {timeout_ms};{sql}")).await?;
    transaction.commit().await
}

/// Keeps other sidecars from setting up the same database at the same time.
pub(super) async fn lock_setup(transaction: &Transaction<'_>) -> Result<(), tokio_postgres::Error> {
    transaction.query_one("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[&SETUP_LOCK]).await?;
    Ok(())
}
