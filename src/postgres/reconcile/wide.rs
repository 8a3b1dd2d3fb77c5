//! A row that is too large for anything beside it: its large values are compared by what the
//! servers make of them, and read only where they are written.
//!
//! The transaction is that of [`attempt`], lock before read and all. What differs is what is held
//! in memory: of the shadow's row never a large value; of the primary's all of them, twice: as they
//! were read and in the message that they go out in, then in that message and in the buffer that
//! it goes through.
//!
//! [`attempt`]: crate::postgres::reconcile::attempt

use std::collections::BTreeSet;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::failpoint::FailPoint;
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::Role;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::apply::{Planned, Writes};
use crate::postgres::reconcile::attempt::{Attempted, Learned, Readings, lock};
use crate::postgres::reconcile::digest::select;
use crate::postgres::reconcile::group::still_registered;
use crate::postgres::reconcile::halt::{Halt, of_fault, of_reading};
use crate::postgres::reconcile::mappings::ShapeMap;
use crate::postgres::reconcile::meter::Meter;
use crate::postgres::reconcile::plan::TablePlan;
use crate::postgres::reconcile::read::{TableKeys, prepare_rows, read_all};
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::sizes::Room;
use crate::postgres::reconcile::wanted::Wanted;
use crate::postgres::reconcile::{Reconciler, generated, turn};

/// The rows of tables on one side, a digest in the place of each large value.
pub(in crate::postgres) type Digested = Vec<Vec<Option<Image>>>;

// === impl Reconciler ===

impl Reconciler {
    /// An attempt on one row that is too large for [`Reconciler::attempt`].
    ///
    /// If we crash anywhere before the commit, the shadow rolls back and the outbox still has the
    /// key.
    pub(super) async fn attempt_wide(
        &self,
        keys: &BTreeSet<RowKey>,
        tables: &[TableKeys],
        shapes: &ShapeMap,
        learned: &Learned,
        room: Room,
    ) -> Result<Attempted, Halt> {
        let keys_as = self.foreign_keys().await?;
        let shadow = Transaction::open_shadow(&self.shadow, keys_as, room.limits()).await?;
        lock(&shadow, tables).await?;
        self.params.failpoints.pass(FailPoint::AfterLock).await?;
        let nonce = nonce();
        let asked = (nonce.as_str(), learned.wanted);
        let on_shadow = digested(&shadow, Role::Shadow, tables, asked).await?;
        let primary = Transaction::open_reading(&self.primary, room.deadline).await?;
        still_registered(&primary, tables).await?;
        let seen = turn::look(&primary).await?;
        let of_primary = digested(&primary, Role::Primary, tables, asked).await?;
        let readings = Readings { primary: of_primary, shadow: on_shadow, largest: 0 };
        self.params.failpoints.pass(FailPoint::AfterRead).await?;
        let first = learned.holders_first;
        let planned = self.plan_all(&shadow, tables, &readings, first, shapes).await?;
        if planned.iter().all(|table| table.plan.is_empty()) {
            primary.end("ROLLBACK").await?;
            let unequal = of_generated(tables, &readings, None);
            shadow.end("COMMIT").await?;
            self.params.failpoints.pass(FailPoint::AfterShadowCommit).await?;
            return Ok(Attempted { changed: 0, unequal });
        }
        // Modelled as `Action::Step` in tests/model/apply.
        if !self.params.leave.covers(seen) {
            return Err(Halt::Shifted);
        }
        let planned = planned.into_iter().map(|table| (writes_digests(&table, &nonce), table.plan));
        let (needed, plans): (Vec<bool>, Vec<TablePlan>) = planned.unzip();
        let needed = needed.contains(&true);
        // In the snapshot in which they were compared. The session keeps what it has read: closed.
        let whole = match needed {
            true => {
                let (client, side) = (primary.client()?, primary.side());
                let (role, wanted, meter) = (Role::Primary, Wanted::Columns, Meter::unlimited());
                let whole = read_all(client, side, role, tables, wanted, &meter).await?;
                primary.close("ROLLBACK").await?;
                Some(whole)
            }
            false => {
                primary.end("ROLLBACK").await?;
                None
            }
        };
        let small = small(tables, &readings.primary, &nonce);
        let changed = match write(&shadow, tables, &readings, plans, (whole, small.as_ref())).await
        {
            Ok(changed) => changed,
            Err((halt, None)) => return Err(halt),
            Err((halt, Some(Failed { plans, kept }))) => {
                let from = kept.as_ref().or(small.as_ref()).unwrap_or(&readings.primary);
                let planned = over(tables, from, &readings.shadow, plans);
                return Err(self.learn(shadow, &planned, keys, shapes, halt).await);
            }
        };
        self.params.failpoints.pass(FailPoint::AfterApply).await?;
        let now = match tables.iter().any(|table| !table.shape.generated.is_empty()) {
            true => Some(digested(&shadow, Role::Shadow, tables, asked).await?),
            false => None,
        };
        let unequal = of_generated(tables, &readings, now.as_ref());
        // So does this one keep what it has sent.
        match needed {
            true => shadow.close("COMMIT").await?,
            false => shadow.end("COMMIT").await?,
        }
        self.params.failpoints.pass(FailPoint::AfterShadowCommit).await?;
        Ok(Attempted { changed, unequal })
    }
}

/// What stands before a digest: no stored value has it, since nobody could know it.
pub(in crate::postgres) fn nonce() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Keys whose rows differ in a column that the shadow generates.
fn of_generated(
    tables: &[TableKeys],
    readings: &Readings,
    now: Option<&Digested>,
) -> Vec<(RowKey, String)> {
    let shadow = now.unwrap_or(&readings.shadow);
    let rows = readings.primary.iter().zip(shadow);
    tables
        .iter()
        .zip(rows)
        .filter(|(table, _)| !table.shape.generated.is_empty())
        .flat_map(|(table, (primary, shadow))| generated::differing(table, primary, shadow))
        .collect()
}

/// What is needed to find out what stands in the way.
struct Failed {
    plans: Vec<TablePlan>,
    /// The rows, where they are still there.
    kept: Option<Digested>,
}

/// Writes the plans. The rows are given up as soon as they are in the messages, unless a unique
/// index depends on a large value: then `small` is not there, and they are kept.
async fn write(
    shadow: &Transaction,
    tables: &[TableKeys],
    readings: &Readings,
    plans: Vec<TablePlan>,
    (whole, small): (Option<Digested>, Option<&Digested>),
) -> Result<u64, (Halt, Option<Failed>)> {
    let from = whole.as_ref().unwrap_or(&readings.primary);
    let planned = over(tables, from, &readings.shadow, plans);
    let writes = Writes::of(&planned).map_err(|halt| (halt, None))?;
    let plans: Vec<TablePlan> = planned.into_iter().map(|table| table.plan).collect();
    let kept = whole.filter(|_| small.is_none());
    let keys: Vec<&TableKeys> = tables.iter().collect();
    let client = shadow.client().map_err(|halt| (halt, None))?;
    let written = writes.run(client, &keys).await;
    written.map_err(|halt| (halt, Some(Failed { plans, kept })))
}

fn over<'a>(
    tables: &'a [TableKeys],
    primary: &'a Digested,
    shadow: &'a Digested,
    plans: Vec<TablePlan>,
) -> Vec<Planned<'a>> {
    let rows = tables.iter().zip(primary.iter().zip(shadow));
    plans
        .into_iter()
        .zip(rows)
        .map(|(plan, (table, (primary, shadow)))| Planned { table, primary, shadow, plan })
        .collect()
}

fn is_digest(cell: Option<&[u8]>, nonce: &str) -> bool {
    cell.is_some_and(|cell| cell.starts_with(nonce.as_bytes()))
}

/// The rows without the large values; none where a unique index depends on one.
fn small(tables: &[TableKeys], rows: &Digested, nonce: &str) -> Option<Digested> {
    let image = |table: &TableKeys, image: &Image| {
        let columns = 0..table.shape.columns(Role::Primary).len();
        let unique = table.shape.pairs.iter().filter(|pair| pair.unique);
        if unique.into_iter().any(|pair| is_digest(image.cell(pair.primary), nonce)) {
            return None;
        }
        let cell = |index| image.cell(index).filter(|cell| !is_digest(Some(cell), nonce));
        let cells: Vec<Option<&[u8]>> = columns.map(cell).collect();
        Some(Image::from_cells(&cells, cells.len()))
    };
    let all = |(table, rows): (&TableKeys, &Vec<Option<Image>>)| {
        let row = |row: &Option<Image>| match row {
            Some(row) => image(table, row).map(Some),
            None => Some(None),
        };
        rows.iter().map(row).collect::<Option<Vec<_>>>()
    };
    tables.iter().zip(rows).map(all).collect()
}

/// Whether a plan writes a value of which there is but the digest, or needs one to find out who
/// holds a unique value.
fn writes_digests(table: &Planned<'_>, nonce: &str) -> bool {
    let (plan, pairs) = (&table.plan, &table.table.shape.pairs);
    let digested = |key: usize, pair: usize| {
        let image = table.primary[key].as_ref();
        is_digest(image.and_then(|image| image.cell(pairs[pair].primary)), nonce)
    };
    let whole = |key: usize| (0..pairs.len()).any(|pair| digested(key, pair));
    plan.inserts.iter().chain(&plan.reinserts).any(|key| whole(*key))
        || plan.updates.iter().any(|update| {
            let unique = update.pairs.iter().any(|pair| pairs[*pair].unique);
            unique && whole(update.key)
                || update.pairs.iter().any(|pair| digested(update.key, *pair))
        })
}

/// The rows of tables with a digest in the place of each large value: of equal values the same
/// one, of values one of which is large on one side only another.
pub(in crate::postgres) async fn digested(
    transaction: &Transaction,
    role: Role,
    tables: &[TableKeys],
    (nonce, wanted): (&str, Wanted),
) -> Result<Digested, Halt> {
    let (client, side) = (transaction.client()?, transaction.side());
    let mut all = Vec::with_capacity(tables.len());
    for table in tables {
        // The columns are as they were when the table was looked at.
        let (_, width) = prepare_rows(client, side, role, table, wanted).await?;
        let statement = client.prepared(&select(&table.shape, role, wanted)).await;
        let statement = statement.map_err(of_fault)?;
        let arrays = table.arrays(&(0..table.keys.len()));
        let mut params: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        params.push(&nonce);
        let failed = |error| of_reading(error, side);
        let columns = table.shape.columns(role).len();
        let mut images: Vec<Option<Image>> = vec![None; table.keys.len()];
        for row in client.driver().query(&statement.statement, &params).await.map_err(failed)? {
            let place: i64 = row.try_get(0).map_err(failed)?;
            let place = usize::try_from(place - 1).ok().and_then(|place| images.get_mut(place));
            if let Some(place) = place {
                *place = Some(Image::from_row(&row, 1..1 + width, columns).map_err(failed)?);
            }
        }
        all.push(images);
    }
    Ok(all)
}
