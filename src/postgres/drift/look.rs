//! What one side's catalogue and counters say, and what they said last.

use std::time::{Duration, SystemTime};

use tokio_postgres::types::ToSql;

use crate::domain::drift::{Counted, Seen};
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

/// Counters are held against the outbox so often. A server of version 15 or later counts what was
/// committed within a minute, so that whatever is counted now was committed after the look before
/// the last.
pub(super) const COUNT_EVERY: Duration = Duration::from_secs(60);

/// How thoroughly it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Counters are held against the outbox when that is due.
    Routine,
    /// They are now: something is decided by it.
    Thorough,
}

/// Capture's triggers of one relation: for inserts, updates, deletes and `TRUNCATE` at least.
const TRIGGERS_MIN: u32 = 4;

/// A table as it is, and as it was.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: i32,
    /// On the source.
    pub(super) name: TableName,
    pub(super) now: Seen,
    pub(super) before: Option<Seen>,
    /// The version of the row that says what it was; another one may have noted since.
    version: Option<String>,
    /// Its counters are to be held against what triggers saw, and the new ones to be kept.
    pub(super) is_counted: bool,
    /// When the last counters were kept is long enough ago.
    pub(super) is_due: bool,
    /// What is seen now has been noted.
    is_noted: bool,
    is_primary: bool,
    /// The side was the primary then, or not, as it is now; otherwise its counters say nothing of now.
    pub(super) was_the_same: bool,
    /// The look before the one that kept the last counters, if the same holds of it.
    pub(super) since: Option<Since>,
}

/// A look after which all was committed that a later look finds counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    /// The oldest transaction then.
    pub(super) horizon: i64,
    /// When it was.
    pub(super) at: SystemTime,
}

/// Versions are digests of `xmin`s: the row of a trigger that was switched off and on again is
/// another one, though it says the same. Counters of servers before version 15 come whenever their
/// session has something else to do, and are not relied on.
fn question() -> String {
    format!(
        "WITH RECURSIVE m AS (SELECT * FROM ROWS FROM (pg_catalog.unnest($2::int4[]), \
            pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[])) \
            AS t (table_id, schema_name, name)), \
        parts AS ( \
            SELECT m.table_id, c.oid, '' AS link FROM m \
            JOIN pg_catalog.pg_namespace AS n ON n.nspname = m.schema_name \
            JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = m.name \
            UNION ALL \
            SELECT p.table_id, i.inhrelid, pg_catalog.concat(i.inhparent, '/', i.xmin) \
            FROM parts AS p JOIN pg_catalog.pg_inherits AS i ON i.inhparent = p.oid \
            JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND c.relispartition), \
        triggers AS ( \
            SELECT p.table_id, p.oid, g.oid AS trigger, g.xmin, g.tgenabled, g.tgfoid \
            FROM parts AS p JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = p.oid \
            WHERE pg_catalog.starts_with(g.tgname::text, 'segue_capture_')), \
        t AS (SELECT table_id, pg_catalog.bool_and(tgenabled IN ('O', 'A')) AS enabled, \
            pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat(trigger, '/', xmin, '/', \
                tgenabled, '/', tgfoid), ',' ORDER BY trigger)) AS version \
            FROM triggers GROUP BY table_id), \
        bare AS (SELECT p.table_id FROM parts AS p LEFT JOIN triggers AS g USING (oid) \
            JOIN pg_catalog.pg_class AS c ON c.oid = p.oid \
            WHERE c.relkind = 'r' OR p.link = '' GROUP BY p.table_id, p.oid HAVING pg_catalog.count(g.trigger) < {TRIGGERS_MIN}), \
        f AS (SELECT g.table_id, pg_catalog.md5(pg_catalog.string_agg( \
                pg_catalog.concat(p.oid, '/', p.xmin), ',' ORDER BY p.oid)) AS version \
            FROM (SELECT DISTINCT table_id, tgfoid FROM triggers) AS g \
            JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid GROUP BY g.table_id), \
        a AS (SELECT p.table_id, pg_catalog.md5(pg_catalog.string_agg( \
                pg_catalog.concat(p.oid, '/', a.attnum, '/', a.xmin), ',' \
                ORDER BY p.oid, a.attnum)) AS version \
            FROM parts AS p JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.oid \
            WHERE a.attnum > 0 GROUP BY p.table_id), \
        l AS (SELECT p.table_id, pg_catalog.md5(pg_catalog.string_agg( \
                pg_catalog.concat(p.oid, '/', p.link), ',' ORDER BY p.oid)) AS version, \
            coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_tuples_inserted(p.oid) \
                + pg_catalog.pg_stat_get_tuples_updated(p.oid) \
                + pg_catalog.pg_stat_get_tuples_deleted(p.oid)), 0)::int8 AS changes, \
            coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_mod_since_analyze(p.oid)), 0)::int8 \
                AS committed, \
            coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_analyze_count(p.oid) \
                + pg_catalog.pg_stat_get_autoanalyze_count(p.oid)), 0)::int8 AS analyzed \
            FROM parts AS p GROUP BY p.table_id) \
        SELECT m.table_id, m.schema_name, m.name, coalesce(t.version, ''), \
            coalesce(t.enabled, false) AND NOT EXISTS ( \
                SELECT FROM bare WHERE bare.table_id = m.table_id), \
            coalesce(f.version, ''), l.version, coalesce(a.version, ''), \
            l.changes, l.committed, l.analyzed, \
            pg_catalog.current_setting('server_version_num')::int4 >= 150000 \
                AND pg_catalog.current_setting('track_counts')::bool, \
            s.xmin::text, s.triggers, s.is_on, s.is_needed, s.functions, s.partitions, s.columns, s.changes, \
            s.committed, s.analyzed, s.horizon_before, s.is_primary, \
            coalesce(s.counted_at < pg_catalog.clock_timestamp() - $1 * '1 second'::interval, true), \
            s.counted_before \
        FROM m JOIN l USING (table_id) LEFT JOIN t USING (table_id) \
        LEFT JOIN f USING (table_id) LEFT JOIN a USING (table_id) \
        LEFT JOIN segue.capture_seen AS s USING (table_id) ORDER BY m.table_id"
    )
}

/// The tables of the migration, which the primary knows.
#[derive(Debug, Default)]
pub(super) struct Tables {
    ids: Vec<i32>,
    source: Vec<TableName>,
    target: Vec<TableName>,
}

// === impl Tables ===

impl Tables {
    /// Where they are on both sides.
    pub(super) fn mappings(&self) -> Vec<TableMapping> {
        let pairs = self.source.iter().zip(&self.target);
        pairs
            .map(|(source, target)| TableMapping { source: source.clone(), target: target.clone() })
            .collect()
    }

    /// The id of a table of a side, and its name on the source.
    pub(super) fn find(&self, side: Side, name: &TableName) -> Option<(i32, TableName)> {
        let names = if side == Side::Source { &self.source } else { &self.target };
        let at = names.iter().position(|found| found == name)?;
        Some((*self.ids.get(at)?, self.source.get(at)?.clone()))
    }
}

const TABLES: &str = "SELECT table_id, source_schema, source_name, target_schema, target_name \
    FROM segue.migrated_table ORDER BY table_id";

/// Asks the primary for them.
pub(super) async fn tables(primary: &Lease) -> Result<Tables, SqlFault> {
    let mut tables = Tables::default();
    for row in primary.query(TABLES, &[]).await? {
        let name = |at: usize| {
            Ok::<_, SqlFault>(TableName::new(
                row.try_get::<_, String>(at)?,
                row.try_get::<_, String>(at + 1)?,
            ))
        };
        tables.ids.push(row.try_get(0)?);
        tables.source.push(name(1)?);
        tables.target.push(name(3)?);
    }
    Ok(tables)
}

/// Every table of the migration that is there on this side.
pub(super) async fn known(
    client: &Lease,
    tables: &Tables,
    is_primary: bool,
    is_needed: bool,
) -> Result<Vec<Known>, SqlFault> {
    let due = COUNT_EVERY.as_secs_f64();
    let names = match client.side() {
        Side::Source => &tables.source,
        Side::Target => &tables.target,
    };
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let names: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let rows = client.query(&question(), &[&due, &tables.ids, &schemas, &names]).await?;
    let mut known = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut table = of_row(row, is_primary, is_needed)?;
        let at = tables.ids.iter().position(|id| *id == table.id);
        if let Some(name) = at.and_then(|at| tables.source.get(at)) {
            table.name = name.clone();
        }
        known.push(table);
    }
    Ok(known)
}

fn of_row(row: &Row, is_primary: bool, is_needed: bool) -> Result<Known, SqlFault> {
    let relied_on: bool = row.try_get(11)?;
    let counted = |at: usize| -> Result<Option<Counted>, SqlFault> {
        let [changes, committed, analyzed] = [at, at + 1, at + 2].map(|at| row.try_get(at));
        let counted = (changes?, committed?, analyzed?);
        Ok(match counted {
            (Some(changes), Some(committed), Some(analyzed)) if relied_on => {
                Some(Counted { changes, committed, analyzed })
            }
            _ => None,
        })
    };
    let version: Option<String> = row.try_get(12)?;
    let before = match version {
        None => None,
        Some(_) => Some(Seen {
            triggers: row.try_get(13)?,
            is_on: row.try_get(14)?,
            is_needed: row.try_get(15)?,
            functions: row.try_get(16)?,
            partitions: row.try_get(17)?,
            columns: row.try_get(18)?,
            counted: counted(19)?,
        }),
    };
    let was_primary: Option<bool> = row.try_get(23)?;
    let (horizon, at): (Option<i64>, Option<SystemTime>) = (row.try_get(22)?, row.try_get(25)?);
    Ok(Known {
        id: row.try_get(0)?,
        name: TableName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?),
        now: Seen {
            triggers: row.try_get(3)?,
            is_on: row.try_get(4)?,
            is_needed,
            functions: row.try_get(5)?,
            partitions: row.try_get(6)?,
            columns: row.try_get(7)?,
            counted: counted(8)?,
        },
        before,
        version,
        is_counted: false,
        is_noted: false,
        is_due: row.try_get(24)?,
        is_primary,
        was_the_same: was_primary == Some(is_primary),
        since: horizon.zip(at).map(|(horizon, at)| Since { horizon, at }),
    })
}

/// `$12`: the counters are kept anew. What was counted before the last such moment may have been
/// committed before it, but not before the one before that. What was written under other triggers,
/// or in the other role, is left out of account in the same way.
const NOTE: &str = "\
    INSERT INTO segue.capture_seen AS s (table_id, triggers, is_on, is_needed, functions, \
        partitions, columns, changes, committed, analyzed, is_primary, counted_at, horizon) \
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, pg_catalog.clock_timestamp(), \
        pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::int8 \
    ON CONFLICT (table_id) DO UPDATE SET triggers = excluded.triggers, is_on = excluded.is_on, \
        is_needed = excluded.is_needed, functions = excluded.functions, \
        partitions = excluded.partitions, columns = excluded.columns, changes = excluded.changes, \
        committed = excluded.committed, analyzed = excluded.analyzed, \
        is_primary = excluded.is_primary, \
        counted_at = CASE WHEN $12 THEN excluded.counted_at ELSE s.counted_at END, \
        horizon_before = CASE WHEN NOT $12 THEN s.horizon_before \
            WHEN (s.is_primary, s.triggers, s.functions) = (excluded.is_primary, \
                excluded.triggers, excluded.functions) THEN s.horizon END, \
        counted_before = CASE WHEN NOT $12 THEN s.counted_before ELSE s.counted_at END, \
        horizon = CASE WHEN $12 THEN excluded.horizon ELSE s.horizon END \
    WHERE s.xmin::text = $13";

/// Notes what was seen of a table that something was noticed of, where nobody else has since.
/// False where that is so, or where it was noticed before.
pub(super) async fn note_one(client: &Lease, table: &mut Known) -> Result<bool, SqlFault> {
    let same = |before: &Seen| before.is_of_the_same_catalogue(&table.now);
    if table.before.as_ref().is_some_and(same) && !(table.is_counted && table.now.is_on) {
        return Ok(false);
    }
    let noted = write(client, table, true).await?;
    table.is_noted = true;
    Ok(noted)
}

/// Notes the others: what is seen for the first time, what may have come, and what was counted.
/// Answers whether counters were kept anew.
pub(super) async fn note(client: &Lease, known: &[Known]) -> Result<bool, SqlFault> {
    let mut rebased = false;
    for table in known.iter().filter(|it| !it.is_noted) {
        let rebase = table.is_due || !table.was_the_same;
        let is_new = table.before.as_ref().is_none_or(|before| {
            !before.is_of_the_same_catalogue(&table.now) || before.is_needed != table.now.is_needed
        });
        if rebase || is_new {
            write(client, table, rebase).await?;
            rebased |= rebase;
        }
    }
    Ok(rebased)
}

async fn write(client: &Lease, table: &Known, rebase: bool) -> Result<bool, SqlFault> {
    let Known { id, now, before, version, is_primary, .. } = table;
    let kept = before.as_ref().filter(|_| !rebase).and_then(|it| it.counted);
    let counted = kept.or(now.counted);
    let changes = counted.map(|it| it.changes);
    let committed = counted.map(|it| it.committed);
    let analyzed = counted.map(|it| it.analyzed);
    let params: [&(dyn ToSql + Sync); 13] = [
        id,
        &now.triggers,
        &now.is_on,
        &now.is_needed,
        &now.functions,
        &now.partitions,
        &now.columns,
        &changes,
        &committed,
        &analyzed,
        is_primary,
        &rebase,
        version,
    ];
    Ok(client.execute(NOTE, &params).await? == 1)
}

/// Nothing is captured any more: whatever was seen says nothing of a later migration.
pub(super) async fn forget(client: &Lease) -> Result<(), SqlFault> {
    client.execute("DELETE FROM segue.capture_seen", &[]).await?;
    client.execute("DELETE FROM segue.accounted", &[]).await.map(drop)
}
