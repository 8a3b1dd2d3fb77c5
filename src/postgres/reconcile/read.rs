//! Reading the rows of many keys: one query a table, all of them under way at once.

use std::sync::Arc;

use crate::postgres::pool::Lease;
use futures_util::future::try_join_all;

use crate::domain::side::Side;
use crate::postgres::reconcile::halt::{Halt, of_fault, of_reading, on};
use crate::postgres::reconcile::image::Image;
use crate::postgres::reconcile::select::{Wanted, by_keys, counts_columns};
use crate::postgres::reconcile::shape::{Role, TableShape};

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
/// What the database reports, and [`Halt::Stale`] where a table has changed its columns.
pub async fn read_all(
    client: &Lease,
    side: Side,
    role: Role,
    tables: &[TableKeys],
    wanted: Wanted,
) -> Result<Vec<Vec<Option<Image>>>, Halt> {
    try_join_all(tables.iter().map(|table| read_table(client, side, role, table, wanted))).await
}

async fn read_table(
    client: &Lease,
    side: Side,
    role: Role,
    table: &TableKeys,
    wanted: Wanted,
) -> Result<Vec<Option<Image>>, Halt> {
    let on = on(side);
    let shape = &table.shape;
    let statement = client.prepared(&by_keys(shape, role, wanted)).await.map_err(of_fault)?;
    let known = shape.columns(role);
    let found = statement.statement.columns().get(1..).unwrap_or_default();
    let compared = shape.compared().filter(|pair| pair.compared.is_some()).count();
    let compared = if wanted == Wanted::Compared { compared } else { 0 };
    let counts = counts_columns(shape, role);
    let width = known.len() + compared;
    let same = width + usize::from(counts) == found.len()
        && known.iter().zip(found).enumerate().all(|(index, (known, found))| {
            shape.is_text(role, index)
                || known.name == found.name()
                    && known.ty.oid == found.type_().oid()
                    && known.type_modifier == found.type_modifier()
        });
    if !same {
        return Err(changed_columns(client, side, table, role));
    }
    let arrays = table.arrays(&(0..table.keys.len()));
    let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
        arrays.iter().map(|array| array as _).collect();
    let mut images: Vec<Option<Image>> = vec![None; table.keys.len()];
    let rows = client.query(&statement.statement, &params).await;
    let failed = |error| if compared > 0 { of_reading(error, side) } else { on(error) };
    for row in rows.map_err(failed)? {
        let place: i64 = row.try_get(0).map_err(on)?;
        let place = usize::try_from(place - 1).ok().and_then(|place| images.get_mut(place));
        let Some(place) = place else { continue };
        if counts && row.try_get::<_, i64>(1 + width).map_err(on)? != known.len() as i64 {
            return Err(changed_columns(client, side, table, role));
        }
        if place.is_some() {
            return Err(Halt::Set(format!(
                "table {} has two rows with one key on the {side}; reconcile needs a primary key",
                table.shape.quoted(role)
            )));
        }
        *place = Some(Image::from_row(&row, 1..1 + width, known.len()).map_err(on)?);
    }
    Ok(images)
}

fn changed_columns(client: &Lease, side: Side, table: &TableKeys, role: Role) -> Halt {
    client.forget_prepared();
    let message = format!("the columns of {} have changed", table.shape.quoted(role));
    let kind = crate::domain::fault::FaultKind::Database;
    Halt::Stale(crate::domain::fault::SqlFault::new(kind, "reconcile.stale", message).on(side))
}
