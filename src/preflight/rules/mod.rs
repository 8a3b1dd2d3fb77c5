//! The rules: each looks at one thing on both sides.

mod callers;
mod columns;
mod constraints;
mod defaults;
mod foreign_keys;
mod keys;
mod limits;
mod roles;
mod sequences;
mod servers;
mod tables;
mod triggers;
mod types;

use crate::domain::relation::TableKind;
use crate::domain::side::Side;
use crate::preflight::describe::{Pair, World};
use crate::preflight::finding::Finding;

pub(super) use foreign_keys::parents_first;
pub(super) use servers::COMPARED;
pub(super) use tables::refused;

const BOTH: [Side; 2] = [Side::Source, Side::Target];

/// Views and foreign tables are told of as such, and nothing else of them matters.
fn has_rows(pair: &Pair<'_>) -> bool {
    let is_table =
        |side| matches!(pair.on(side).table.kind, TableKind::Ordinary | TableKind::Partitioned);
    BOTH.into_iter().all(is_table)
}

/// All findings, the heaviest first.
pub(super) fn all(world: &World) -> Vec<Finding> {
    let mut found = world.found.clone();
    for side in BOTH {
        servers::one(side, world.side(side), &mut found);
        limits::one(side, world.side(side), &mut found);
    }
    servers::both(world, &mut found);
    roles::all(world, &mut found);
    callers::all(world, &mut found);
    tables::all(world, &mut found);
    for pair in world.pairs().filter(has_rows) {
        keys::of(&pair, &mut found);
        columns::of(world, &pair, &mut found);
        for columns in pair.columns() {
            types::of(&pair, columns, &mut found);
            defaults::of(&pair, columns, &mut found);
        }
        constraints::of(&pair, &mut found);
        triggers::of(world, &pair, &mut found);
    }
    foreign_keys::all(world, &mut found);
    sequences::all(world, &mut found);
    tables::unfit(world, &mut found);
    found.sort_by(Finding::order);
    found.dedup();
    found
}
