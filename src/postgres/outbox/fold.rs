//! Keys that wait, folded: rows stand for ranges of their table's key, or one for all of it.
//!
//! What is folded has a row in the outbox without a key, as after `TRUNCATE`, so that whoever asks
//! for a key's rows finds it; it is claimed, settled and retried like any other. Which range it
//! stands for, if not for the whole table, is [`ranges`]'s. `segue.pending_table` says why it is
//! there, and how far the pass has come.
//!
//! [`ranges`]: crate::postgres::outbox::ranges

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::domain::sqlstate::class;
use crate::postgres::outbox::claim::RowPlace;
use crate::postgres::outbox::ranges::KeyOrder;
use crate::postgres::outbox::settle::remove;
use crate::postgres::outbox::{KEY_TEXTS, SLOT_NOW, place_of};
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

/// What is folded.
#[derive(Debug, Clone)]
pub(super) struct Folding {
    /// The keys of this table.
    pub(super) table_id: i32,
    /// Those with so many failed attempts at most.
    pub(super) attempts_max: i32,
    /// The limit that was passed, for the reason.
    pub(super) limit: u64,
    /// The side whose outbox it is.
    pub(super) side: Side,
    /// Into ranges of the key in this order; into the whole table where there is none.
    pub(super) order: Option<KeyOrder>,
}

/// Rows that stand for the same and are left as they are: a pass that is under way may be for
/// them, and would begin anew.
const KEPT: usize = 2;

/// The keys of one window that one new row stands for.
struct Folded {
    /// The range, where it is not the whole table.
    range: Option<String>,
    keys: i64,
    since: SystemTime,
    due: SystemTime,
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL synchronous_commit = on; SET LOCAL search_path = pg_catalog";

const KNOWN: &str = "SELECT keys FROM segue.pending_table WHERE table_id = $1 FOR UPDATE";
const BEGIN_NOTE: &str = "\
    INSERT INTO segue.pending_table (table_id, since, keys, reason) \
    VALUES ($1, pg_catalog.clock_timestamp(), 0, '') ON CONFLICT (table_id) DO NOTHING";
const NOTE: &str = "\
    UPDATE segue.pending_table SET keys = keys + $3, since = least(since, $2::timestamptz), \
        reason = $4 WHERE table_id = $1";

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
/// Ranges are done one by one, by several members at once: each adds its share.
const PROGRESS_OF_RANGE: &str = "\
    UPDATE segue.pending_table SET keys_seen = keys_seen + $2, \
        pass_began_at = coalesce(pass_began_at, pg_catalog.clock_timestamp()) WHERE table_id = $1";
const FORGET_RANGES: &str = "DELETE FROM segue.key_range WHERE table_id = $1";
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
            FROM segue.migrated_table AS t WHERE t.table_id = $1::int4), \
            pg_catalog.concat('table id ', $1::int4::text)) || $3::text \
    FROM segue.control AS c WHERE c.id = 1";

/// Folds keys of one window of a part: they go, and in the same transaction rows come that stand
/// for their ranges, or for their table. These were not there before, so nobody can have claimed
/// them before these keys were captured, and no pass that is under way forgets them. Keys that
/// somebody has claimed are left alone.
///
/// If we crash here, the transaction is rolled back, and the keys wait as before.
// Modelled as `Action::Fold` in tests/model.
pub(super) async fn fold_window(
    client: &Lease,
    folding: &Folding,
    part: &str,
    window: &str,
) -> Result<u64, SqlFault> {
    client.batch_execute(&format!("{BEGIN}; {KEY_TEXTS}")).await?;
    let folded = fold(client, folding, part, window).await;
    let end = if matches!(folded, Ok(1..)) { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await?;
    match folded {
        // Keys that are no values of the key's types any more name no range.
        Err(fault)
            if folding.order.is_some() && fault.sqlstate.starts_with(class::DATA_EXCEPTION) =>
        {
            let whole = Folding { order: None, ..folding.clone() };
            Box::pin(fold_window(client, &whole, part, window)).await
        }
        folded => folded,
    }
}

async fn fold(
    client: &Lease,
    folding: &Folding,
    part: &str,
    window: &str,
) -> Result<u64, SqlFault> {
    let table_id = folding.table_id;
    // Locked before anything is taken out: ranges are forgotten under this lock alone.
    let is_new = client.query_opt(KNOWN, &[&table_id]).await?.is_none();
    if is_new {
        client.execute(BEGIN_NOTE, &[&table_id]).await?;
        client.query_opt(KNOWN, &[&table_id]).await?;
    }
    let gone = gone(client, part, window);
    let sql = match &folding.order {
        Some(order) => by_range(&gone, order),
        None => format!(
            "WITH gone AS ({gone}) SELECT NULL::text, pg_catalog.count(*), \
                 pg_catalog.min(created_at), pg_catalog.max(next_attempt_at) FROM gone \
             HAVING pg_catalog.count(*) > 0"
        ),
    };
    let params: [&(dyn ToSql + Sync); 2] = [&table_id, &folding.attempts_max];
    let folded = client.query(&sql, &params).await?;
    let folded = folded.iter().map(Folded::read).collect::<Result<Vec<_>, _>>()?;
    if folded.is_empty() {
        return Ok(0);
    }
    stand_for(client, table_id, &folded).await?;
    note(client, folding, &folded, is_new).await
}

/// Takes the rows out that nobody has claimed.
fn gone(client: &Lease, part: &str, window: &str) -> String {
    let place = place_of(client).0;
    format!(
        "DELETE FROM {part} WHERE {place} = ANY (ARRAY(SELECT {place} FROM {part} \
             WHERE forgotten_at IS NULL AND key IS NOT NULL AND table_id = $1 \
                 AND attempts <= $2 AND {window} FOR UPDATE SKIP LOCKED)) \
         RETURNING key, created_at, next_attempt_at"
    )
}

/// Keys and cuts are sorted together: as many cuts come before a key as there are ranges before
/// its own. A key that is a cut lies in the range that ends with it. One with another number of
/// columns lies in none, and so does every key where the ranges are gone, or are another key's.
fn by_range(gone: &str, order: &KeyOrder) -> String {
    format!(
        "WITH gone AS ({gone}), marked AS (SELECT false AS is_cut, g.key, g.created_at, \
                 g.next_attempt_at FROM gone AS g \
             UNION ALL SELECT true, r.until_key, NULL, NULL FROM segue.key_range AS r \
                 WHERE r.table_id = $1 AND r.until_key IS NOT NULL), \
         placed AS (SELECT m.*, pg_catalog.count(*) FILTER (WHERE m.is_cut) OVER ( \
                 ORDER BY {by}, m.is_cut ROWS UNBOUNDED PRECEDING) AS place FROM marked AS m) \
         SELECT r.range_id::text, pg_catalog.count(*), pg_catalog.min(p.created_at), \
             pg_catalog.max(p.next_attempt_at) FROM placed AS p \
         LEFT JOIN segue.key_range AS r ON r.table_id = $1 AND r.place = p.place \
             AND pg_catalog.cardinality(p.key) = {width} AND r.key_form = {form} \
         WHERE NOT p.is_cut GROUP BY r.range_id",
        by = order.by("m.key"),
        width = order.width(),
        form = order.form(),
    )
}

async fn note(
    client: &Lease,
    folding: &Folding,
    folded: &[Folded],
    is_new: bool,
) -> Result<u64, SqlFault> {
    let keys: i64 = folded.iter().map(|it| it.keys).sum();
    let since = folded.iter().map(|it| it.since).min();
    let reason = folding.reason();
    let params: [&(dyn ToSql + Sync); 4] = [&folding.table_id, &since, &keys, &reason];
    client.execute(NOTE, &params).await?;
    if is_new {
        let as_what = match folded.iter().all(|it| it.range.is_some()) {
            true => "as ranges of its key",
            false => "as a whole table",
        };
        tell(client, folding, as_what).await?;
    }
    Ok(keys.max(0).unsigned_abs())
}

/// Tells operators, in the history and in the log, what a table is pending as.
async fn tell(client: &Lease, folding: &Folding, as_what: &str) -> Result<(), SqlFault> {
    let what = format!(
        " is pending {as_what}: {}. Its keys are no longer kept one by one; it is gone through on \
         both sides when the other side is well",
        folding.reason()
    );
    record(client, folding.side, folding.table_id, &what).await?;
    tracing::warn!(table_id = folding.table_id, side = %folding.side, "a table{what}");
    Ok(())
}

// === impl Folding ===

impl Folding {
    fn reason(&self) -> String {
        format!("what waits passed outbox.max_bytes = {}", self.limit)
    }
}

// === impl Folded ===

impl Folded {
    fn read(row: &Row) -> Result<Self, SqlFault> {
        Ok(Self {
            range: row.try_get(0)?,
            keys: row.try_get(1)?,
            since: row.try_get(2)?,
            due: row.try_get(3)?,
        })
    }
}

/// Writes the rows that stand for what was folded, each due when the last of its keys was.
async fn stand_for(client: &Lease, table_id: i32, folded: &[Folded]) -> Result<(), SqlFault> {
    let ranges: Vec<Option<&str>> = folded.iter().map(|it| it.range.as_deref()).collect();
    // No more than a few of each: a fold adds one.
    let older = format!(
        "SELECT o.slot, o.{place}::text, o.write_id::text FROM segue.outbox AS o \
         WHERE o.table_id = $1 AND o.key IS NULL AND o.forgotten_at IS NULL \
             AND ($2 OR o.write_id = ANY ($3::text[]::uuid[])) \
         ORDER BY o.next_attempt_at FOR UPDATE SKIP LOCKED",
        place = place_of(client).0
    );
    let is_whole = ranges.contains(&None);
    let named: Vec<&str> = ranges.iter().copied().flatten().collect();
    let params: [&(dyn ToSql + Sync); 3] = [&table_id, &is_whole, &named];
    let mut seen: BTreeMap<Option<String>, usize> = BTreeMap::new();
    let mut superfluous = Vec::new();
    for row in client.query(&older, &params).await? {
        let place = RowPlace { slot: row.try_get(0)?, ctid: row.try_get(1)? };
        // What stands for the whole table stands for its ranges.
        let of: Option<String> = if is_whole { None } else { row.try_get(2)? };
        let seen = seen.entry(of).or_default();
        *seen += 1;
        superfluous.extend((*seen > KEPT).then_some(place));
    }
    remove(client, &superfluous).await?;
    // Its time is its name to a pass that has several turns: never that of another row.
    let insert = format!(
        "INSERT INTO segue.outbox (slot, table_id, key, write_id, created_at, next_attempt_at) \
         SELECT {SLOT_NOW}, $1, NULL, f.of_range::uuid, f.since, \
             CASE WHEN f.due > pg_catalog.clock_timestamp() \
                 THEN f.due + pg_catalog.random() * '1 second'::interval \
                 ELSE pg_catalog.clock_timestamp() END \
         FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::timestamptz[]), \
             pg_catalog.unnest($4::timestamptz[])) AS f(of_range, since, due)"
    );
    let since: Vec<SystemTime> = folded.iter().map(|it| it.since).collect();
    let due: Vec<SystemTime> = folded.iter().map(|it| it.due).collect();
    let params: [&(dyn ToSql + Sync); 4] = [&table_id, &ranges, &since, &due];
    client.execute(&insert, &params).await?;
    Ok(())
}

/// Folds what stands for ranges of a table into one row for all of it; tells how many there were.
///
/// If we crash here, the transaction is rolled back, and the ranges wait as before.
// Modelled as `Action::Coarsen` in tests/model.
pub(super) async fn fold_ranges(client: &Lease, folding: &Folding) -> Result<u64, SqlFault> {
    client.batch_execute(BEGIN).await?;
    let folded = coarsen(client, folding).await;
    let end = if matches!(folded, Ok(1..)) { "COMMIT" } else { "ROLLBACK" };
    client.batch_execute(end).await?;
    folded
}

async fn coarsen(client: &Lease, folding: &Folding) -> Result<u64, SqlFault> {
    let table_id = folding.table_id;
    client.query_opt(KNOWN, &[&table_id]).await?;
    let gone = format!(
        "WITH gone AS (DELETE FROM segue.outbox AS o WHERE (o.slot, o.{place}) IN ( \
             SELECT n.slot, n.{place} FROM segue.outbox AS n WHERE n.table_id = $1 \
                 AND n.key IS NULL AND n.write_id IS NOT NULL AND n.forgotten_at IS NULL \
             FOR UPDATE SKIP LOCKED) RETURNING o.created_at, o.next_attempt_at) \
         SELECT NULL::text, pg_catalog.count(*), pg_catalog.min(created_at), \
             pg_catalog.max(next_attempt_at) FROM gone HAVING pg_catalog.count(*) > 0",
        place = place_of(client).0
    );
    let Some(row) = client.query_opt(&gone, &[&table_id]).await? else {
        return Ok(0);
    };
    let folded = Folded::read(&row)?;
    let ranges = folded.keys.max(0).unsigned_abs();
    stand_for(client, table_id, &[folded]).await?;
    tell(client, folding, "as a whole table").await?;
    Ok(ranges)
}

/// Notes how many keys the pass through a table has seen.
///
/// # Errors
///
/// What the database reports.
pub async fn note_progress(client: &Lease, table_id: i32, keys: u64) -> Result<(), SqlFault> {
    let keys = i64::try_from(keys).unwrap_or(i64::MAX);
    let progress = client.prepared(PROGRESS).await?;
    client.execute(&progress.statement, &[&table_id, &keys]).await?;
    Ok(())
}

/// The same of a pass through one range of it: how many more.
///
/// # Errors
///
/// What the database reports.
pub async fn note_progress_of_range(
    client: &Lease,
    table_id: i32,
    keys: u64,
) -> Result<(), SqlFault> {
    let keys = i64::try_from(keys).unwrap_or(i64::MAX);
    let progress = client.prepared(PROGRESS_OF_RANGE).await?;
    client.execute(&progress.statement, &[&table_id, &keys]).await?;
    Ok(())
}

/// Notes that a table is equal again, in the transaction that forgets its rows, unless it was
/// folded anew meanwhile.
///
/// # Errors
///
/// What the database reports.
pub async fn note_done(client: &Lease, side: Side, table_id: i32) -> Result<(), SqlFault> {
    if client.query_opt(LOCK_KNOWN, &[&table_id]).await?.is_none() {
        return Ok(());
    }
    let Some(done) = client.query_opt(DONE, &[&table_id]).await? else {
        return Ok(());
    };
    client.execute(FORGET_RANGES, &[&table_id]).await?;
    let keys: i64 = done.try_get(0)?;
    let what = format!(" is pending key by key again: {keys} keys had been folded into it");
    record(client, side, table_id, &what).await?;
    tracing::info!(table_id, "a table{what}");
    Ok(())
}

/// What was noted of tables that nothing stands for any more, as after the copy was discarded.
pub(super) async fn forget_stale(client: &Lease, side: Side) -> Result<(), SqlFault> {
    for row in client.query(STALE, &[]).await? {
        let table_id: i32 = row.try_get(0)?;
        client.batch_execute(BEGIN).await?;
        let done = note_done(client, side, table_id).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await?;
        done?;
    }
    Ok(())
}

async fn record(client: &Lease, side: Side, table_id: i32, what: &str) -> Result<(), SqlFault> {
    let on_source = side == Side::Source;
    let params: [&(dyn ToSql + Sync); 3] = [&table_id, &on_source, &what];
    client.execute(RECORD, &params).await?;
    Ok(())
}
