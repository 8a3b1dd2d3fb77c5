//! Who wrote, as the source keeps it: the list that operators see and resolve.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use tokio_postgres::types::ToSql;

use super::notes::Note;
use crate::domain::fault::SqlFault;
use crate::domain::foreign::{ForeignTable, ForeignWriter, Resolved, Writer, told};
use crate::domain::side::Side;
use crate::postgres::outbox::SLOT_NOW;
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

/// A writer that was quiet for so long begins another burst, with an entry in the history.
const QUIET: Duration = Duration::from_secs(600);
/// Writers that are told apart: an application may have another name in each of its sessions.
const WRITERS_MAX: i64 = 500;
/// What the others go by then.
const OTHERS: &str = "(others)";
/// Of a digest, in hexadecimal.
const ID_LENGTH: usize = 12;

const SETTLE_KEYS: &str = "\
    INSERT INTO segue.outbox (slot, table_id, key) SELECT DISTINCT {slot}, m.table_id, \
        CASE WHEN m.key_columns = $4::text[] THEN k.key::text[] \
            WHEN m.key_columns @> $4::text[] AND m.key_columns <@ $4::text[] THEN ARRAY( \
                SELECT (k.key::text[])[pg_catalog.array_position($4::text[], c.name)] \
                FROM pg_catalog.unnest(m.key_columns) WITH ORDINALITY AS c (name, n) \
                ORDER BY c.n) END \
    FROM segue.migrated_table AS m, pg_catalog.unnest($3::text[]) AS k (key) \
    WHERE m.source_schema = $1 AND m.source_name = $2";
const SETTLE_WHOLE: &str = "\
    INSERT INTO segue.outbox (slot, table_id, key) SELECT {slot}, m.table_id, NULL \
    FROM segue.migrated_table AS m WHERE m.source_schema = $1 AND m.source_name = $2";
const KNOWN: &str = "SELECT \
    EXISTS (SELECT 1 FROM segue.foreign_writer WHERE writer_id = $1 AND side = $2) \
        OR (SELECT pg_catalog.count(DISTINCT writer_id) FROM segue.foreign_writer) < $3, \
    EXISTS (SELECT 1 FROM segue.foreign_writer WHERE writer_id = $1 AND side = $2 \
        AND resolved_at IS NULL AND last_seen > $4)";
const ADD: &str = "\
    INSERT INTO segue.foreign_writer AS w (writer_id, side, table_name, role, application_name, \
        address, keys, whole, first_seen, last_seen) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    ON CONFLICT (writer_id, side, table_name) DO UPDATE SET keys = w.keys + excluded.keys, \
        whole = w.whole + excluded.whole, last_seen = greatest(w.last_seen, excluded.last_seen), \
        resolved_at = NULL";
/// What was resolved of a writer is open again as a whole.
const OPEN: &str = "UPDATE segue.foreign_writer SET resolved_at = NULL \
    WHERE writer_id = $1 AND side = $2 AND resolved_at IS NOT NULL";
const EVENT: &str = "INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, \
        from_percentage, to_percentage, forced, changed_by, reason) \
    SELECT pg_catalog.gen_random_uuid(), 'drift', c.epoch, c.phase, c.phase, c.target_percentage, \
        c.target_percentage, false, 'segue', $1 FROM segue.control AS c WHERE c.id = 1";
const LIST: &str = "\
    SELECT writer_id, side, table_name, role, application_name, address, keys, whole, first_seen, \
        last_seen, resolved_at, coalesce(resolved_by, ''), coalesce(resolved_reason, '') \
    FROM segue.foreign_writer ORDER BY table_name";
const RESOLVE: &str = "\
    WITH done AS (UPDATE segue.foreign_writer SET resolved_at = pg_catalog.clock_timestamp(), \
            resolved_by = $2, resolved_reason = $3::text \
        WHERE resolved_at IS NULL AND ($1::text IS NULL OR writer_id = $1::text) \
        RETURNING writer_id, side, role, application_name, address), \
    writers AS (SELECT DISTINCT role, application_name, address, side FROM done) \
    INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage, \
        to_percentage, forced, changed_by, reason) \
    SELECT pg_catalog.gen_random_uuid(), 'drift', c.epoch, c.phase, c.phase, c.target_percentage, \
        c.target_percentage, false, $2, pg_catalog.concat('writes on the ', w.side, ' by role ', \
            w.role, ', application \"', w.application_name, '\", from ', w.address, \
            ' are resolved: ', $3::text) \
    FROM segue.control AS c, writers AS w WHERE c.id = 1";

/// What one writer did to one table, added up.
#[derive(Debug, Default)]
struct Sum {
    table: ForeignTable,
    seen: Option<(SystemTime, SystemTime)>,
}

/// Makes of the notes what follows from them, in the client's open transaction: their keys are to be
/// reconciled, and their writers are listed.
pub(super) async fn add(client: &Lease, side: Side, notes: &[Note]) -> Result<(), SqlFault> {
    settle(client, notes).await?;
    let mut writers: BTreeMap<&Writer, BTreeMap<String, Sum>> = BTreeMap::new();
    for note in notes {
        let name = note.table.as_ref().map(|(schema, name)| format!("{schema}.{name}"));
        let name = name.unwrap_or_else(|| "a table that is not migrated any more".to_owned());
        let sum = writers.entry(&note.writer).or_default().entry(name.clone()).or_default();
        sum.table.table = name;
        sum.table.keys += note.key_count.max(0).unsigned_abs();
        sum.table.whole += u64::from(note.keys.is_none());
        let (first, last) = sum.seen.unwrap_or((note.first, note.last));
        sum.seen = Some((first.min(note.first), last.max(note.last)));
    }
    for (writer, tables) in writers {
        list(client, side, writer, tables.into_values().collect()).await?;
    }
    Ok(())
}

/// Asks for what was noted: each key once, and the whole table where it was noted so.
async fn settle(client: &Lease, notes: &[Note]) -> Result<(), SqlFault> {
    type Table<'a> = (&'a str, &'a str, &'a [String]);
    let mut keys: BTreeMap<Table<'_>, Option<Vec<&str>>> = BTreeMap::new();
    for note in notes {
        let Some((schema, name)) = &note.table else { continue };
        let of_table = keys.entry((schema, name, &note.key)).or_insert_with(|| Some(Vec::new()));
        match (&note.keys, of_table.as_mut()) {
            (Some(noted), Some(keys)) => keys.extend(noted.iter().map(String::as_str)),
            (None, _) => *of_table = None,
            (_, None) => {}
        }
    }
    for ((schema, name, key), keys) in keys {
        let mut params: Vec<&(dyn ToSql + Sync)> = vec![&schema, &name];
        let sql = match &keys {
            Some(keys) => {
                params.extend([keys as &(dyn ToSql + Sync), &key]);
                SETTLE_KEYS
            }
            None => SETTLE_WHOLE,
        };
        let sql = sql.replace("{slot}", SLOT_NOW);
        client.execute(&sql, &params).await?;
    }
    Ok(())
}

/// Adds to what is listed of a writer, and tells the history of a new burst.
async fn list(
    client: &Lease,
    side: Side,
    writer: &Writer,
    tables: Vec<Sum>,
) -> Result<(), SqlFault> {
    let first = tables.iter().filter_map(|it| it.seen).map(|seen| seen.0).min();
    let Some(first) = first else { return Ok(()) };
    let others = Writer {
        role: OTHERS.to_owned(),
        application: OTHERS.to_owned(),
        address: OTHERS.to_owned(),
    };
    let quiet = first.checked_sub(QUIET).unwrap_or(first);
    let known = async |id: &str| -> Result<(bool, bool), SqlFault> {
        let params: [&(dyn ToSql + Sync); 4] = [&id, &side.as_str(), &WRITERS_MAX, &quiet];
        let row = client.query_one(KNOWN, &params).await?;
        let found = || Ok::<_, SqlFault>((row.try_get(0)?, row.try_get(1)?));
        found()
    };
    let id = id_of(writer);
    let (fits, lasts) = known(&id).await?;
    let (writer, id, is_lasting) = match fits {
        true => (writer, id, lasts),
        false => {
            let id = id_of(&others);
            let lasts = known(&id).await?.1;
            (&others, id, lasts)
        }
    };
    client.execute(OPEN, &[&id, &side.as_str()]).await?;
    for Sum { table, seen } in &tables {
        let (first, last) = seen.unwrap_or((first, first));
        let (keys, whole) = (as_i64(table.keys), as_i64(table.whole));
        let params: [&(dyn ToSql + Sync); 10] = [
            &id,
            &side.as_str(),
            &table.table,
            &writer.role,
            &writer.application,
            &writer.address,
            &keys,
            &whole,
            &first,
            &last,
        ];
        client.execute(ADD, &params).await?;
    }
    if !is_lasting {
        let tables: Vec<ForeignTable> = tables.into_iter().map(|it| it.table).collect();
        let what = told(&tables);
        tracing::error!(%side, %writer, what, "a program writes on the side that follows, past segue");
        let reason = format!(
            "{writer} writes on the {side} past segue: {what}; it is reconciled back. See \
             `segue drift`"
        );
        client.execute(EVENT, &[&reason]).await?;
    }
    Ok(())
}

/// What commands name a writer by.
fn id_of(writer: &Writer) -> String {
    let Writer { role, application, address } = writer;
    let digest = Sha256::digest(format!("{role}\n{application}\n{address}"));
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    text[..ID_LENGTH].to_owned()
}

fn as_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// All of them: those that no one has resolved first, then the latest.
pub(super) async fn all(client: &Lease) -> Result<Vec<ForeignWriter>, SqlFault> {
    let rows = client.query(LIST, &[]).await?;
    let mut writers: Vec<ForeignWriter> = Vec::new();
    for row in &rows {
        let (found, table) = read(row, client.side())?;
        match writers.iter_mut().find(|it| it.id == found.id && it.side == found.side) {
            None => writers.push(ForeignWriter { tables: vec![table], ..found }),
            Some(known) => {
                known.tables.push(table);
                known.first_seen = known.first_seen.min(found.first_seen);
                known.last_seen = known.last_seen.max(found.last_seen);
                known.resolved = known.resolved.take().and(found.resolved);
            }
        }
    }
    writers.sort_by_key(|it| (!it.is_open(), std::cmp::Reverse(it.last_seen)));
    Ok(writers)
}

fn read(row: &Row, here: Side) -> Result<(ForeignWriter, ForeignTable), SqlFault> {
    let count = |at: usize| row.try_get::<_, i64>(at).map(|it| it.max(0).unsigned_abs());
    let resolved: Option<SystemTime> = row.try_get(10)?;
    let (by, reason) = (row.try_get(11)?, row.try_get(12)?);
    let side = match row.try_get::<_, &str>(1)? {
        "source" => Side::Source,
        "target" => Side::Target,
        _ => here.other(),
    };
    let found = ForeignWriter {
        id: row.try_get(0)?,
        writer: Writer {
            role: row.try_get(3)?,
            application: row.try_get(4)?,
            address: row.try_get(5)?,
        },
        side,
        tables: Vec::new(),
        first_seen: row.try_get(8)?,
        last_seen: row.try_get(9)?,
        resolved: resolved.map(|at| Resolved { at, by, reason }),
    };
    Ok((found, ForeignTable { table: row.try_get(2)?, keys: count(6)?, whole: count(7)? }))
}

/// Resolves one writer, or all, recorded in the history; answers how many.
pub(super) async fn resolve(
    client: &Lease,
    id: Option<&str>,
    by: &str,
    reason: &str,
) -> Result<u64, SqlFault> {
    client.execute(RESOLVE, &[&id, &by, &reason]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_told_apart_by_all_three() {
        let writer = |role: &str, application: &str, address: &str| Writer {
            role: role.to_owned(),
            application: application.to_owned(),
            address: address.to_owned(),
        };
        let ids: std::collections::BTreeSet<String> = [
            writer("a", "b", "c"),
            writer("a", "b", "d"),
            writer("a", "c", "c"),
            writer("b", "b", "c"),
        ]
        .iter()
        .map(id_of)
        .collect();
        assert_eq!(ids.len(), 4);
        assert!(ids.iter().all(|id| id.len() == ID_LENGTH));
    }
}
