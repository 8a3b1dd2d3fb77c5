//! How much the tables hold, by what the server knows without counting.

use std::collections::BTreeMap;

use crate::domain::fault::SqlFault;
use crate::postgres::survey::ask::Asker;
use crate::postgres::survey::constraints::{each, with_partitions};
use crate::preflight::describe::TableFacts;

/// Partitions are taken together. A table that was never analysed has -1 rows, unless it is
/// empty for sure.
const SIZES: &str = "
SELECT w.root,
    CASE WHEN pg_catalog.bool_or(c.reltuples < 0 AND pg_catalog.pg_relation_size(c.oid) > 0)
        THEN NULL ELSE pg_catalog.sum(greatest(c.reltuples, 0)::float8)::int8 END,
    pg_catalog.sum(pg_catalog.pg_table_size(c.oid))::int8
FROM unnest($1::oid[], $2::oid[]) AS w (root, oid)
JOIN pg_catalog.pg_class AS c ON c.oid = w.oid AND c.relkind = 'r'
GROUP BY w.root";

pub(super) async fn fill(
    asker: &mut Asker<'_>,
    tables: &mut BTreeMap<u32, TableFacts>,
) -> Result<(), SqlFault> {
    if !asker.lease().dialect().tells_sizes() {
        return Ok(());
    }
    let (roots, parts) = with_partitions(tables);
    let question = "sizes of tables (pg_table_size)";
    each(asker, question, SIZES, &[&roots, &parts], tables, |row, facts| {
        let (rows, bytes): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
        facts.rows = rows.and_then(|rows| u64::try_from(rows).ok());
        facts.bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok());
        Ok(())
    })
    .await
}
