//! Reading the rows of many keys: one query a table, all of them under way at once.

use std::sync::Arc;

use crate::postgres::pool::Lease;
use futures_util::TryStreamExt;
use futures_util::future::try_join_all;

use crate::domain::side::Side;
use crate::postgres::reconcile::halt::{Halt, of_fault, on};
use crate::postgres::reconcile::image::Image;
use crate::postgres::reconcile::shape::{Role, TableShape};
use crate::postgres::reconcile::sizes::Meter;
use crate::postgres::session::Prepared;

/// The keys of one table in a set.
#[derive(Debug, Clone)]
pub struct TableKeys {
    /// The table.
    pub shape: Arc<TableShape>,
    /// Values, one list a key.
    pub keys: Vec<Vec<String>>,
}

impl TableKeys {
    /// The values column by column, as the statements take them.
    pub fn arrays(&self, which: &(impl Iterator<Item = usize> + Clone)) -> Vec<Vec<&str>> {
        (0..self.shape.key.len())
            .map(|column| {
                which
                    .clone()
                    .map(|key| self.keys[key].get(column).map_or("", String::as_str))
                    .collect()
            })
            .collect()
    }
}

/// Reads all tables' rows on one side; the answer has a place for each key of each table.
///
/// # Errors
///
/// What the database reports, [`Halt::Stale`] where a table has changed its columns, and
/// [`Halt::Large`] where it is more than the meter allows.
pub(in crate::postgres) async fn read_all(
    client: &Lease,
    side: Side,
    role: Role,
    tables: &[TableKeys],
    meter: &Meter,
) -> Result<Vec<Vec<Option<Image>>>, Halt> {
    try_join_all(tables.iter().map(|table| read_table(client, side, role, table, meter))).await
}

/// The statement that reads a table's rows, with the columns that the shape was made from.
///
/// # Errors
///
/// [`Halt::Stale`] where the table has changed its columns.
pub(super) async fn prepare_rows(
    client: &Lease,
    side: Side,
    role: Role,
    table: &TableKeys,
) -> Result<Arc<Prepared>, Halt> {
    let statement = client.prepared(&table.shape.select_by_keys(role)).await.map_err(of_fault)?;
    let known = match role {
        Role::Primary => &table.shape.primary_columns,
        Role::Shadow => &table.shape.shadow_columns,
    };
    let found = statement.statement.columns().get(1..).unwrap_or_default();
    let same = known.len() == found.len()
        && known.iter().zip(found).all(|(known, found)| {
            known.name == found.name()
                && known.ty.oid == found.type_().oid()
                && known.type_modifier == found.type_modifier()
        });
    if same { Ok(statement) } else { Err(changed_columns(client, side, table, role)) }
}

async fn read_table(
    client: &Lease,
    side: Side,
    role: Role,
    table: &TableKeys,
    meter: &Meter,
) -> Result<Vec<Option<Image>>, Halt> {
    let on = on(side);
    let statement = prepare_rows(client, side, role, table).await?;
    let arrays = table.arrays(&(0..table.keys.len()));
    let mut images: Vec<Option<Image>> = vec![None; table.keys.len()];
    // Row by row, so that what is too much ends before it is all there.
    let rows = client.query_raw(&statement.statement, arrays.iter()).await.map_err(on)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(on)? {
        let place: i64 = row.try_get(0).map_err(on)?;
        let place = usize::try_from(place - 1).ok().and_then(|place| images.get_mut(place));
        let Some(place) = place else { continue };
        if place.is_some() {
            return Err(Halt::Set(format!(
                "table {} has two rows with one key on the {side}; reconcile needs a primary key",
                table.shape.quoted(role)
            )));
        }
        let image = Image::from_row(&row, 1).map_err(on)?;
        meter.count(image.size())?;
        *place = Some(image);
    }
    Ok(images)
}

fn changed_columns(client: &Lease, side: Side, table: &TableKeys, role: Role) -> Halt {
    client.forget_prepared();
    let message = format!("the columns of {} have changed", table.shape.quoted(role));
    let kind = crate::domain::fault::FaultKind::Database;
    Halt::Stale(crate::domain::fault::SqlFault::new(kind, "reconcile.stale", message).on(side))
}
