//! A set's keys by table, and whether the tables are still the ones that they were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::table::quote_identifier;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::mappings::ShapeMap;
use crate::postgres::reconcile::read::TableKeys;
use crate::postgres::reconcile::session::Transaction;

/// The tables' names and keys, read in the snapshot in which the rows are read.
const REGISTRY: &str = "\
    SELECT table_id, ARRAY[source_schema, source_name, target_schema, target_name], key_columns \
    FROM segue.migrated_table WHERE table_id = ANY ($1)";

/// Whether the tables still have the names and the keys that the shapes were made from. Where
/// the key is another one now, the outbox's keys are that one's: read by the old one they would
/// name other rows, and be forgotten.
pub(super) async fn still_registered(
    primary: &Transaction,
    tables: &[TableKeys],
) -> Result<(), Halt> {
    let side = primary.side();
    let registry = primary.client()?.prepared(REGISTRY).await.map_err(of_fault)?;
    let ids: Vec<i32> = tables.iter().map(|table| table.shape.table_id).collect();
    let rows = primary.client()?.query(&registry.statement, &[&ids]).await?;
    let mut same = 0;
    for row in &rows {
        let id: i32 = row.try_get(0)?;
        let names: Vec<String> = row.try_get(1)?;
        let key: Vec<String> = row.try_get(2)?;
        let Some(table) = tables.iter().find(|table| table.shape.table_id == id) else { continue };
        let (one, other) = (&table.shape.primary, &table.shape.shadow);
        let (source, target) = if side == Side::Source { (one, other) } else { (other, one) };
        let known = [&source.schema, &source.name, &target.schema, &target.name];
        let same_key = key.iter().map(|name| quote_identifier(name));
        let same_key = same_key.eq(table.shape.key.iter().map(|column| column.name.clone()));
        same += usize::from(names.iter().eq(known) && same_key);
    }
    if same == tables.len() {
        return Ok(());
    }
    let message = "a table has another name or primary key in segue.migrated_table";
    Err(Halt::Stale(SqlFault::new(FaultKind::Database, Reason::ReconcileStale, message).on(side)))
}

/// Keys by table, parents before children, sorted within a table. Keys of a table that
/// cannot be reconciled are the fault of these keys.
pub(super) fn group(keys: &BTreeSet<RowKey>, shapes: &ShapeMap) -> Result<Vec<TableKeys>, Halt> {
    let mut tables: BTreeMap<i32, TableKeys> = BTreeMap::new();
    let mut bad = Vec::new();
    for key in keys {
        match shapes.get(&key.table_id) {
            Some(Ok(shape)) if shape.key.len() == key.values.len() => {
                let new = || TableKeys { shape: Arc::clone(shape), keys: Vec::new() };
                tables.entry(key.table_id).or_insert_with(new).keys.push(key.values.clone());
            }
            Some(Ok(shape)) => bad.push((
                key.clone(),
                format!(
                    "the key has {} parts, that of {} {}",
                    key.values.len(),
                    shape.primary,
                    shape.key.len()
                ),
            )),
            Some(Err(reason)) => bad.push((key.clone(), reason.clone())),
            None => bad.push((
                key.clone(),
                format!("table id {} is not in segue.migrated_table", key.table_id),
            )),
        }
    }
    if bad.is_empty() {
        Ok(parents_first(tables.into_values().collect()))
    } else {
        Err(Halt::Keys(bad))
    }
}

/// Parents before children. Tables in a circle stay in the order of their ids.
fn parents_first(mut rest: Vec<TableKeys>) -> Vec<TableKeys> {
    let mut ordered = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let free = rest.iter().position(|table| {
            table.shape.references.iter().all(|reference| {
                reference.parent == table.shape.shadow
                    || !rest.iter().any(|other| other.shape.shadow == reference.parent)
            })
        });
        ordered.push(rest.remove(free.unwrap_or(0)));
    }
    ordered
}
