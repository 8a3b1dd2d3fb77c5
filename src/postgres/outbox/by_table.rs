//! What waits, table by table.

use crate::domain::fault::SqlFault;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

const BY_TABLE: &str = "\
    SELECT m.source_schema, m.source_name, m.target_schema, m.target_name, \
        coalesce(o.pending, 0), coalesce(o.failed, 0) \
    FROM segue.migrated_table AS m LEFT JOIN ( \
        SELECT table_id, pg_catalog.count(*) AS pending, \
            pg_catalog.count(*) FILTER (WHERE attempts > 0) AS failed \
        FROM segue.outbox WHERE forgotten_at IS NULL GROUP BY table_id) AS o USING (table_id) \
    ORDER BY 1, 2";

/// A table of the migration and the rows of the outbox that wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The table.
    pub mapping: TableMapping,
    /// Rows that wait.
    pub pending: u64,
    /// Of these, rows that have failed.
    pub failed: u64,
}

/// The tables that a primary has in its registry.
///
/// # Errors
///
/// What the database reports.
pub async fn by_table(client: &Lease) -> Result<Vec<Waiting>, SqlFault> {
    let rows = client.query(BY_TABLE, &[]).await?;
    let read = |row: &Row| -> Result<Waiting, SqlFault> {
        let name = |schema: usize, name: usize| -> Result<TableName, SqlFault> {
            Ok(TableName { schema: row.try_get(schema)?, name: row.try_get(name)? })
        };
        let count = |index| row.try_get::<_, i64>(index).map(i64::unsigned_abs);
        let mapping = TableMapping { source: name(0, 1)?, target: name(2, 3)? };
        Ok(Waiting { mapping, pending: count(4)?, failed: count(5)? })
    };
    rows.iter().map(read).collect::<Result<_, _>>()
}
