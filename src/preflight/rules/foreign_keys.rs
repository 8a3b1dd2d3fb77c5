//! Foreign keys: what they ask of the order of copying, and of tables outside.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::relation::ForeignKey;
use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::preflight::codes::Code;
use crate::preflight::describe::{Pair, World};
use crate::preflight::finding::Finding;

pub(super) fn all(world: &World, found: &mut Vec<Finding>) {
    let active = !world.target.server.dialect.has_replication_role();
    for pair in world.pairs() {
        compare(world, &pair, active, found);
        outside(world, &pair, active, found);
    }
    cycles(world, active, found);
}

fn finding(pair: &Pair<'_>, code: Code, side: Side, key: &ForeignKey, text: String) -> Finding {
    Finding::new(code, side, text).table(&pair.on(side).table.name).object(&key.name)
}

fn shown(key: &ForeignKey) -> String {
    format!(
        "({}) refers to {} ({})",
        key.columns.join(", "),
        key.referenced,
        key.referenced_columns.join(", ")
    )
}

/// The table of the target that a table of the source corresponds to.
fn to_target(world: &World, table: &TableName) -> TableName {
    let mapping = world.mappings.iter().find(|mapping| mapping.source == *table);
    mapping.map_or_else(|| table.clone(), |mapping| mapping.target.clone())
}

/// What a key says, in the target's words: pairs of columns, and the table.
fn meaning(key: &ForeignKey, referenced: TableName) -> (BTreeSet<(String, String)>, TableName) {
    let pairs = key.columns.iter().cloned().zip(key.referenced_columns.iter().cloned());
    (pairs.collect(), referenced)
}

fn compare(world: &World, pair: &Pair<'_>, active: bool, found: &mut Vec<Finding>) {
    let source: Vec<_> = pair.source.table.foreign_keys.iter().collect();
    let target: Vec<_> = pair.target.table.foreign_keys.iter().collect();
    let of_source = |key: &ForeignKey| meaning(key, to_target(world, &key.referenced));
    let of_target = |key: &ForeignKey| meaning(key, key.referenced.clone());
    for key in &target {
        let text = format!("only on the target: {}", shown(key));
        let Some(twin) = source.iter().find(|other| of_source(other) == of_target(key)) else {
            let code = if active { Code::ForeignKeyAddedActive } else { Code::ForeignKeyAdded };
            found.push(finding(pair, code, Side::Target, key, text));
            continue;
        };
        let does = |facts: &crate::preflight::describe::TableFacts, name: &str| {
            let actions = facts.actions.get(name).cloned().unwrap_or_default();
            if actions.is_empty() { "NO ACTION".to_owned() } else { actions }
        };
        let (here, there) = (does(pair.source, &twin.name), does(pair.target, &key.name));
        if here != there {
            let text = format!("{here} on the source, {there} on the target");
            found.push(finding(pair, Code::ForeignKeyDiffers, Side::Target, key, text));
        }
    }
    for key in source {
        if !target.iter().any(|other| of_target(other) == of_source(key)) {
            let text = format!("only on the source: {}", shown(key));
            found.push(finding(pair, Code::ForeignKeyDropped, Side::Target, key, text));
        }
    }
}

/// Keys that refer to tables which are not migrated.
fn outside(world: &World, pair: &Pair<'_>, active: bool, found: &mut Vec<Finding>) {
    for side in [Side::Source, Side::Target] {
        for key in &pair.on(side).table.foreign_keys {
            let migrated = world.mappings.iter().any(|mapping| *mapping.on(side) == key.referenced);
            // The same on both sides is told once, where it matters.
            let told = side == Side::Source
                && pair.target.table.foreign_keys.iter().any(|other| {
                    meaning(other, other.referenced.clone())
                        == meaning(key, to_target(world, &key.referenced))
                });
            if migrated || told {
                continue;
            }
            let code = if active && side == Side::Target {
                Code::ForeignKeyOutsideActive
            } else {
                Code::ForeignKeyOutside
            };
            found.push(finding(pair, code, side, key, shown(key)));
        }
    }
}

/// What each table of the target refers to, itself left out.
fn references(world: &World) -> BTreeMap<TableName, BTreeSet<TableName>> {
    let mut references = BTreeMap::new();
    for it in &world.tables {
        let name = it.mapping.target.clone();
        let parents: BTreeSet<TableName> = match (&it.target, &it.source) {
            (Some(target), _) => {
                target.table.foreign_keys.iter().map(|key| key.referenced.clone()).collect()
            }
            (None, Some(source)) => source
                .table
                .foreign_keys
                .iter()
                .map(|key| to_target(world, &key.referenced))
                .collect(),
            (None, None) => BTreeSet::new(),
        };
        let parents = parents.into_iter().filter(|parent| *parent != name).collect();
        references.insert(name, parents);
    }
    references
}

/// The tables by their names on the target, parents before children, and what is left over
/// because it refers to itself in a circle.
pub(in crate::preflight) fn parents_first(world: &World) -> (Vec<TableName>, Vec<TableName>) {
    let mut waiting = references(world);
    let known: BTreeSet<TableName> = waiting.keys().cloned().collect();
    let mut order = Vec::with_capacity(waiting.len());
    loop {
        let done: BTreeSet<&TableName> = order.iter().collect();
        let ready: Vec<TableName> = waiting
            .iter()
            .filter(|(_, parents)| {
                parents.iter().all(|parent| done.contains(parent) || !known.contains(parent))
            })
            .map(|(name, _)| name.clone())
            .collect();
        if ready.is_empty() {
            return (order, waiting.into_keys().collect());
        }
        waiting.retain(|name, _| !ready.contains(name));
        order.extend(ready);
    }
}

fn cycles(world: &World, active: bool, found: &mut Vec<Finding>) {
    let (_, mut left) = parents_first(world);
    let references = references(world);
    // Children of a circle wait for it without being part of it.
    loop {
        let is_parent = |name: &TableName| {
            left.iter().any(|other| references.get(other).is_some_and(|it| it.contains(name)))
        };
        let kept: Vec<TableName> = left.iter().filter(|name| is_parent(name)).cloned().collect();
        if kept.len() == left.len() {
            break;
        }
        left = kept;
    }
    let Some(first) = left.first() else { return };
    let names = left.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let code = if active { Code::ForeignKeyCycleActive } else { Code::ForeignKeyCycle };
    let text = format!("foreign keys go in a circle among {names}");
    found.push(Finding::new(code, Side::Target, text).table(first));
}
