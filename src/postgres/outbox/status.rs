//! How the outbox stands: what waits, what it takes, which tables are pending as a whole.

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::domain::status::{FoldedTable, OutboxStatus};
use crate::domain::table::TableName;
use crate::postgres::outbox::Outbox;
use crate::postgres::outbox::pressure::{ROW_BYTES, sized};
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

const STATUS: &str = "\
    SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE o.attempts >= $1), \
        coalesce(pg_catalog.date_part('epoch', \
            pg_catalog.clock_timestamp() - pg_catalog.min(o.created_at)), 0), \
        {bytes}, ({pending_bytes})::int8, pg_catalog.min(o.created_at) \
    FROM segue.outbox AS o WHERE o.forgotten_at IS NULL";
const BYTES: &str = "\
    (SELECT coalesce(pg_catalog.sum(pg_catalog.pg_total_relation_size(p.relid)), 0)::int8 \
        FROM pg_catalog.pg_partition_tree('segue.outbox') AS p WHERE p.isleaf)";

/// Rows of a table as the server estimates them; 0 where it does not.
const FOLDED: &str = "\
    SELECT CASE WHEN $1 THEN t.source_schema ELSE t.target_schema END, \
        CASE WHEN $1 THEN t.source_name ELSE t.target_name END, \
        p.table_id, p.keys, p.keys_seen, \
        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.since), \
        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.pass_began_at), \
        coalesce((SELECT greatest(c.reltuples, 0)::int8 FROM pg_catalog.pg_class AS c \
            JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
            WHERE n.nspname = CASE WHEN $1 THEN t.source_schema ELSE t.target_schema END \
                AND c.relname = CASE WHEN $1 THEN t.source_name ELSE t.target_name END), 0), \
        (SELECT CASE WHEN pg_catalog.bool_or(r.range_id IS NULL) THEN 0 \
                ELSE pg_catalog.count(DISTINCT r.range_id) END \
            FROM segue.outbox AS o LEFT JOIN segue.key_range AS r ON r.range_id = o.write_id \
            WHERE o.table_id = p.table_id AND o.key IS NULL AND o.forgotten_at IS NULL), \
        (SELECT pg_catalog.count(*) FROM segue.key_range AS r WHERE r.table_id = p.table_id) \
    FROM segue.pending_table AS p LEFT JOIN segue.migrated_table AS t USING (table_id) \
    ORDER BY p.keys DESC, p.table_id";

impl Outbox {
    /// Waiting rows, stuck ones, the oldest one's age, bytes, and tables pending as a whole or as ranges.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn status(&self) -> Result<OutboxStatus, SqlFault> {
        let client = self.client().await?;
        // Where no size is told, what waits is counted already; what is forgotten goes when its
        // window is over.
        let counted = format!("pg_catalog.count(*) * {ROW_BYTES}::int8");
        let (bytes, pending_bytes) = match client.dialect().has_outbox_ring() {
            true => (BYTES, sized("o")),
            false => (counted.as_str(), counted.clone()),
        };
        let status = STATUS.replace("{bytes}", bytes).replace("{pending_bytes}", &pending_bytes);
        let row = client.query_one(&status, &[&self.stuck_after]).await?;
        let count = |index| row.try_get::<_, i64>(index).map(|count| count.max(0).unsigned_abs());
        Ok(OutboxStatus {
            pending: count(0)?,
            stuck: count(1)?,
            oldest_age_s: row.try_get(2)?,
            oldest_at: row.try_get(5)?,
            bytes: count(3)?,
            pending_bytes: count(4)?,
            folded: folded(&client, self.side()).await?,
            ..OutboxStatus::default()
        })
    }
}

async fn folded(client: &Lease, side: Side) -> Result<Vec<FoldedTable>, SqlFault> {
    let rows = client.query(FOLDED, &[&(side == Side::Source)]).await?;
    let table = |row: &Row| -> Result<FoldedTable, SqlFault> {
        let (schema, name): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        let table_id: i32 = row.try_get(2)?;
        let count = |index| row.try_get::<_, i64>(index).map(|count| count.max(0).unsigned_abs());
        Ok(FoldedTable {
            table: match (schema, name) {
                (Some(schema), Some(name)) => TableName::new(schema, name).to_string(),
                _ => format!("table id {table_id}"),
            },
            keys: count(3)?,
            keys_seen: count(4)?,
            since_s: row.try_get(5)?,
            pass_s: row.try_get::<_, Option<f64>>(6)?.unwrap_or_default(),
            rows: count(7)?,
            ranges: count(8)?,
            ranges_of: count(9)?,
        })
    };
    rows.iter().map(table).collect::<Result<_, _>>()
}
