//! Which tables are copied, in which order, and how each is read and written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::domain::backfill::{Load, TablePlan};
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::backfill::columns::Columns;
use crate::postgres::backfill::table::CopyTable;
use crate::postgres::catalog as tables_catalog;
use crate::postgres::mapping::load::{self, IgnoredColumns, Registered};
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::settings::BEGIN_LOOK;

/// The tables of a copy, by their small ids.
#[derive(Debug, Clone, Default)]
pub struct Tables(pub(super) HashMap<i32, Arc<CopyTable>>);

/// A copy, planned.
#[derive(Debug, Default)]
pub struct Plan {
    /// How each table is read and written.
    pub tables: Tables,
    /// What there is to copy, parents before children.
    pub plans: Vec<TablePlan>,
    /// Tables that cannot be copied, and why.
    pub refused: Vec<(TableName, String)>,
}

/// A chunk's stream is to be no larger than that, by the statistics: whoever waits for its end,
/// such as the source's vacuum, is not to wait long.
const CHUNK_BYTES: u64 = 64 * 1024 * 1024;
/// Fewer rows are not worth a chunk.
const CHUNK_ROWS_MIN: u64 = 100;

/// Rows and bytes by the statistics, partitions included.
const SIZE: &str = "\
    SELECT coalesce(pg_catalog.sum(greatest(c.reltuples, 0)), 0)::int8, \
        coalesce(pg_catalog.sum(pg_catalog.pg_table_size(c.oid)), 0)::int8 \
    FROM pg_catalog.pg_class AS c WHERE c.oid = $1::text::regclass \
        OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1::text::regclass) AS p \
            WHERE p.isleaf)";

/// The ids and keys of mapped tables, as the source's registry has them. A table that is not in
/// it is answered by its name.
///
/// # Errors
///
/// What the source reports.
pub async fn registered(
    source: &Pool,
    mappings: &[TableMapping],
) -> Result<(Vec<Registered>, Vec<TableName>), SqlFault> {
    let client = source.get().await?;
    let known = load::registered(&client).await?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for mapping in mappings {
        match known.iter().find(|known| known.mapping == *mapping) {
            Some(known) => found.push(known.clone()),
            None => missing.push(mapping.source.clone()),
        }
    }
    Ok((found, missing))
}

/// The ids that copies to this target were begun with, by the tables' names there.
///
/// # Errors
///
/// What the target reports.
pub async fn begun_ids(target: &Pool) -> Result<HashMap<String, i32>, SqlFault> {
    let client = target.get().await?;
    let sql = "SELECT table_id, target_schema, target_name FROM segue.backfill_table";
    let mut ids = HashMap::new();
    for row in client.query(sql, &[]).await? {
        let text = |index| row.try_get::<_, String>(index);
        let name = TableName::new(text(1)?, text(2)?).to_string();
        ids.insert(name, row.try_get(0)?);
    }
    Ok(ids)
}

/// As [`registered`], where nothing has been registered, since nothing is captured: ids are
/// those of `begun`, or new ones.
///
/// # Errors
///
/// What the source reports.
pub async fn numbered(
    source: &Pool,
    mut begun: HashMap<String, i32>,
    mappings: &[TableMapping],
) -> Result<(Vec<Registered>, Vec<TableName>), SqlFault> {
    let mut next = begun.values().copied().max().unwrap_or(0) + 1;
    let client = source.get().await?;
    let names: Vec<TableName> = mappings.iter().map(|mapping| mapping.source.clone()).collect();
    let tables = tables_catalog::load(client.driver(), &names).await;
    let tables = tables.map_err(|error| client.fault(error, true))?;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for mapping in mappings {
        let table = tables.iter().find(|table| table.name == mapping.source);
        let Some(key) = table.and_then(|table| table.primary_key.as_ref()) else {
            missing.push(mapping.source.clone());
            continue;
        };
        let table_id = *begun.entry(mapping.target.to_string()).or_insert_with(|| {
            next += 1;
            next - 1
        });
        let key = key.columns.iter().map(|column| column.name.clone()).collect();
        found.push(Registered { table_id, mapping: mapping.clone(), key });
    }
    Ok((found, missing))
}

/// Looks at the tables on both sides. Rows are written as `load` says; by `INSERT` where the target
/// takes no `COPY`.
///
/// # Errors
///
/// What a database reports; what stands against single tables is in the plan.
pub async fn plan(
    source: &Pool,
    target: &Pool,
    registered: &[Registered],
    chunk_rows: u64,
    load: Load,
) -> Result<Plan, SqlFault> {
    let (from, to) = (source.get().await?, target.get().await?);
    for client in [&from, &to] {
        client.batch_execute(BEGIN_LOOK).await?;
    }
    let dialect = to.dialect();
    let load = if dialect.takes_copy() { load } else { Load::Insert };
    let ignored = IgnoredColumns::new();
    let copied = dialect.has_replication_role();
    let loaded = load::load_these(&from, &to, Side::Source, registered, &ignored, copied).await;
    let mut shapes = loaded.map_err(|(_, fault)| fault)?;
    let mut plan = Plan::default();
    let mut tables = Vec::new();
    for table in registered {
        let name = table.mapping.source.clone();
        let Some(shape) = shapes.remove(&table.table_id) else { continue };
        let copied = shape.and_then(|shape| {
            let columns = Columns::of(&shape, load)?;
            Ok(CopyTable { shape: Arc::unwrap_or_clone(shape), columns, load })
        });
        match copied {
            Ok(copied) => tables.push((table, copied)),
            Err(reason) => plan.refused.push((name, reason)),
        }
    }
    for (place, (table, copied)) in parents_first(tables).into_iter().enumerate() {
        let (rows, bytes) = size(&from, &table.mapping.source).await?;
        plan.plans.push(TablePlan {
            table_id: table.table_id,
            mapping: table.mapping.clone(),
            key: table.key.clone(),
            place: i32::try_from(place).unwrap_or(i32::MAX),
            chunk_rows: rows_of_chunk(chunk_rows, rows, bytes),
            rows_estimated: rows,
            bytes_estimated: bytes,
        });
        plan.tables.0.insert(table.table_id, Arc::new(copied));
    }
    for client in [&from, &to] {
        client.batch_execute("COMMIT").await?;
    }
    Ok(plan)
}

async fn size(client: &Lease, table: &TableName) -> Result<(u64, u64), SqlFault> {
    let row = client.query_one(SIZE, &[&table.quoted()]).await?;
    let number = |index| row.try_get::<_, i64>(index).map(|it| it.max(0).unsigned_abs());
    Ok((number(0)?, number(1)?))
}

/// Fewer rows than asked for where they are wide.
fn rows_of_chunk(wanted: u64, rows: u64, bytes: u64) -> u64 {
    let width = bytes.checked_div(rows).unwrap_or(0).max(1);
    wanted.min((CHUNK_BYTES / width).max(CHUNK_ROWS_MIN)).max(1)
}

/// Parents before children. Tables in a circle stay in the order that they are named in.
fn parents_first<T>(mut rest: Vec<(T, CopyTable)>) -> Vec<(T, CopyTable)> {
    let mut ordered = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let names: BTreeSet<TableName> =
            rest.iter().map(|(_, table)| table.shape.shadow.clone()).collect();
        let free = rest.iter().position(|(_, table)| {
            table.shape.references.iter().all(|reference| {
                reference.parent == table.shape.shadow || !names.contains(&reference.parent)
            })
        });
        ordered.push(rest.remove(free.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_rows_make_smaller_chunks() {
        assert_eq!(rows_of_chunk(10_000, 1_000_000, 200_000_000), 10_000);
        assert_eq!(rows_of_chunk(10_000, 1_000, 100_000_000), 671);
        assert_eq!(rows_of_chunk(10_000, 10, 10_000_000_000), CHUNK_ROWS_MIN);
        assert_eq!(rows_of_chunk(10_000, 0, 0), 10_000);
        assert_eq!(rows_of_chunk(10, 10, 10_000_000_000), 10);
    }
}
