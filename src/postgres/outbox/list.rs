//! What operators and the comparer ask of the outbox.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::key::{Key, OutboxMark, RowsOfTable, WriteId};
use crate::domain::page::{Cursor, Page, PageRequest};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::status::{OutboxEntry, OutboxStatus};
use crate::domain::table::{TableName, TableRef};
use crate::ports::PendingKeys;
use crate::ports::admin::OutboxAdmin;
use crate::postgres::control::cursor;
use crate::postgres::outbox::unreadable::readable;
use crate::postgres::outbox::{Outbox, place_of};
use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};
use crate::postgres::session::asked::Row;

const LIST: &str = "\
    SELECT t.source_schema, t.source_name, t.target_schema, t.target_name, \
        CASE WHEN r.range_id IS NULL THEN {key} ELSE ARRAY[pg_catalog.concat( \
            '(', coalesce(pg_catalog.array_to_string(r.after_key, ' '), '…'), ', ', \
            coalesce(pg_catalog.array_to_string(r.until_key, ' '), '…'), ']')] END, \
        o.write_id::text, o.created_at, o.attempts, o.next_attempt_at, o.last_error, o.table_id, \
        pg_catalog.md5(coalesce(o.key::text, '')), coalesce(o.write_id::text, '') \
    FROM segue.outbox AS o LEFT JOIN segue.migrated_table AS t USING (table_id) \
    LEFT JOIN segue.key_range AS r ON r.range_id = o.write_id AND o.key IS NULL \
    WHERE o.forgotten_at IS NULL AND o.attempts >= $1 AND ($3::timestamptz IS NULL \
        OR o.created_at > $3::timestamptz \
        OR o.created_at = $3::timestamptz AND {order} > ($4::int4, $5::text, $6::text)) \
    ORDER BY o.created_at, {ordered} LIMIT $2";

/// What rows of one moment are told apart by; none of it changes while a row is pending.
///
/// Of the key its digest: a key may have bytes that are no text, and be long.
const ORDER: &str = "o.table_id, pg_catalog.md5(coalesce(o.key::text, '')), \
    coalesce(o.write_id::text, '')";

/// Rows that a member holds are on their way already, and are passed over.
const RETRY: &str = "\
    WITH waiting AS ( \
        SELECT o.slot, o.{place} AS place FROM segue.outbox AS o \
        WHERE o.forgotten_at IS NULL AND o.next_attempt_at > pg_catalog.now() \
            AND ($1::int4 IS NULL OR o.table_id = $1::int4) FOR UPDATE SKIP LOCKED) \
    UPDATE segue.outbox AS o SET next_attempt_at = pg_catalog.now() FROM waiting AS w \
    WHERE o.slot = w.slot AND o.{place} = w.place";

const MARK: &str = "\
    SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() \
        - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::int8";

/// The rows of the asked tables, as `o`; the condition follows. A name that is no migrated
/// table's may be a view over any of them.
const OF_TABLES: &str = "\
    WITH asked AS (SELECT * FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS s(schema, n) \
        JOIN pg_catalog.unnest($2::text[]) WITH ORDINALITY AS r(name, n) USING (n)), \
    tables AS (SELECT table_id, \
        CASE WHEN $3 THEN source_schema ELSE target_schema END AS schema, \
        CASE WHEN $3 THEN source_name ELSE target_name END AS name FROM segue.migrated_table), \
    known AS (SELECT a.n, t.table_id FROM asked AS a JOIN tables AS t \
        ON t.name = a.name AND (a.schema = '' OR a.schema = t.schema)), \
    unknown AS (SELECT 1 FROM asked AS a WHERE a.n NOT IN (SELECT n FROM known)), \
    mark AS (SELECT '2000-01-01 00:00:00+00'::timestamptz + $4::float8 * '1 microsecond'::interval AS at) \
    SELECT EXISTS (SELECT 1 FROM segue.outbox AS o, mark WHERE \
        (o.table_id IN (SELECT table_id FROM known) OR EXISTS (SELECT 1 FROM unknown)) AND ";

/// The tables of this name, with the columns of their keys in order.
const KEY_OF_TABLE: &str = "\
    SELECT table_id, key_columns FROM segue.migrated_table \
    WHERE $2 = CASE WHEN $3 THEN source_name ELSE target_name END \
        AND $1 IN ('', CASE WHEN $3 THEN source_schema ELSE target_schema END)";

/// Keys come one after the other, each of so many values.
const PENDING_ROWS: &str = "\
    WITH asked AS (SELECT pg_catalog.array_agg(u.value ORDER BY u.n) AS key \
        FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS u(value, n) GROUP BY (u.n - 1) / $3), \
    mark AS (SELECT '2000-01-01 00:00:00+00'::timestamptz + $4::float8 * '1 microsecond'::interval AS at) \
    SELECT EXISTS (SELECT 1 FROM segue.outbox AS o, mark WHERE o.table_id = $1 \
        AND o.forgotten_at IS NULL AND o.created_at < mark.at \
        AND (o.key IS NULL OR o.key IN (SELECT key FROM asked)))";

const STILL_PENDING: &str = "o.forgotten_at IS NULL AND o.created_at < mark.at)";

/// What was written or forgotten since the mark stands in the parts of the ring of these
/// minutes, unless it was pending for long; and that was asked before.
fn touched() -> String {
    let slot = |at: &str| {
        format!(
            "pg_catalog.mod(pg_catalog.floor(pg_catalog.date_part('epoch', {at}) \
             / {SLOT_SECONDS})::int8, {OUTBOX_SLOTS})"
        )
    };
    let (then, now) = (slot("mark.at"), slot("pg_catalog.clock_timestamp()"));
    let before = slot(&format!("mark.at - '{SLOT_SECONDS} seconds'::interval"));
    format!(
        "o.slot IN ({before}, {then}, {now}) \
         AND (o.created_at >= mark.at OR o.forgotten_at >= mark.at OR o.forgotten_at IS NULL)) \
         OR EXISTS (SELECT 1 FROM segue.outbox_state AS s, mark WHERE s.removed_until >= mark.at)"
    )
}

/// Keys that this member reconciled, and attempts that failed.
pub type Totals = dyn Fn() -> (u64, u64) + Send + Sync;

/// The outbox for operators.
pub struct OutboxOperations {
    outbox: Outbox,
    bytes_max: u64,
    totals: Arc<Totals>,
}

impl std::fmt::Debug for OutboxOperations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutboxOperations").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

impl OutboxOperations {
    /// `totals` tells what the replayer has done.
    pub fn new(outbox: Outbox, bytes_max: u64, totals: Arc<Totals>) -> Self {
        Self { outbox, bytes_max, totals }
    }
}

impl Outbox {
    async fn any_of(
        &self,
        tables: &[TableRef],
        mark: OutboxMark,
        sql: &str,
    ) -> Result<bool, SqlFault> {
        let client = self.client().await?;
        let schemas: Vec<&str> =
            tables.iter().map(|table| table.schema.as_deref().unwrap_or("")).collect();
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let on_source = self.side() == Side::Source;
        let mark = mark.0 as f64;
        let asked = client.prepared(sql).await?;
        let row =
            client.query_one(&asked.statement, &[&schemas, &names, &on_source, &mark]).await?;
        row.try_get(0)
    }

    async fn any_of_rows(
        &self,
        rows: &RowsOfTable,
        mark: OutboxMark,
    ) -> Result<Option<bool>, SqlFault> {
        let client = self.client().await?;
        let schema = rows.table.schema.as_deref().unwrap_or("");
        let on_source = self.side() == Side::Source;
        let asked = client.prepared(KEY_OF_TABLE).await?;
        let found =
            client.query(&asked.statement, &[&schema, &rows.table.name, &on_source]).await?;
        // Of several tables of that name nobody knows which.
        let [table] = found.as_slice() else { return Ok(None) };
        let table_id: i32 = table.try_get(0)?;
        let key: Vec<String> = table.try_get(1)?;
        let mut values: Vec<&str> = Vec::new();
        for row in &rows.rows {
            for column in &key {
                let Some(value) = row.get(column) else { return Ok(None) };
                values.push(value);
            }
        }
        let width = i64::try_from(key.len().max(1)).unwrap_or(1);
        let mark = mark.0 as f64;
        let asked = client.prepared(PENDING_ROWS).await?;
        let row = client.query_one(&asked.statement, &[&table_id, &values, &width, &mark]).await;
        row.and_then(|row| row.try_get(0)).map(Some)
    }

    /// A page of the pending keys, oldest first; those alone that have failed where `failed_only`,
    /// whether they count as stuck already or not.
    ///
    /// # Errors
    ///
    /// What the database reports; `InvalidArgument` for a cursor that is not of this list.
    pub async fn list(
        &self,
        page: &PageRequest,
        failed_only: bool,
    ) -> Result<Page<OutboxEntry>, SqlFault> {
        let client = self.client().await?;
        let least = i32::from(failed_only);
        let key = match client.dialect().makes_keys_readable() {
            true => readable("o.key"),
            false => "o.key".to_owned(),
        };
        let sql = LIST.replace("{key}", &key).replace("{order}", &format!("({ORDER})"));
        let sql = sql.replace("{ordered}", ORDER);
        let limit = i64::from(page.size) + 1;
        let after = page.after.as_ref().map(Listed::parse).transpose()?;
        let (at, table_id, key, write_id) = match &after {
            None => (None, 0, "", ""),
            Some(it) => {
                (Some(it.created_at), it.table_id, it.key_digest.as_str(), it.write_id.as_str())
            }
        };
        let params: [&(dyn ToSql + Sync); 6] = [&least, &limit, &at, &table_id, &key, &write_id];
        let rows = client.query(&sql, &params).await?;
        let read = |row| Ok((entry(row, self.side(), self.stuck_after)?, Listed::read(row)?));
        let found: Result<Vec<_>, _> = rows.iter().map(read).collect();
        let found = found?;
        let Page { items, next } = Page::cut(found, page.size, |(_, listed)| listed.cursor());
        Ok(Page { items: items.into_iter().map(|(entry, _)| entry).collect(), next })
    }

    /// Makes waiting rows due now.
    ///
    /// # Errors
    ///
    /// What the database reports; `NotFound` for a table that is not migrated.
    pub async fn retry(&self, table: Option<&TableName>) -> Result<u64, SqlFault> {
        let client = self.client().await?;
        let mut table_id: Option<i32> = None;
        if let Some(table) = table {
            let side = match self.side() {
                Side::Source => "source",
                Side::Target => "target",
            };
            let sql = format!(
                "SELECT table_id FROM segue.migrated_table \
                 WHERE {side}_schema = $1 AND {side}_name = $2"
            );
            let found = client.query_opt(&sql, &[&table.schema, &table.name]).await;
            let Some(row) = found? else {
                let kind = crate::domain::fault::FaultKind::NotFound;
                return Err(SqlFault::new(
                    kind,
                    Reason::OutboxTable,
                    format!("table {table} is not migrated; the outbox has no rows of it"),
                ));
            };
            table_id = Some(row.try_get(0)?);
        }
        let retry = RETRY.replace("{place}", place_of(&client).0);
        client.execute(&retry, &[&table_id]).await
    }
}

/// What a page of the list ends with.
struct Listed {
    created_at: SystemTime,
    table_id: i32,
    key_digest: String,
    write_id: String,
}

// === impl Listed ===

impl Listed {
    fn read(row: &Row) -> Result<Self, SqlFault> {
        Ok(Self {
            created_at: row.try_get(6)?,
            table_id: row.try_get(10)?,
            key_digest: row.try_get(11)?,
            write_id: row.try_get(12)?,
        })
    }

    fn cursor(&self) -> Cursor {
        Cursor(vec![
            cursor::of_time(self.created_at),
            self.table_id.to_string(),
            self.key_digest.clone(),
            self.write_id.clone(),
        ])
    }

    fn parse(cursor: &Cursor) -> Result<Self, SqlFault> {
        let [at, table_id, key_digest, write_id] = cursor.0.as_slice() else {
            return Err(cursor::unknown());
        };
        Ok(Self {
            created_at: cursor::time(at)?,
            table_id: table_id.parse().map_err(|_| cursor::unknown())?,
            key_digest: key_digest.clone(),
            write_id: write_id.clone(),
        })
    }
}

fn entry(row: &Row, side: Side, stuck_after: i32) -> Result<OutboxEntry, SqlFault> {
    let first = if side == Side::Source { 0 } else { 2 };
    let schema: Option<String> = row.try_get(first)?;
    let name: Option<String> = row.try_get(first + 1)?;
    let table_id: i32 = row.try_get(10)?;
    let table = match (schema, name) {
        (Some(schema), Some(name)) => TableName::new(schema, name),
        _ => TableName::new("?", format!("table id {table_id}")),
    };
    let attempts: i32 = row.try_get(7)?;
    let write_id: Option<String> = row.try_get(5)?;
    let write_id = write_id.and_then(|text| text.parse::<uuid::Uuid>().ok());
    Ok(OutboxEntry {
        key: Key { table, values: row.try_get(4)? },
        write_id: write_id.map(|id| WriteId(id.as_u128())),
        created_at: row.try_get::<_, SystemTime>(6)?,
        attempts: u32::try_from(attempts).unwrap_or(0),
        next_attempt_at: row.try_get::<_, SystemTime>(8)?,
        last_error: row.try_get::<_, Option<String>>(9)?.unwrap_or_default(),
        stuck: attempts >= stuck_after,
    })
}

impl OutboxAdmin for OutboxOperations {
    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, SqlFault>> {
        Box::pin(async move {
            let (reconciled_total, failed_total) = (self.totals)();
            let status = self.outbox.status().await?;
            Ok(OutboxStatus { bytes_max: self.bytes_max, reconciled_total, failed_total, ..status })
        })
    }

    fn list(
        &self,
        page: PageRequest,
        failed_only: bool,
    ) -> BoxFuture<'_, Result<Page<OutboxEntry>, SqlFault>> {
        Box::pin(async move { self.outbox.list(&page, failed_only).await })
    }

    fn retry(&self, table: Option<TableName>) -> BoxFuture<'_, Result<u64, SqlFault>> {
        Box::pin(async move { self.outbox.retry(table.as_ref()).await })
    }
}

impl PendingKeys for Outbox {
    fn mark(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>> {
        Box::pin(async move {
            let client = self.client().await?;
            let row = client.query_one(MARK, &[]).await?;
            row.try_get(0).map(OutboxMark)
        })
    }

    fn pending<'a>(
        &'a self,
        tables: &'a [TableRef],
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        Box::pin(async move {
            self.any_of(tables, before, &format!("{OF_TABLES}{STILL_PENDING}")).await
        })
    }

    fn pending_rows<'a>(
        &'a self,
        rows: &'a RowsOfTable,
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<Option<bool>, SqlFault>> {
        Box::pin(self.any_of_rows(rows, before))
    }

    fn quiet<'a>(
        &'a self,
        tables: &'a [TableRef],
        since: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        Box::pin(async move {
            let touched = self.any_of(tables, since, &format!("{OF_TABLES}{}", touched())).await?;
            Ok(!touched)
        })
    }
}
