//! Keys that wait, folded into their table: one row stands for all of them.
//!
//! A table that is folded is *pending as a whole*. Its row in the outbox has no key, as after
//! `TRUNCATE`, so that whoever asks for a key's rows finds it; it is claimed, settled and retried
//! like any other. `segue.pending_table` says why it is there, and how far the pass has come.

use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::postgres::outbox::claim::RowPlace;
use crate::postgres::outbox::settle::remove;
use crate::postgres::outbox::{SLOT_NOW, place_of, said};
use crate::postgres::pool::Lease;

/// What is folded.
#[derive(Debug, Clone)]
pub(super) struct Folding {
    /// The keys of these tables.
    pub(super) tables: Vec<i32>,
    /// Those with so many failed attempts at most.
    pub(super) attempts_max: i32,
    /// The limit that was passed, for the reason.
    pub(super) limit: u64,
    /// The side whose outbox it is.
    pub(super) side: Side,
}

/// Rows that stand for a whole table and are left as they are: a pass that is under way may be
/// for them, and would begin anew.
const WHOLE_KEPT: i64 = 2;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL synchronous_commit = on";

const KNOWN: &str = "SELECT keys FROM segue.pending_table WHERE table_id = $1 FOR UPDATE";
const NOTE: &str = "\
    INSERT INTO segue.pending_table AS p (table_id, since, keys, reason) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (table_id) DO UPDATE SET keys = p.keys + excluded.keys, \
        since = least(p.since, excluded.since), reason = excluded.reason";

/// Locks what is known of a table first: a fold that is under way is waited for, so that the
/// statement after this one sees its row.
const LOCK_KNOWN: &str = "SELECT 1 FROM segue.pending_table WHERE table_id = $1 FOR UPDATE";
const DONE: &str = "\
    DELETE FROM segue.pending_table AS p WHERE p.table_id = $1 AND NOT EXISTS ( \
        SELECT 1 FROM segue.outbox AS o WHERE o.table_id = p.table_id AND o.key IS NULL \
            AND o.forgotten_at IS NULL) \
    RETURNING p.keys";
const PROGRESS: &str = "\
    UPDATE segue.pending_table SET keys_seen = $2, pass_began_at = CASE WHEN pass_began_at IS NULL \
        OR keys_seen > $2 THEN pg_catalog.clock_timestamp() ELSE pass_began_at END \
    WHERE table_id = $1";
const STALE: &str = "\
    SELECT p.table_id FROM segue.pending_table AS p WHERE NOT EXISTS ( \
        SELECT 1 FROM segue.outbox AS o WHERE o.table_id = p.table_id AND o.key IS NULL \
            AND o.forgotten_at IS NULL)";

const RECORD: &str = "\
    INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage, \
        to_percentage, forced, changed_by, reason) \
    SELECT pg_catalog.gen_random_uuid(), 'outbox', c.epoch, c.phase, c.phase, c.target_percentage, \
        c.target_percentage, false, 'segue', coalesce((SELECT CASE WHEN $2 \
            THEN pg_catalog.concat(t.source_schema, '.', t.source_name) \
            ELSE pg_catalog.concat(t.target_schema, '.', t.target_name) END \
            FROM segue.migrated_table AS t WHERE t.table_id = $1), \
            pg_catalog.concat('table id ', $1::int4::text)) || $3::text \
    FROM segue.control AS c WHERE c.id = 1";

/// Folds keys of one window of a part: they go, and in the same transaction a row comes that
/// stands for their table. It was not there before, so nobody can have claimed it before these
/// keys were captured, and no pass that is under way forgets it. Keys that somebody has claimed
/// are left alone.
///
/// If we crash here, the transaction is rolled back, and the keys wait as before.
// Modelled as `Action::Fold` in tests/model.
pub(super) async fn fold_window(
    client: &Lease,
    folding: &Folding,
    part: &str,
    window: &str,
) -> Result<u64, SqlFault> {
    client.batch_execute(BEGIN).await.map_err(said(client))?;
    let folded = fold(client, folding, part, window).await;
    let end = if folded.is_ok() { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await.map_err(said(client))?;
    folded
}

async fn fold(
    client: &Lease,
    folding: &Folding,
    part: &str,
    window: &str,
) -> Result<u64, SqlFault> {
    let place = place_of(client).0;
    let sql = format!(
        "WITH gone AS (DELETE FROM {part} WHERE {place} = ANY (ARRAY(SELECT {place} FROM {part} \
             WHERE forgotten_at IS NULL AND key IS NOT NULL AND table_id = ANY ($1) \
                 AND attempts <= $2 AND {window} FOR UPDATE SKIP LOCKED)) \
             RETURNING table_id, created_at, next_attempt_at) \
         SELECT table_id, pg_catalog.count(*), pg_catalog.min(created_at), \
             pg_catalog.max(next_attempt_at) FROM gone GROUP BY table_id ORDER BY table_id"
    );
    let params: [&(dyn ToSql + Sync); 2] = [&folding.tables, &folding.attempts_max];
    let mut folded = 0;
    for row in client.query(&sql, &params).await.map_err(said(client))? {
        let at = said(client);
        let table_id: i32 = row.try_get(0).map_err(at)?;
        let keys: i64 = row.try_get(1).map_err(at)?;
        let (since, due): (SystemTime, SystemTime) =
            (row.try_get(2).map_err(at)?, row.try_get(3).map_err(at)?);
        note(client, folding, table_id, keys, since).await?;
        stand_for(client, table_id, since, due).await?;
        folded += keys.max(0).unsigned_abs();
    }
    Ok(folded)
}

async fn note(
    client: &Lease,
    folding: &Folding,
    table_id: i32,
    keys: i64,
    since: SystemTime,
) -> Result<(), SqlFault> {
    let known = client.query_opt(KNOWN, &[&table_id]).await.map_err(said(client))?;
    let reason = format!("what waits passed outbox.max_bytes = {}", folding.limit);
    let params: [&(dyn ToSql + Sync); 4] = [&table_id, &since, &keys, &reason];
    client.execute(NOTE, &params).await.map_err(said(client))?;
    if known.is_none() {
        let what = format!(
            " is pending as a whole table: {reason}. Its keys are no longer kept one by one; it is \
             gone through on both sides when the other side is well"
        );
        record(client, folding.side, table_id, &what).await?;
        tracing::warn!(table_id, side = %folding.side, "a table{what}");
    }
    Ok(())
}

/// Writes the row that stands for the table, due when the last of the keys was.
async fn stand_for(
    client: &Lease,
    table_id: i32,
    since: SystemTime,
    due: SystemTime,
) -> Result<(), SqlFault> {
    let at = said(client);
    let place = place_of(client).0;
    // No more than a few: each fold adds one.
    let older = format!(
        "SELECT slot, {place}::text FROM segue.outbox WHERE table_id = $1 AND key IS NULL \
             AND forgotten_at IS NULL ORDER BY next_attempt_at OFFSET {WHOLE_KEPT} \
         FOR UPDATE SKIP LOCKED"
    );
    let older = client.query(&older, &[&table_id]).await.map_err(at)?;
    let older = older.iter().map(|row| {
        Ok::<_, tokio_postgres::Error>(RowPlace { slot: row.try_get(0)?, ctid: row.try_get(1)? })
    });
    let older = older.collect::<Result<Vec<_>, _>>().map_err(at)?;
    remove(client, &older).await?;
    // Its time is its name to a pass that has several turns: never that of another row.
    let insert = format!(
        "INSERT INTO segue.outbox (slot, table_id, key, created_at, next_attempt_at) \
         VALUES ({SLOT_NOW}, $1, NULL, $2, CASE WHEN $3::timestamptz > pg_catalog.clock_timestamp() \
             THEN $3::timestamptz + pg_catalog.random() * '1 second'::interval \
             ELSE pg_catalog.clock_timestamp() END)"
    );
    client.execute(&insert, &[&table_id, &since, &due]).await.map_err(at)?;
    Ok(())
}

/// Notes how many keys the pass through a table has seen.
///
/// # Errors
///
/// What the database reports.
pub async fn note_progress(client: &Lease, table_id: i32, keys: u64) -> Result<(), SqlFault> {
    let keys = i64::try_from(keys).unwrap_or(i64::MAX);
    let progress = client.prepared(PROGRESS).await?;
    client.execute(&progress.statement, &[&table_id, &keys]).await.map_err(said(client))?;
    Ok(())
}

/// Notes that a table is equal again, in the transaction that forgets its rows, unless it was
/// folded anew meanwhile.
///
/// # Errors
///
/// What the database reports.
pub async fn note_done(client: &Lease, side: Side, table_id: i32) -> Result<(), SqlFault> {
    let at = said(client);
    if client.query_opt(LOCK_KNOWN, &[&table_id]).await.map_err(at)?.is_none() {
        return Ok(());
    }
    let Some(done) = client.query_opt(DONE, &[&table_id]).await.map_err(at)? else {
        return Ok(());
    };
    let keys: i64 = done.try_get(0).map_err(at)?;
    let what = format!(" is pending key by key again: {keys} keys had been folded into it");
    record(client, side, table_id, &what).await?;
    tracing::info!(table_id, "a table{what}");
    Ok(())
}

/// What was noted of tables that nothing stands for any more, as after the copy was discarded.
pub(super) async fn forget_stale(client: &Lease, side: Side) -> Result<(), SqlFault> {
    for row in client.query(STALE, &[]).await.map_err(said(client))? {
        let table_id: i32 = row.try_get(0).map_err(said(client))?;
        client.batch_execute(BEGIN).await.map_err(said(client))?;
        let done = note_done(client, side, table_id).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await.map_err(said(client))?;
        done?;
    }
    Ok(())
}

async fn record(client: &Lease, side: Side, table_id: i32, what: &str) -> Result<(), SqlFault> {
    let on_source = side == Side::Source;
    let params: [&(dyn ToSql + Sync); 3] = [&table_id, &on_source, &what];
    client.execute(RECORD, &params).await.map_err(said(client))?;
    Ok(())
}
