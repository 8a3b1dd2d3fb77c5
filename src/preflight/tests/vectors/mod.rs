//! One change of two equal sides for each rule, at least.

mod callers;
mod columns;
mod constraints;
mod servers;
mod tables;

use crate::preflight::describe::World;

type Vector = (&'static str, fn(&mut World), &'static [&'static str]);

pub(super) fn all() -> Vec<Vector> {
    [
        servers::servers(),
        servers::roles(),
        callers::callers(),
        tables::tables(),
        tables::keys(),
        columns::columns(),
        columns::defaults(),
        constraints::constraints(),
        constraints::relations(),
    ]
    .concat()
}
