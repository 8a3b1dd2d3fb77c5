//! Reading the rows of many keys: one query a table, all of them under way at once.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::pool::Lease;
use crate::postgres::reconcile::halt::{Halt, of_fault, of_reading, on};
use crate::postgres::reconcile::meter::Meter;
use crate::postgres::reconcile::select::{by_keys, counts_columns, is_guarded};
use crate::postgres::reconcile::wanted::Wanted;
use crate::postgres::session::Prepared;
use crate::postgres::session::fault::sqlstate_of;

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
/// [`Halt::Large`] where the rows are more than the meter allows.
pub async fn read_all(
    client: &Lease,
    side: Side,
    role: Role,
    tables: &[TableKeys],
    wanted: Wanted,
    meter: &Meter,
) -> Result<Vec<Vec<Option<Image>>>, Halt> {
    let read = |table| read_table(client, side, role, table, wanted, meter);
    try_join_all(tables.iter().map(read)).await
}

/// The statement that reads a table's rows, with the columns that the shape was made from; and how
/// many cells of an answer are the row's.
///
/// # Errors
///
/// [`Halt::Stale`] where the table has changed its columns.
pub(super) async fn prepare_rows(
    client: &Lease,
    side: Side,
    role: Role,
    table: &TableKeys,
    wanted: Wanted,
) -> Result<(Arc<Prepared>, usize), Halt> {
    let shape = &table.shape;
    let statement = client.prepared(&by_keys(shape, role, wanted)).await.map_err(of_fault)?;
    let known = shape.columns(role);
    let found = statement.statement.columns().get(1..).unwrap_or_default();
    let compared = shape.compared().filter(|pair| pair.compared.is_some()).count();
    let compared = if wanted == Wanted::Compared { compared } else { 0 };
    let more = [counts_columns(shape, role), is_guarded(shape, role, wanted)];
    let width = known.len() + compared;
    let same = width + more.into_iter().map(usize::from).sum::<usize>() == found.len()
        && known.iter().zip(found).enumerate().all(|(index, (known, found))| {
            shape.is_text(role, index)
                || known.name == found.name()
                    && known.ty.oid == found.type_().oid()
                    && known.type_modifier == found.type_modifier()
        });
    if same { Ok((statement, width)) } else { Err(changed_columns(client, side, table, role)) }
}

async fn read_table(
    client: &Lease,
    side: Side,
    role: Role,
    table: &TableKeys,
    wanted: Wanted,
    meter: &Meter,
) -> Result<Vec<Option<Image>>, Halt> {
    let on = on(side);
    let (statement, width) = prepare_rows(client, side, role, table, wanted).await?;
    let (known, counts) = (table.shape.columns(role), counts_columns(&table.shape, role));
    let guarded = is_guarded(&table.shape, role, wanted);
    let compared = width > known.len();
    let failed = |error: tokio_postgres::Error| match sqlstate_of(&error) {
        sqlstate::DIVISION_BY_ZERO if guarded => Halt::Large,
        _ if compared => of_reading(error, side),
        _ => on(error),
    };
    let arrays = table.arrays(&(0..table.keys.len()));
    let bytes_max = meter.bytes_max();
    let mut params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
    if guarded {
        params.push(&bytes_max);
    }
    let mut images: Vec<Option<Image>> = vec![None; table.keys.len()];
    // Row by row: what is too much for all that ends before it is all there.
    let rows = client.driver().query_raw(&statement.statement, params).await.map_err(failed)?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
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
        let image = Image::from_row(&row, 1..1 + width, known.len()).map_err(on)?;
        meter.count(image.size())?;
        *place = Some(image);
    }
    Ok(images)
}

fn changed_columns(client: &Lease, side: Side, table: &TableKeys, role: Role) -> Halt {
    client.forget_prepared();
    let message = format!("the columns of {} have changed", table.shape.quoted(role));
    let kind = crate::domain::fault::FaultKind::Database;
    Halt::Stale(crate::domain::fault::SqlFault::new(kind, Reason::ReconcileStale, message).on(side))
}
