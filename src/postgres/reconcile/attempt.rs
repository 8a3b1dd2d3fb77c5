//! One attempt: one transaction on the shadow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::table::TableName;
use crate::failpoint::FailPoint;
use crate::postgres::mapping::cells::equal;
use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::{Role, TableShape};
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::apply::{Planned, apply};
use crate::postgres::reconcile::group::{group, still_registered};
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::lock::{
    LOCK_KEYS, SHARE_TABLES, SHARE_TABLES_BY_ROW, TABLE_LOCK_CLASS, slot, slot_of_table,
};
use crate::postgres::reconcile::mappings::ShapeMap;
use crate::postgres::reconcile::meter::Meter;
use crate::postgres::reconcile::plan::{Removal, plan};
use crate::postgres::reconcile::read::{TableKeys, read_all};
use crate::postgres::reconcile::session::{ForeignKeys, Transaction};
use crate::postgres::reconcile::sizes::Room;
use crate::postgres::reconcile::wanted::Wanted;
use crate::postgres::reconcile::{Reconciler, conflict, generated, turn};

/// Both sides' rows of a set, table by table.
pub(super) struct Readings {
    pub(super) primary: Vec<Vec<Option<Image>>>,
    pub(super) shadow: Vec<Vec<Option<Image>>>,
    /// Bytes of the largest row.
    pub(super) largest: usize,
}

/// What an attempt has committed.
#[derive(Debug, Default)]
pub(super) struct Attempted {
    /// Rows that were written.
    pub(super) changed: u64,
    /// Keys whose rows are not equal for all that, with the reason.
    pub(super) unequal: Vec<(RowKey, String)>,
}

impl Reconciler {
    /// Locks, reads, writes and commits. If we crash anywhere before the commit, the shadow
    /// rolls back and the outbox still has the keys; if we crash after it, they are
    /// reconciled again, which changes nothing.
    pub(super) async fn attempt(
        &self,
        keys: &BTreeSet<RowKey>,
        learned: &Learned,
        room: Room,
    ) -> Result<Attempted, Halt> {
        let shapes = self.shapes().await?;
        let tables = group(keys, &shapes)?;
        // CockroachDB has no such digests.
        if room.is_wide() && !tables.iter().any(|table| table.shape.across()) {
            return Box::pin(self.attempt_wide(keys, &tables, &shapes, learned, room)).await;
        }
        let keys_as = self.foreign_keys().await?;
        let shadow = Transaction::open_shadow(&self.shadow, keys_as, room.limits()).await?;
        lock(&shadow, &tables).await?;
        self.params.failpoints.pass(FailPoint::AfterLock).await?;
        let (readings, seen) = self.read_both(&shadow, &tables, learned.wanted, room).await?;
        self.params.failpoints.pass(FailPoint::AfterRead).await?;
        let first = learned.holders_first;
        let planned = self.plan_all(&shadow, &tables, &readings, first, &shapes).await?;
        let mut changed = 0;
        if !planned.iter().all(|table| table.plan.is_empty()) {
            // Seen in the snapshot that was read, under the shared turn: whoever applies whole
            // snapshots comes before it, or waits until this has ended.
            // Modelled as `Action::Step` in tests/model/apply.
            if !self.params.leave.covers(seen) {
                return Err(Halt::Shifted);
            }
            changed = match apply(shadow.client()?, &planned).await {
                Ok(changed) => changed,
                Err(halt) => return Err(self.learn(shadow, &planned, keys, &shapes, halt).await),
            };
            self.params.failpoints.pass(FailPoint::AfterApply).await?;
        }
        let unequal = generated::unequal(&shadow, &planned, learned.wanted).await?;
        // Modelled as `Action::ShadowCommit` in tests/model.
        shadow.end_after("COMMIT", readings.largest).await?;
        self.params.failpoints.pass(FailPoint::AfterShadowCommit).await?;
        Ok(Attempted { changed, unequal })
    }

    pub(in crate::postgres) async fn shapes(&self) -> Result<Arc<ShapeMap>, Halt> {
        let ignored = &self.params.ignored_columns;
        let copied = self.foreign_keys().await? == ForeignKeys::Replica;
        self.shapes.get(&self.primary, &self.shadow, self.primary_side, ignored, copied).await
    }

    /// The primary's transaction is opened here, under the locks: its snapshot is no older
    /// than what any reconcile before this one has read.
    // Modelled as `Action::Read` in tests/model.
    async fn read_both(
        &self,
        shadow: &Transaction,
        tables: &[TableKeys],
        wanted: Wanted,
        room: Room,
    ) -> Result<(Readings, Option<turn::Seen>), Halt> {
        let (here, there) = (Meter::new(room.bytes_max), Meter::new(room.bytes_max));
        let (client, side) = (shadow.client()?, shadow.side());
        let on_shadow = read_all(client, side, Role::Shadow, tables, wanted, &there);
        let on_primary = async {
            let primary = Transaction::open_reading(&self.primary, room.deadline).await?;
            let (client, side) = (primary.client()?, primary.side());
            let read = read_all(client, side, Role::Primary, tables, wanted, &here);
            let known = still_registered(&primary, tables);
            let (read, known, seen) = tokio::join!(read, known, turn::look(&primary));
            // After the first error the others only say that the transaction is aborted.
            let read = read?;
            known?;
            let seen = seen?;
            primary.end_after("ROLLBACK", here.largest()).await?;
            Ok::<_, Halt>((read, seen))
        };
        // The first that fails ends the other: what is too large is not read to its end.
        let ((primary, seen), shadow) = tokio::try_join!(on_primary, on_shadow)?;
        self.sizes.seen(tables, &primary, &shadow);
        let largest = here.largest().max(there.largest());
        Ok((Readings { primary, shadow, largest }, seen))
    }

    /// Plans all tables; where foreign keys are active, rows that refer to a row which is
    /// taken out are taken out with it, and the set grows by those it does not have.
    // Modelled as `Action::Plan` in tests/model.
    pub(super) async fn plan_all<'a>(
        &self,
        shadow: &Transaction,
        tables: &'a [TableKeys],
        readings: &'a Readings,
        holders_first: bool,
        shapes: &ShapeMap,
    ) -> Result<Vec<Planned<'a>>, Halt> {
        let keys_as = self.foreign_keys().await?;
        let mut forced: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        loop {
            let nothing = BTreeSet::new();
            let planned: Vec<Planned<'a>> = tables
                .iter()
                .enumerate()
                .map(|(index, table)| {
                    let (primary, on_shadow) = (&readings.primary[index], &readings.shadow[index]);
                    let forced = forced.get(&index).unwrap_or(&nothing);
                    let removal = Removal { unique_holders: holders_first, forced };
                    let plan = plan(&table.shape, primary, on_shadow, removal, equal);
                    Planned { table, primary, shadow: on_shadow, plan }
                })
                .collect();
            if keys_as == ForeignKeys::Replica {
                return Ok(planned);
            }
            let children = children_of_removed(shadow, &planned, shapes).await?;
            if !take_in(&children, &planned, &mut forced)? {
                return Ok(planned);
            }
        }
    }

    /// What a violation means: the rows that caused it are looked for on the same
    /// connection, after the rollback.
    // Modelled as `Action::Learn` in tests/model.
    pub(super) async fn learn(
        &self,
        shadow: Transaction,
        planned: &[Planned<'_>],
        keys: &BTreeSet<RowKey>,
        shapes: &ShapeMap,
        halt: Halt,
    ) -> Halt {
        let search = async {
            shadow.client()?.batch_execute("ROLLBACK").await?;
            let found = self.in_the_way(&shadow, planned, shapes, &halt).await?;
            // Nothing is open any more: the connection is as good as new.
            shadow.end("SELECT 1").await?;
            Ok::<_, Halt>(found)
        };
        let new = match search.await {
            Ok(found) => found.difference(keys).cloned().collect::<BTreeSet<_>>(),
            Err(other) => return other,
        };
        self.judged(halt, new)
    }

    /// The rows that caused a violation.
    pub(super) async fn in_the_way(
        &self,
        shadow: &Transaction,
        planned: &[Planned<'_>],
        shapes: &ShapeMap,
        halt: &Halt,
    ) -> Result<BTreeSet<RowKey>, Halt> {
        Ok(match halt {
            Halt::Unique(fault) => {
                let client = shadow.client()?;
                conflict::holders(client, planned, &fault.constraint).await?
            }
            Halt::ForeignKey(_) => conflict::parents(planned, |reference| {
                by_shadow_name(shapes, &reference.parent).map(AsRef::as_ref)
            }),
            _ => BTreeSet::new(),
        })
    }

    /// What a violation means, where these rows caused it that are not in the set.
    pub(super) fn judged(&self, halt: Halt, new: BTreeSet<RowKey>) -> Halt {
        match halt {
            Halt::Unique(_) => Halt::Holders(new),
            Halt::ForeignKey(_) if !new.is_empty() => Halt::Grow(new),
            halt => halt,
        }
    }
}

// Modelled as `Action::Lock` in tests/model.
pub(super) async fn lock(shadow: &Transaction, tables: &[TableKeys]) -> Result<(), Halt> {
    let mut slots = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for table in tables {
        let table_id = table.shape.table_id;
        ids.insert(table_id);
        let canons = table.shape.canons();
        for values in &table.keys {
            slots.insert(slot(&RowKey { table_id, values: values.clone() }, &canons));
        }
    }
    let client = shadow.client()?;
    let by_row = !client.dialect().has_advisory_locks();
    let share = if by_row { SHARE_TABLES_BY_ROW } else { SHARE_TABLES };
    let share = client.prepared(share).await.map_err(of_fault)?;
    let keys = client.prepared(LOCK_KEYS).await.map_err(of_fault)?;
    let (ids, slots): (Vec<i32>, Vec<i32>) =
        (ids.into_iter().collect(), slots.into_iter().collect());
    let shared = if by_row {
        let rows: Vec<i32> = ids.iter().copied().map(slot_of_table).collect();
        client.query(&share.statement, &[&rows]).await
    } else {
        client.query(&share.statement, &[&TABLE_LOCK_CLASS, &ids]).await
    };
    shared?;
    client.execute(&keys.statement, &[&slots]).await?;
    Ok(())
}

fn by_shadow_name<'a>(shapes: &'a ShapeMap, name: &TableName) -> Option<&'a Arc<TableShape>> {
    shapes.values().filter_map(|shape| shape.as_ref().ok()).find(|shape| &shape.shadow == name)
}

/// Rows of the shadow that refer to rows which the plan takes out.
async fn children_of_removed(
    shadow: &Transaction,
    planned: &[Planned<'_>],
    shapes: &ShapeMap,
) -> Result<BTreeSet<RowKey>, Halt> {
    let mut found = BTreeSet::new();
    for parent in planned {
        let removed: Vec<usize> =
            parent.plan.deletes.iter().chain(&parent.plan.reinserts).copied().collect();
        if removed.is_empty() {
            continue;
        }
        for child in shapes.values().filter_map(|shape| shape.as_ref().ok()) {
            let refers = |name: &TableName| name == &parent.table.shape.shadow;
            for reference in child.references.iter().filter(|reference| refers(&reference.parent)) {
                let client = shadow.client()?;
                found.extend(conflict::children(client, parent, &removed, child, reference).await?);
            }
        }
    }
    Ok(found)
}

/// Marks children that are in the set as to be taken out; says whether any was new.
///
/// # Errors
///
/// [`Halt::Grow`] where some are not in the set.
fn take_in(
    children: &BTreeSet<RowKey>,
    planned: &[Planned<'_>],
    forced: &mut BTreeMap<usize, BTreeSet<usize>>,
) -> Result<bool, Halt> {
    let mut missing = BTreeSet::new();
    let mut new = false;
    for child in children {
        let place = planned.iter().enumerate().find_map(|(index, table)| {
            let same = table.table.shape.table_id == child.table_id;
            let key = table.table.keys.iter().position(|values| values == &child.values)?;
            same.then_some((index, key))
        });
        match place {
            None => {
                missing.insert(child.clone());
            }
            Some((index, key)) => {
                let plan = &planned[index].plan;
                if !plan.deletes.contains(&key) && !plan.reinserts.contains(&key) {
                    new |= forced.entry(index).or_default().insert(key);
                }
            }
        }
    }
    if missing.is_empty() { Ok(new) } else { Err(Halt::Grow(missing)) }
}

/// What an attempt learned for the next one.
#[derive(Debug)]
pub(super) struct Learned {
    pub(super) extra: BTreeSet<RowKey>,
    pub(super) holders_first: bool,
    pub(super) wanted: Wanted,
}
