//! Columns that the shadow generates: nobody can write them, so that what came out of the other
//! columns is held against the primary's row once these are written.

use crate::postgres::mapping::cells::equal;
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::Role;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::apply::Planned;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::meter::Meter;
use crate::postgres::reconcile::read::{TableKeys, read_all};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::wanted::Wanted;

/// Keys whose rows differ in such a column, after the plan was written. The rest of their rows
/// is equal and stays so: what is told here keeps the keys in the outbox, with the reason.
pub(super) async fn unequal(
    shadow: &Transaction,
    planned: &[Planned<'_>],
    wanted: Wanted,
) -> Result<Vec<(RowKey, String)>, Halt> {
    let mut found = Vec::new();
    for table in planned.iter().filter(|table| !table.table.shape.generated.is_empty()) {
        if table.plan.is_empty() {
            found.extend(differing(table.table, table.primary, table.shadow));
            continue;
        }
        let keys = std::slice::from_ref(table.table);
        // As many as were read before, and written.
        let (client, side, meter) = (shadow.client()?, shadow.side(), Meter::unlimited());
        let read = read_all(client, side, Role::Shadow, keys, wanted, &meter).await?;
        let now = read.into_iter().next().unwrap_or_default();
        found.extend(differing(table.table, table.primary, &now));
    }
    Ok(found)
}

/// Keys of a table whose rows differ in such a column.
pub(super) fn differing(
    table: &TableKeys,
    primary: &[Option<Image>],
    shadow: &[Option<Image>],
) -> Vec<(RowKey, String)> {
    let shape = &table.shape;
    let rows = table.keys.iter().zip(primary.iter().zip(shadow));
    rows.filter_map(|(values, rows)| {
        let (Some(one), Some(other)) = rows else { return None };
        let differs = |pair: &&_| !equal(shape, pair, one, other);
        let column = &shape.generated.iter().find(differs)?.judged.shadow.name;
        let reason = format!(
            "column {column:?} is generated on the shadow and holds another value there than on the \
             primary; let both sides generate it by the same expression, or neither"
        );
        Some((RowKey { table_id: shape.table_id, values: values.clone() }, reason))
    })
    .collect()
}
