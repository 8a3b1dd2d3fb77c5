//! Which other rows stand in the way of a set.

use std::collections::BTreeSet;

use crate::domain::fault::SqlFault;
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;
use tokio_postgres::types::ToSql;

use crate::postgres::mapping::cells::{carry_from, keep, text};
use crate::postgres::mapping::table::{ForeignKey, Role, TableShape, UniqueIndex};
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::apply::Planned;
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::session::param::RawParam;

/// Keys of the shadow's rows that hold a unique value which a row of the plan is to get.
/// `constraint` is what the violation named; a partition's index has a name of its own, and
/// then all indexes are asked.
///
/// # Errors
///
/// What the database reports.
pub async fn holders(
    client: &Lease,
    tables: &[Planned<'_>],
    constraint: &str,
) -> Result<BTreeSet<RowKey>, Halt> {
    let named = |index: &UniqueIndex| index.name == constraint;
    let any_named = tables.iter().any(|table| table.table.shape.uniques.iter().any(named));
    let mut found = BTreeSet::new();
    for table in tables {
        let shape = &table.table.shape;
        for index in shape.uniques.iter().filter(|index| !any_named || named(index)) {
            let statement = client.prepared(&holder_sql(shape, index)).await.map_err(of_fault)?;
            let plan = &table.plan;
            let changed = plan.updates.iter().map(|update| update.key);
            for key in
                changed.chain(plan.inserts.iter().copied()).chain(plan.reinserts.iter().copied())
            {
                let Some(params) = wanted(table, key) else { continue };
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|p| p as _).collect();
                for row in client.query(&statement.statement, &params).await? {
                    found.insert(key_of_row(shape.table_id, &row)?);
                }
            }
        }
    }
    Ok(found)
}

/// The row as it is to be, for the index's expressions to be computed over it.
fn wanted(table: &Planned<'_>, key: usize) -> Option<Vec<RawParam>> {
    let shape = &table.table.shape;
    let image = table.primary[key].as_ref()?;
    let mut params = Vec::with_capacity(shape.pairs.len() + shape.shadow_only.len());
    for pair in &shape.pairs {
        params.push(carry_from(pair, image).ok()?);
    }
    let before = table.shadow[key].as_ref();
    params.extend(
        shape
            .shadow_only
            .iter()
            .map(|index| keep(shape, *index, before.and_then(|row| row.cell(*index)))),
    );
    Some(params)
}

fn holder_sql(shape: &TableShape, index: &UniqueIndex) -> String {
    use crate::domain::table::quote_identifier;
    let name = |column: usize| quote_identifier(&shape.shadow_columns[column].name);
    let pairs = shape.pairs.iter().map(|pair| (pair.shadow_type.as_str(), name(pair.shadow)));
    let shadows = shape.shadow_only_types.iter().zip(&shape.shadow_only);
    let shadows = shadows.map(|(ty, column)| (ty.as_str(), name(*column)));
    let cells: Vec<String> = pairs
        .chain(shadows)
        .enumerate()
        .map(|(n, (ty, name))| format!("${}::{ty} AS {name}", n + 1))
        .collect();
    let own = shape.unused_name("segue_u");
    let parts: Vec<String> =
        index.parts.iter().enumerate().map(|(n, part)| format!("({part}) AS {own}{n}")).collect();
    let matches: Vec<String> = (0..index.parts.len())
        .map(|n| {
            let operator = index.operators.get(n).map_or("=", String::as_str);
            let equal = format!("t.{own}{n} {operator} w.{own}{n}");
            if index.nulls_equal {
                format!("({equal} OR (t.{own}{n} IS NULL AND w.{own}{n} IS NULL))")
            } else {
                equal
            }
        })
        .collect();
    let condition =
        index.predicate.as_ref().map(|text| format!(" WHERE {text}")).unwrap_or_default();
    format!(
        "SELECT {keys} FROM (SELECT {parts} FROM (SELECT {cells}) AS d{condition}) AS w \
         JOIN (SELECT *, {parts} FROM {table}{condition}) AS t ON {matches}",
        keys = shape.key_texts(),
        parts = parts.join(", "),
        cells = cells.join(", "),
        table = shape.shadow.quoted(),
        matches = matches.join(" AND "),
    )
}

/// Keys of the shadow's rows in `child` that refer to these rows of `parent`.
///
/// # Errors
///
/// What the database reports.
pub async fn children(
    client: &Lease,
    parent: &Planned<'_>,
    removed: &[usize],
    child: &TableShape,
    reference: &ForeignKey,
) -> Result<BTreeSet<RowKey>, Halt> {
    use crate::domain::table::quote_identifier;
    let shape = &parent.table.shape;
    let matches: Vec<String> = reference
        .child_columns
        .iter()
        .zip(&reference.parent_columns)
        .map(|(child, parent)| {
            format!("t.{} = p.{}", quote_identifier(child), quote_identifier(parent))
        })
        .collect();
    // The parents are found under the name that the key's condition knows, then renamed.
    let sql = format!(
        "SELECT {} FROM (SELECT t.* FROM {} JOIN {} AS t ON {}) AS p JOIN {} AS t ON {}",
        child.key_texts(),
        shape.key_source(),
        shape.shadow.quoted(),
        shape.key_match(Role::Shadow, |index| format!("k.k{}", index + 1)),
        child.shadow.quoted(),
        matches.join(" AND ")
    );
    let statement = client.prepared(&sql).await.map_err(of_fault)?;
    let arrays = parent.table.arrays(&removed.iter().copied());
    let params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
    let rows = client.query(&statement.statement, &params).await?;
    Ok(rows.iter().map(|row| key_of_row(child.table_id, row)).collect::<Result<_, _>>()?)
}

/// Keys of the parents that the plan's rows refer to, where the reference is to the parent's
/// primary key. Others wait for the outbox rows of their parents.
pub fn parents<'a>(
    tables: &[Planned<'_>],
    shape_of: impl Fn(&ForeignKey) -> Option<&'a TableShape>,
) -> BTreeSet<RowKey> {
    let mut found = BTreeSet::new();
    for table in tables {
        let shape = &table.table.shape;
        for reference in &shape.references {
            let Some(parent) = shape_of(reference) else { continue };
            let plan = &table.plan;
            let written = plan.updates.iter().map(|update| update.key);
            for key in
                written.chain(plan.inserts.iter().copied()).chain(plan.reinserts.iter().copied())
            {
                if let Some(values) = parent_key(table, key, reference, parent) {
                    found.insert(RowKey { table_id: parent.table_id, values });
                }
            }
        }
    }
    found
}

fn parent_key(
    table: &Planned<'_>,
    key: usize,
    reference: &ForeignKey,
    parent: &TableShape,
) -> Option<Vec<String>> {
    use crate::domain::table::quote_identifier;
    let shape = &table.table.shape;
    let image = table.primary[key].as_ref()?;
    parent
        .key
        .iter()
        .map(|column| {
            let position = reference
                .parent_columns
                .iter()
                .position(|name| quote_identifier(name) == column.name)?;
            let child_column = &reference.child_columns[position];
            let index = shape.primary_columns.iter().position(|c| &c.name == child_column)?;
            text(shape, Role::Primary, index, image.cell(index)?).ok()
        })
        .collect()
}

fn key_of_row(table_id: i32, row: &Row) -> Result<RowKey, SqlFault> {
    let values = (0..row.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>()?;
    Ok(RowKey { table_id, values })
}
