//! Capture: triggers on the primary's tables that write the keys of every row a transaction
//! touched into `segue.outbox`, in that transaction.
//!
//! Each migrated table has a few functions of its own in schema `segue`, and triggers on it
//! and on each of its partitions. Functions run as their owner with a fixed search path, so
//! that applications need no right on segue's schema and cannot get in between.
//! Putting triggers on takes a lock that waits for writers and lets none pass; it is asked
//! for with a short timeout, so that writers are never held up for longer than that, and
//! asked for again until it is had.
//!
//! CockroachDB has triggers for single rows only, and a form of its own (`rows`).

mod always;
mod event;
mod form;
mod install;
mod key;
mod note;
mod registry;
mod remove;
mod retire;
mod rows;
mod setup_lock;
mod tables;
mod verify;

use std::time::Duration;

use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};

pub use install::{install, print};
pub use key::decode;
pub use registry::{registered, registered_mappings};
pub use remove::{give_up, remove};
pub use retire::{Retired, Retirement, adopt, retire, retired};
pub(in crate::postgres) use tables::refusal;
pub use tables::{Refusal, default_tables, idempotency};
pub use verify::{Drift, ids_of, verify_installed, writers_lacking};

/// Which database, and how patient to be with its locks.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// The side that the triggers are put on.
    pub side: Side,
    /// The longest that a writer of the application may be held up by one attempt.
    pub lock_timeout: Duration,
    /// How long a table's lock is asked for before it is an error.
    pub patience: Duration,
}

// === impl Params ===

impl Params {
    /// Holds writers up by 100 ms at most, and tries for half a minute.
    pub fn new(side: Side) -> Self {
        Self { side, lock_timeout: Duration::from_millis(100), patience: Duration::from_secs(30) }
    }
}

/// What [`install`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Tables that are captured now.
    pub captured: Vec<Captured>,
    /// Tables that are not, and why.
    pub refused: Vec<Refusal>,
}

/// One captured table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its small id in the outbox.
    pub table_id: i32,
    /// The table on both sides.
    pub mapping: TableMapping,
    /// Something had to be made or made anew.
    pub changed: bool,
}

fn on_side(mapping: &TableMapping, side: Side) -> &TableName {
    match side {
        Side::Source => &mapping.source,
        Side::Target => &mapping.target,
    }
}
