//! Taking capture away, and switching it off where that cannot wait.

use tokio_postgres::{Client, Error, GenericClient};

use super::Params;
use super::event::TRIGGER_PREFIX;
use super::form::{FUNCTION_PREFIX, no_op};
use super::install::current_user;
use super::setup_lock::under_lock;
use crate::domain::sqlstate;
use crate::domain::table::{TableName, quote_identifier};
use crate::postgres::schema::{self, SETUP_LOCK, SetupError};

/// What is copied before a gap in capture and not again after it may be stale for ever: a
/// backfill looks at this count. Capture can be taken from a schema that is not up to date.
const NOTE_GAP: &str = "DO $segue$BEGIN
    IF pg_catalog.to_regclass('segue.outbox_state') IS NOT NULL THEN
        UPDATE segue.outbox_state SET capture_gaps = capture_gaps + 1 WHERE id = 1;
    END IF;
END$segue$;
";

/// The same without a block, which not every server has.
const NOTE_GAP_PLAINLY: &str =
    "UPDATE segue.outbox_state SET capture_gaps = capture_gaps + 1 WHERE id = 1";

/// Makes every function of capture do nothing, at once and without a lock on any table of
/// the application. Where they cannot be replaced so, they look at the phase by themselves. What
/// follows is not captured: the caller sets the phase, and empties the outbox in a later transaction, when no writer is in it any more.
///
/// All functions are replaced in one transaction, the caller's or its own. If we crash here,
/// all of them capture or none.
///
/// # Errors
///
/// Whatever the database says.
pub async fn give_up<C: GenericClient>(client: &C) -> Result<u64, Error> {
    let functions = functions(client).await?;
    if !schema::dialect(client).await?.captures_until_switched_off() {
        if schema::version(client).await? >= schema::OUTBOX_STATE_SINCE {
            client.batch_execute(NOTE_GAP_PLAINLY).await?;
        }
        return Ok(functions.len() as u64);
    }
    // One message is one transaction.
    let mut sql = format!("SELECT pg_catalog.pg_advisory_xact_lock({SETUP_LOCK});\n");
    for name in &functions {
        sql.push_str(&no_op(name));
    }
    sql.push_str(NOTE_GAP);
    client.batch_execute(&sql).await?;
    Ok(functions.len() as u64)
}

/// Takes triggers and functions away; safe to repeat. Ids stay with their tables, since
/// outbox rows may name them.
///
/// If we crash here, capture is off already, and running it again takes the rest.
///
/// # Errors
///
/// [`SetupError`]; where the role does not own a table it says what to run, and capture has
/// been switched off all the same.
pub async fn remove(client: &mut Client, params: &Params) -> Result<u64, SetupError> {
    let side = params.side;
    let failed = SetupError::database(side);
    let dialect = schema::dialect(client).await.map_err(&failed)?;
    give_up(client).await.map_err(&failed)?;
    let rows = client
        .query(
            "SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.array_agg(t.tgname::text)
             FROM pg_catalog.pg_trigger AS t
             JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
             JOIN pg_catalog.pg_namespace AS s ON s.oid = p.pronamespace AND s.nspname = 'segue'
             JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE pg_catalog.left(t.tgname::text, pg_catalog.length($1::text)) = $1::text
             GROUP BY 1, 2, 3 ORDER BY 2, 3",
            &[&TRIGGER_PREFIX],
        )
        .await
        .map_err(&failed)?;
    let mut removed = 0;
    let mut refused = Vec::new();
    for row in rows {
        let read = || -> Result<(u32, TableName, Vec<String>), Error> {
            Ok((
                row.try_get(0)?,
                TableName { schema: row.try_get(1)?, name: row.try_get(2)? },
                row.try_get(3)?,
            ))
        };
        let (oid, table, triggers) = read().map_err(&failed)?;
        let sql: String = triggers
            .iter()
            .map(|name| {
                format!(
                    "DROP TRIGGER IF EXISTS {} ON {};\n",
                    quote_identifier(name),
                    table.quoted()
                )
            })
            .collect();
        let dropped = match dialect.has_advisory_locks() {
            true => under_lock(client, params, &table, oid, &sql).await,
            false => client.batch_execute(&sql).await.map_err(&failed),
        };
        match dropped {
            Ok(()) => removed += triggers.len() as u64,
            Err(error) if error.sqlstate() == sqlstate::INSUFFICIENT_PRIVILEGE => {
                refused.push(sql);
            }
            Err(error) => return Err(error),
        }
    }
    if !refused.is_empty() {
        return Err(SetupError::Privilege {
            side,
            role: current_user(client, side).await?,
            action: "drop triggers of tables that it does not own".to_owned(),
            message: "capture is switched off, the empty triggers are still there".to_owned(),
            sql: refused.concat(),
        });
    }
    let names = functions(client).await.map_err(&failed)?;
    let sql: String = names
        .iter()
        .map(|name| format!("DROP FUNCTION IF EXISTS segue.{}();\n", quote_identifier(name)))
        .collect();
    client.batch_execute(&sql).await.map_err(&failed)?;
    Ok(removed)
}

async fn functions<C: GenericClient>(client: &C) -> Result<Vec<String>, Error> {
    let rows = client
        .query(
            "SELECT p.proname::text FROM pg_catalog.pg_proc AS p
             JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
             WHERE n.nspname = 'segue' AND pg_catalog.left(p.proname::text, pg_catalog.length($1::text)) = $1::text
                AND p.pronargs = 0
             ORDER BY p.proname",
            &[&FUNCTION_PREFIX],
        )
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}
