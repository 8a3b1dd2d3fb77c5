//! How much of each table is proven, and since when: for the status, and for the report of a
//! cutover.

use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;
use crate::domain::status::{TableProven, VerifyStatus};
use crate::domain::table::TableName;
use crate::ports::admin::ProofStatus;
use crate::postgres::pool::Pool;
use crate::postgres::session::asked::Row;

/// Those first that have no proof, then those with the oldest. A proof is as old as the reading of
/// its chunk.
const TABLES: &str = "\
    SELECT m.source_schema, m.source_name, pg_catalog.count(v.chunk), \
        pg_catalog.count(*) FILTER (WHERE v.stands), \
        pg_catalog.count(*) FILTER (WHERE v.stands AND v.written_at IS NULL), \
        pg_catalog.min(v.read_at) FILTER (WHERE v.stands), \
        coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() \
            - pg_catalog.min(v.read_at) FILTER (WHERE v.stands)), 0), \
        coalesce(pg_catalog.max(v.void_reason) FILTER (WHERE NOT v.stands), '') \
    FROM segue.migrated_table AS m LEFT JOIN ( \
        SELECT p.*, t.void_reason, p.proven_at IS NOT NULL \
            AND coalesce(p.read_at > t.voided_at, true) AS stands \
        FROM segue.verify AS p LEFT JOIN segue.verify_table AS t USING (table_id)) AS v \
        USING (table_id) \
    GROUP BY m.table_id, m.source_schema, m.source_name \
    ORDER BY 6 NULLS FIRST, 1, 2";

/// The primary's table of proofs.
#[derive(Debug, Clone)]
pub struct ProofTable {
    primary: Pool,
}

// === impl ProofTable ===

impl ProofTable {
    /// The table behind a pool.
    pub fn new(primary: Pool) -> Self {
        Self { primary }
    }

    async fn figures(&self) -> Result<VerifyStatus, SqlFault> {
        let client = self.primary.get().await?;
        let mut status = VerifyStatus::default();
        for row in client.query(TABLES, &[]).await? {
            let (table, standing) = table(&row)?;
            status.chunks += table.chunks;
            status.proven += standing;
            status.written += table.proven.saturating_sub(standing);
            status.oldest_age_s = status.oldest_age_s.max(table.oldest_age_s);
            status.tables.push(table);
        }
        Ok(status)
    }
}

/// With how many chunks are proven and were not written since.
fn table(row: &Row) -> Result<(TableProven, u64), SqlFault> {
    let count = |index| row.try_get::<_, i64>(index).map(|count| count.max(0).unsigned_abs());
    let table = TableProven {
        table: TableName::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?),
        chunks: count(2)?,
        proven: count(3)?,
        oldest: row.try_get(5)?,
        oldest_age_s: row.try_get(6)?,
        void_reason: row.try_get(7)?,
        rows_under_fence: None,
    };
    Ok((table, count(4)?))
}

impl ProofStatus for ProofTable {
    fn status(&self) -> BoxFuture<'_, Result<VerifyStatus, SqlFault>> {
        Box::pin(self.figures())
    }
}
