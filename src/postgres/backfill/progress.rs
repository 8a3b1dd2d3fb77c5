//! How far a copy is, from `segue.backfill`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::backfill::{BackfillProgress, TableProgress, WorkerProgress};
use crate::domain::fault::SqlFault;
use crate::domain::table::TableName;
use crate::ports::admin::BackfillAdmin;
use crate::postgres::pool::Pool;
use crate::postgres::session::asked::Row;

const TABLES: &str = "\
    SELECT t.table_id, t.source_schema, t.source_name, t.rows_estimated, t.chunks, t.split_done, \
        coalesce(s.rows, 0)::int8, coalesce(s.bytes, 0)::int8, coalesce(s.reconciled, 0)::int8, \
        coalesce(s.failed, 0)::int8, coalesce(s.done, 0), coalesce(s.claimed, 0), \
        coalesce(s.last_error, '') \
    FROM segue.backfill_table AS t LEFT JOIN ( \
        SELECT table_id, pg_catalog.sum(rows) AS rows, pg_catalog.sum(bytes) AS bytes, \
            pg_catalog.sum(reconciled) AS reconciled, pg_catalog.sum(failed) AS failed, \
            pg_catalog.count(*) FILTER (WHERE state = 'done') AS done, \
            pg_catalog.count(*) FILTER (WHERE state = 'claimed') AS claimed, \
            pg_catalog.max(last_error) AS last_error \
        FROM segue.backfill GROUP BY table_id) AS s USING (table_id) \
    WHERE $1::int4[] IS NULL OR t.table_id = ANY ($1::int4[]) ORDER BY t.place, t.table_id";

const WORKERS: &str = "\
    SELECT host, workers, lease_until > pg_catalog.clock_timestamp(), throttled, share \
    FROM segue.backfill_worker ORDER BY started_at, owner";

/// Each table that is or was copied to this database, parents before children; of all, or of
/// these ids.
///
/// # Errors
///
/// What the database reports.
pub async fn tables(target: &Pool, ids: Option<&[i32]>) -> Result<Vec<TableProgress>, SqlFault> {
    let client = target.get().await?;
    let rows = client.query(TABLES, &[&ids]).await?;
    let read = |row: &Row| -> Result<TableProgress, SqlFault> {
        let count = |index| row.try_get::<_, i64>(index).map(|it| it.max(0).unsigned_abs());
        let name = TableName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?);
        Ok(TableProgress {
            table_id: row.try_get(0)?,
            table: name.to_string(),
            rows_estimated: count(3)?,
            chunks: count(4)?,
            split_done: row.try_get(5)?,
            rows: count(6)?,
            bytes: count(7)?,
            reconciled: count(8)?,
            failed: count(9)?,
            chunks_done: count(10)?,
            chunks_claimed: count(11)?,
            last_error: row.try_get(12)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>()
}

/// The processes that copy, or did until lately.
///
/// # Errors
///
/// What the database reports.
pub async fn workers(target: &Pool) -> Result<Vec<WorkerProgress>, SqlFault> {
    let client = target.get().await?;
    let rows = client.query(WORKERS, &[]).await?;
    let read = |row: &Row| -> Result<WorkerProgress, SqlFault> {
        Ok(WorkerProgress {
            host: row.try_get(0)?,
            workers: u32::try_from(row.try_get::<_, i32>(1)?).unwrap_or(0),
            alive: row.try_get(2)?,
            throttled: row.try_get(3)?,
            share: row.try_get(4)?,
        })
    };
    rows.iter().map(read).collect::<Result<_, _>>()
}

/// The progress for operators.
#[derive(Debug, Clone)]
pub struct BackfillStatus {
    target: Pool,
}

impl BackfillStatus {
    /// That of the copies to this target.
    pub fn new(target: Pool) -> Self {
        Self { target }
    }
}

impl BackfillAdmin for BackfillStatus {
    fn progress(&self) -> BoxFuture<'_, Result<BackfillProgress, SqlFault>> {
        async move {
            let tables = tables(&self.target, None).await?;
            let workers = workers(&self.target).await?;
            Ok(BackfillProgress { tables, workers })
        }
        .boxed()
    }
}
