//! Which tables still have keys waiting in the outbox, for the comparer.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;
use crate::domain::key::OutboxMark;
use crate::domain::side::Side;
use crate::domain::table::TableRef;
use crate::ports::PendingKeys;
use crate::postgres::pool::Pool;

const MARK: &str = "
SELECT (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::int8
    - 946684800000000";

/// A name that is no migrated table (a view, a function's table) may stand on any of them, so
/// that it counts as all of them.
const PENDING: &str = "
WITH named AS (
    SELECT * FROM pg_catalog.unnest($1::text[], $2::text[]) AS n (schema, name)
), known AS (
    SELECT t.table_id, n.name FROM segue.migrated_table AS t
    JOIN named AS n ON n.name = CASE WHEN $4 THEN t.target_name ELSE t.source_name END
        AND (n.schema IS NULL
            OR n.schema = CASE WHEN $4 THEN t.target_schema ELSE t.source_schema END)
)
SELECT EXISTS (
    SELECT FROM segue.outbox AS o
    WHERE o.forgotten_at IS NULL
        AND o.created_at <= timestamptz '2000-01-01 00:00:00+00' + $3 * interval '1 microsecond'
        AND (o.table_id IN (SELECT k.table_id FROM known AS k)
            OR EXISTS (SELECT FROM named AS n WHERE n.name NOT IN (SELECT k.name FROM known AS k)))
)";

/// The outbox of the primary, asked for what is pending.
#[derive(Debug, Clone)]
pub struct PendingTables {
    pool: Pool,
}

// === impl PendingTables ===

impl PendingTables {
    /// Asks the outbox of the primary through a pool of segue's own connections there.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    async fn mark_now(&self) -> Result<OutboxMark, SqlFault> {
        let session = self.pool.get().await?;
        let prepared = session.prepared(MARK).await?;
        let asking = async { session.query_one(&prepared.statement, &[]).await?.try_get(0) };
        asking.await.map(OutboxMark).map_err(|error| session.fault(error, true))
    }

    async fn any_pending(&self, tables: &[TableRef], before: OutboxMark) -> Result<bool, SqlFault> {
        let session = self.pool.get().await?;
        let prepared = session.prepared(PENDING).await?;
        let schemas: Vec<Option<&str>> =
            tables.iter().map(|table| table.schema.as_deref()).collect();
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let on_target = session.side() == Side::Target;
        let asking = async {
            session
                .query_one(&prepared.statement, &[&schemas, &names, &before.0, &on_target])
                .await?
                .try_get(0)
        };
        asking.await.map_err(|error| session.fault(error, true))
    }
}

impl PendingKeys for PendingTables {
    fn mark(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>> {
        self.mark_now().boxed()
    }

    fn pending<'a>(
        &'a self,
        tables: &'a [TableRef],
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        self.any_pending(tables, before).boxed()
    }
}
