//! Notes as the trigger of the side that follows has left them.

use std::time::SystemTime;

use crate::domain::fault::SqlFault;
use crate::domain::foreign::Writer;
use crate::domain::sqlstate;
use crate::postgres::fence::{CLASS, TRANSACTIONS};
use crate::postgres::outbox::unreadable::list_cannot_be_sent;
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

/// Notes that are taken at once, and the keys that they may have: a note has no more than half of
/// that.
const NOTES_AT_ONCE: u32 = 1_000;
const KEYS_AT_ONCE: u32 = 20_000;
/// Where more notes of a table wait, all of it is reconciled instead: a program that changes row by
/// row for hours would have its notes worked off for as long.
const NOTES_MAX: i64 = 50_000;
/// Notes that are counted for that.
const COUNTED_MAX: u32 = 200_000;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL synchronous_commit = on";
const WAITING: &str = "SELECT EXISTS (SELECT 1 FROM segue.foreign_write)";
const ROW_IS_AT: &str = "SELECT c.epoch >= $1 FROM segue.control AS c WHERE c.id = 1";
/// As short as the attempts at the fence.
const LOCK_MAX_MS: u32 = 150;
const DISCARD: &str = "DELETE FROM segue.foreign_write";

/// What one writer did to one table.
#[derive(Debug, Clone)]
pub(super) struct Note {
    /// The table's name on the source; nothing where it is not part of the migration any more.
    pub(super) table: Option<(String, String)>,
    /// Columns of its key on this side, in their order.
    pub(super) key: Vec<String>,
    pub(super) writer: Writer,
    /// Keys as texts of arrays; none where the table is noted as a whole.
    pub(super) keys: Option<Vec<String>>,
    pub(super) key_count: i64,
    pub(super) first: SystemTime,
    pub(super) last: SystemTime,
}

/// Whether the side's own row is of this epoch, or a later one.
pub(super) async fn refused_since(client: &Lease, epoch: u64) -> Result<bool, SqlFault> {
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let row = client.query_opt(ROW_IS_AT, &[&epoch]).await?;
    row.map_or(Ok(false), |row| row.try_get(0))
}

/// Whether every transaction that a trigger of capture has seen there has ended. Such transactions
/// share a lock, which is asked for alone, for a moment: who wants to share it waits behind us.
pub(super) async fn writers_ended(client: &Lease) -> Result<bool, SqlFault> {
    // Dropped in the middle, the session is closed rather than used again.
    client.set_busy(true);
    client.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_MAX_MS}ms'")).await?;
    let lock = format!("SELECT pg_catalog.pg_advisory_xact_lock({CLASS}, {TRANSACTIONS})");
    let locked = client.batch_execute(&lock).await;
    client.batch_execute("ROLLBACK").await?;
    client.set_busy(false);
    match locked {
        Ok(()) => Ok(true),
        Err(fault) if fault.sqlstate == sqlstate::LOCK_NOT_AVAILABLE => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Begins the transaction that takes notes away.
pub(super) async fn begin(client: &Lease) -> Result<(), SqlFault> {
    client.batch_execute(BEGIN).await
}

/// Tables of which too many notes wait to be taken one by one.
pub(super) async fn crowded(client: &Lease) -> Result<Vec<i32>, SqlFault> {
    let sql = format!(
        "SELECT table_id FROM (SELECT table_id FROM segue.foreign_write LIMIT {COUNTED_MAX}) AS n \
         GROUP BY table_id HAVING pg_catalog.count(*) > {NOTES_MAX}"
    );
    let rows = client.query(&sql, &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()
}

/// Takes some notes away, in the client's open transaction. Those that somebody else takes are left
/// to him.
pub(super) async fn take(client: &Lease) -> Result<Vec<Note>, SqlFault> {
    let sql = format!(
        "WITH gone AS (DELETE FROM segue.foreign_write WHERE ctid = ANY (ARRAY( \
            SELECT p.place FROM (SELECT n.ctid AS place, pg_catalog.sum(coalesce( \
                    pg_catalog.cardinality(n.keys), 0)) OVER (ROWS UNBOUNDED PRECEDING) AS sum \
                FROM (SELECT ctid, keys FROM segue.foreign_write LIMIT {NOTES_AT_ONCE} \
                    FOR UPDATE SKIP LOCKED) AS n) AS p WHERE p.sum <= {KEYS_AT_ONCE})) \
            RETURNING table_id, keys, key_count, role, application_name, address, at) \
         SELECT m.source_schema, m.source_name, coalesce(m.key_columns, '{{}}'), g.role, \
            g.application_name, g.address, CASE WHEN {} THEN NULL ELSE g.keys END, g.key_count, \
            g.at, g.at \
         FROM gone AS g LEFT JOIN segue.migrated_table AS m USING (table_id)",
        list_cannot_be_sent("g.keys")
    );
    let taken = client.prepared(&sql).await?;
    let rows = client.query(&taken.statement, &[]).await?;
    rows.iter().map(note).collect::<Result<_, _>>()
}

/// Takes all notes of a table away, in the client's open transaction: one for each writer, of the
/// table as a whole.
pub(super) async fn take_whole(client: &Lease, table_id: i32) -> Result<Vec<Note>, SqlFault> {
    let sql = "WITH gone AS (DELETE FROM segue.foreign_write WHERE ctid = ANY (ARRAY( \
            SELECT ctid FROM segue.foreign_write WHERE table_id = $1 FOR UPDATE SKIP LOCKED)) \
            RETURNING table_id, key_count, role, application_name, address, at) \
         SELECT m.source_schema, m.source_name, coalesce(m.key_columns, '{}'), g.role, \
            g.application_name, g.address, NULL::text[], pg_catalog.sum(g.key_count)::int8, \
            pg_catalog.min(g.at), pg_catalog.max(g.at) \
         FROM gone AS g LEFT JOIN segue.migrated_table AS m USING (table_id) \
         GROUP BY m.source_schema, m.source_name, m.key_columns, g.role, g.application_name, \
            g.address";
    let rows = client.query(sql, &[&table_id]).await?;
    rows.iter().map(note).collect::<Result<_, _>>()
}

/// Whether there are any, also those that somebody is taking.
pub(super) async fn waiting(client: &Lease) -> Result<bool, SqlFault> {
    let row = client.query_one(WAITING, &[]).await?;
    row.try_get(0)
}

/// Notes of before a copy was discarded say nothing of a later one.
pub(super) async fn discard(client: &Lease) -> Result<(), SqlFault> {
    client.execute(DISCARD, &[]).await.map(drop)
}

fn note(row: &Row) -> Result<Note, SqlFault> {
    let table: (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Note {
        table: table.0.zip(table.1),
        key: row.try_get(2)?,
        writer: Writer {
            role: row.try_get(3)?,
            application: row.try_get(4)?,
            address: row.try_get(5)?,
        },
        keys: row.try_get(6)?,
        key_count: row.try_get(7)?,
        first: row.try_get(8)?,
        last: row.try_get(9)?,
    })
}
