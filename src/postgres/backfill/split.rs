//! Where to cut a table into chunks.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::{KeyValues, OutboxMark};
use crate::domain::key_range::KeyRange;
use crate::domain::reason::Reason;
use crate::ports::backfill::KeySplitter;
use crate::postgres::backfill::begin_reading;
use crate::postgres::backfill::plan::Tables;
use crate::postgres::backfill::table::CopyTable;
use crate::postgres::chunk::{KeySql, Order};
use crate::postgres::mapping::table::Role;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::asked::Row;

const NOW: &str = "\
    SELECT (pg_catalog.date_part('epoch', pg_catalog.statement_timestamp() \
        - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::int8";

/// Cuts the tables of a copy by the order of the source's primary keys, which their indexes
/// always serve. A range of it is only ever looked up on the source.
#[derive(Debug)]
pub struct Splitter {
    source: Pool,
    tables: HashMap<i32, Arc<CopyTable>>,
}

impl Splitter {
    /// A splitter of the planned tables.
    pub fn new(source: Pool, tables: Tables) -> Self {
        Self { source, tables: tables.0 }
    }

    async fn cut(&self, table_id: i32, sql: &str) -> Result<Vec<KeyValues>, SqlFault> {
        let client = self.source.get().await?;
        client.batch_execute(&begin_reading()).await?;
        let rows = match client.query(sql, &[]).await {
            Ok(rows) => rows,
            Err(mut fault) => {
                fault.message = format!("table id {table_id} cannot be cut: {}", fault.message);
                client.discard();
                return Err(fault);
            }
        };
        client.batch_execute("COMMIT").await?;
        let key = |row: &Row| {
            (0..row.len()).map(|index| row.try_get(index)).collect::<Result<KeyValues, _>>()
        };
        rows.iter().map(key).collect::<Result<_, _>>()
    }
}

/// The source's clock, before whatever is read next.
pub(super) async fn now(client: &Lease) -> Result<OutboxMark, SqlFault> {
    let row = client.query_one(NOW, &[]).await?;
    row.try_get(0).map(OutboxMark)
}

impl KeySplitter for Splitter {
    fn bounds<'a>(
        &'a self,
        table_id: i32,
        range: &'a KeyRange,
        rows: u64,
        bounds_max: usize,
    ) -> BoxFuture<'a, Result<Vec<KeyValues>, SqlFault>> {
        async move {
            let table = self.tables.get(&table_id).ok_or_else(|| {
                let message = format!("table id {table_id} is not part of this copy");
                SqlFault::new(FaultKind::Internal, Reason::BackfillTable, message)
            })?;
            let key = KeySql::new(&table.shape, Role::Primary, Order::Own);
            self.cut(table_id, &key.next_bounds(range, rows, bounds_max)).await
        }
        .boxed()
    }

    fn now(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>> {
        async move {
            let client = self.source.get().await?;
            now(&client).await
        }
        .boxed()
    }
}
