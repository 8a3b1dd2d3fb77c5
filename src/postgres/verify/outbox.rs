//! What the outbox says of keys that differ.

use tokio_postgres::types::ToSql;

use crate::domain::key::KeyValues;
use crate::postgres::mapping::table::TableShape;
use crate::postgres::pool::Lease;
use crate::postgres::reconcile::halt::{Halt, of_fault};

/// What stands in the outbox for a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Noted {
    /// Rows, those included that are forgotten where these were asked for.
    pub(super) rows: i64,
    /// One of them waits.
    pub(super) waits: bool,
    /// Failed attempts.
    pub(super) attempts: u32,
    /// Why the last one failed.
    pub(super) last_error: String,
    /// When the newest row was written, in digits that order as time does; empty for none.
    pub(super) newest: String,
    /// When the oldest of those that wait was written.
    pub(super) oldest_waiting: String,
}

/// What is read of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// Rows that wait, which an index gives.
    Waiting,
    /// All rows: a second reading in which there are more of them shows what was written in
    /// between, though it may be forgotten already. It goes through the whole outbox.
    All,
}

/// Asks for each of these keys, in the snapshot of the transaction. A row that stands for the
/// whole table counts for every key. Where equal keys have more than one text, so does every
/// row of the table.
pub(super) async fn noted(
    client: &Lease,
    shape: &TableShape,
    keys: &[KeyValues],
    depth: Depth,
) -> Result<Vec<Noted>, Halt> {
    let sql = sql(shape, depth);
    let asked = client.prepared(&sql).await.map_err(of_fault)?;
    let columns: Vec<Vec<&str>> = (0..shape.key.len())
        .map(|index| keys.iter().map(|key| key.get(index).map_or("", String::as_str)).collect())
        .collect();
    let mut params: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
    params.push(&shape.table_id);
    let mut noted = vec![Noted::default(); keys.len()];
    for row in client.query(&asked.statement, &params).await? {
        let place: i64 = row.try_get(0)?;
        let found = Noted {
            rows: row.try_get(1)?,
            waits: row.try_get(2)?,
            attempts: u32::try_from(row.try_get::<_, i32>(3)?).unwrap_or(0),
            last_error: row.try_get(4)?,
            newest: row.try_get(5)?,
            oldest_waiting: row.try_get(6)?,
        };
        match usize::try_from(place - 1) {
            Ok(index) => noted.get_mut(index).into_iter().for_each(|it| add(it, &found)),
            // Of the whole table.
            Err(_) => noted.iter_mut().for_each(|it| add(it, &found)),
        }
    }
    Ok(noted)
}

fn add(noted: &mut Noted, more: &Noted) {
    noted.rows += more.rows;
    noted.waits |= more.waits;
    if more.newest > noted.newest {
        noted.newest.clone_from(&more.newest);
    }
    let none = noted.oldest_waiting.is_empty();
    if !more.oldest_waiting.is_empty() && (none || more.oldest_waiting < noted.oldest_waiting) {
        noted.oldest_waiting.clone_from(&more.oldest_waiting);
    }
    if more.attempts > noted.attempts {
        noted.attempts = more.attempts;
        noted.last_error.clone_from(&more.last_error);
    }
}

fn sql(shape: &TableShape, depth: Depth) -> String {
    const FIGURES: &str = "pg_catalog.count(*), \
        coalesce(pg_catalog.bool_or(o.forgotten_at IS NULL), false), \
        coalesce(pg_catalog.max(o.attempts) FILTER (WHERE o.forgotten_at IS NULL), 0)::int4, \
        coalesce(pg_catalog.max(o.last_error) FILTER (WHERE o.forgotten_at IS NULL), ''), \
        coalesce(pg_catalog.to_char(pg_catalog.max(o.created_at), 'YYYYMMDDHH24MISSUS'), ''), \
        coalesce(pg_catalog.to_char(pg_catalog.min(o.created_at) \
            FILTER (WHERE o.forgotten_at IS NULL), 'YYYYMMDDHH24MISSUS'), '')";
    let waiting = if depth == Depth::Waiting { " AND o.forgotten_at IS NULL" } else { "" };
    let table_id = shape.key.len() + 1;
    let texts: Vec<String> = (1..=shape.key.len()).map(|n| format!("k.k{n}")).collect();
    let of_table = if shape.texts_are_keys() { " AND o.key IS NULL" } else { "" };
    let of_keys = if shape.texts_are_keys() { "" } else { " AND false" };
    format!(
        "SELECT k.n, {FIGURES} FROM {} JOIN segue.outbox AS o ON o.key = ARRAY[{}] \
             WHERE o.table_id = ${table_id}{waiting}{of_keys} GROUP BY k.n \
         UNION ALL SELECT 0, {FIGURES} FROM segue.outbox AS o \
             WHERE o.table_id = ${table_id}{waiting}{of_table}",
        shape.key_source(),
        texts.join(", "),
    )
}
