//! One attempt: one transaction on the shadow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::Side;
use crate::domain::table::{TableName, quote_identifier};
use crate::postgres::crash;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::apply::{Planned, apply};
use crate::postgres::reconcile::cells::equal;
use crate::postgres::reconcile::conflict;
use crate::postgres::reconcile::halt::{Halt, of_fault, on};
use crate::postgres::reconcile::image::Image;
use crate::postgres::reconcile::lock::{
    LOCK_KEYS, SHARE_TABLES, SHARE_TABLES_BY_ROW, TABLE_LOCK_CLASS, slot, slot_of_table,
};
use crate::postgres::reconcile::plan::{Removal, plan};
use crate::postgres::reconcile::read::{TableKeys, read_all};
use crate::postgres::reconcile::session::{ForeignKeys, Transaction, begin_primary};
use crate::postgres::reconcile::shape::{Role, TableShape};
use crate::postgres::reconcile::shapes::ShapeMap;
use crate::postgres::reconcile::sizes::{Meter, Room};

/// The tables' names and keys, read in the snapshot in which the rows are read.
const REGISTRY: &str = "\
    SELECT table_id, ARRAY[source_schema, source_name, target_schema, target_name], key_columns \
    FROM segue.migrated_table WHERE table_id = ANY ($1)";

/// Both sides' rows of a set, table by table.
pub(super) struct Readings {
    pub(super) primary: Vec<Vec<Option<Image>>>,
    pub(super) shadow: Vec<Vec<Option<Image>>>,
    /// Of one side at most.
    pub(super) bytes: u64,
}

impl Reconciler {
    /// Locks, reads, writes and commits. If we crash anywhere before the commit, the shadow
    /// rolls back and the outbox still has the keys; if we crash after it, they are
    /// reconciled again, which changes nothing.
    pub(super) async fn attempt(
        &self,
        keys: &BTreeSet<RowKey>,
        holders_first: bool,
        room: Room,
    ) -> Result<u64, Halt> {
        let shapes = self.shapes().await?;
        let tables = group(keys, &shapes)?;
        let keys_as = self.foreign_keys().await?;
        let shadow = Transaction::open_shadow(&self.shadow, keys_as, room.deadline).await?;
        lock(&shadow, &tables).await?;
        self.params.crash.pass(crash::AFTER_LOCK)?;
        let readings = self.read_both(&shadow, &tables, room).await?;
        self.params.crash.pass(crash::AFTER_READ)?;
        let planned = self.plan_all(&shadow, &tables, &readings, holders_first, &shapes).await?;
        if planned.iter().all(|table| table.plan.is_empty()) {
            end(shadow, "COMMIT", readings.bytes).await?;
            self.params.crash.pass(crash::AFTER_SHADOW_COMMIT)?;
            return Ok(0);
        }
        let applied = apply(shadow.client()?, shadow.side(), &planned).await;
        let changed = match applied {
            Ok(changed) => changed,
            Err(halt) => return Err(self.learn(shadow, &planned, keys, &shapes, halt).await),
        };
        self.params.crash.pass(crash::AFTER_APPLY)?;
        // Modelled as `Action::ShadowCommit` in tests/model.
        end(shadow, "COMMIT", readings.bytes).await?;
        self.params.crash.pass(crash::AFTER_SHADOW_COMMIT)?;
        Ok(changed)
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
        room: Room,
    ) -> Result<Readings, Halt> {
        let (there, here) = (Meter::new(room.bytes_max), Meter::new(room.bytes_max));
        let on_shadow = read_all(shadow.client()?, shadow.side(), Role::Shadow, tables, &there);
        let on_primary = async {
            let begin = begin_primary(room.deadline);
            let primary = Transaction::open(&self.primary, &begin).await?;
            let read = read_all(primary.client()?, primary.side(), Role::Primary, tables, &here);
            let (read, known) = tokio::join!(read, still_registered(&primary, tables));
            // After the first error the other only says that the transaction is aborted.
            let read = read?;
            known?;
            end(primary, "ROLLBACK", here.bytes()).await?;
            Ok::<_, Halt>(read)
        };
        // The first that fails ends the other: what is too large is not read to its end.
        let (primary, shadow) = tokio::try_join!(on_primary, on_shadow)?;
        let keys = tables.iter().map(|table| table.keys.len()).sum();
        self.sizes.seen(keys, here.bytes().max(there.bytes()));
        Ok(Readings { primary, shadow, bytes: here.bytes().max(there.bytes()) })
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
        let side = shadow.side();
        let search = async {
            shadow.client()?.batch_execute("ROLLBACK").await.map_err(on(side))?;
            let found = match &halt {
                Halt::Unique(fault) => {
                    conflict::holders(shadow.client()?, side, planned, &fault.constraint).await?
                }
                Halt::ForeignKey(_) => conflict::parents(planned, |reference| {
                    by_shadow_name(shapes, &reference.parent).map(AsRef::as_ref)
                }),
                _ => BTreeSet::new(),
            };
            // Nothing is open any more: the connection is as good as new.
            shadow.end("SELECT 1").await?;
            Ok::<_, Halt>(found)
        };
        let new = match search.await {
            Ok(found) => found.difference(keys).cloned().collect::<BTreeSet<_>>(),
            Err(other) => return other,
        };
        match halt {
            Halt::Unique(_) => Halt::Holders(new),
            Halt::ForeignKey(_) if !new.is_empty() => Halt::Grow(new),
            halt => halt,
        }
    }
}

/// A session that has carried more is closed: its buffers keep the size of what they have held.
const SESSION_BYTES: u64 = 1 << 20;

async fn end(transaction: Transaction, how: &str, bytes: u64) -> Result<(), Halt> {
    match bytes > SESSION_BYTES {
        true => transaction.close(how).await,
        false => transaction.end(how).await,
    }
}

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
    let rows = primary.client()?.query(&registry.statement, &[&ids]).await.map_err(on(side))?;
    let mut same = 0;
    for row in &rows {
        let id: i32 = row.try_get(0).map_err(on(side))?;
        let names: Vec<String> = row.try_get(1).map_err(on(side))?;
        let key: Vec<String> = row.try_get(2).map_err(on(side))?;
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
    Err(Halt::Stale(SqlFault::new(FaultKind::Database, "reconcile.stale", message).on(side)))
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
    let on = on(shadow.side());
    let client = shadow.client()?;
    let by_row = client.facts().is_cockroach;
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
    shared.map_err(on)?;
    client.execute(&keys.statement, &[&slots]).await.map_err(on)?;
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
                let side = shadow.side();
                found.extend(
                    conflict::children(client, side, parent, &removed, child, reference).await?,
                );
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
