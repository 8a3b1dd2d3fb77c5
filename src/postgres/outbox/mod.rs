//! The outbox of the primary: keys whose shadow row may be stale.
//!
//! Rows are written by capture in the transaction of the application's write, and leave
//! only by being forgotten after the shadow's commit. A row is named by `(slot, ctid)`: the
//! claim holds its lock, so nobody can move it before it is settled. On CockroachDB, which has
//! no `ctid`, rows have an id of their own.
//!
//! - [`claim`]: takes what is due, locked for one transaction
//! - [`settle`]: forgets exactly the claimed rows, or gives them back with the reason
//! - [`asking`]: rows that segue writes itself, for keys that are to be made equal
//! - [`list`], `status`: what operators and the comparer ask
//! - [`lookup`]: whether single writes wait
//! - [`servers`]: whether one of them may have lost commits
//! - [`unreadable`]: keys that no session can read
//! - [`upkeep`]: the ring, the window of forgotten rows
//! - `pressure`: what is done about an outbox that is too large
//! - [`fold`]: keys that wait, folded into ranges of the key, or into their table
//! - [`ranges`]: into which ranges a table's key is cut

pub mod asking;
pub mod backoff;
pub mod by_table;
pub mod claim;
pub mod fold;
pub mod list;
pub mod lookup;
mod pressure;
pub mod ranges;
pub mod servers;
pub mod settle;
mod status;
pub mod unreadable;
pub mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::postgres::pool::{Lease, Pool};

pub use asking::{ask_for, still_asked};

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;

/// The part of the ring that rows of now go to, as capture computes it. A test holds it
/// against the ring's figures.
pub(in crate::postgres) const SLOT_NOW: &str = "pg_catalog.mod(pg_catalog.floor(pg_catalog.date_part('epoch', \
    pg_catalog.clock_timestamp()) / 600)::int8, 12)::int2";

/// A key's text must mean the same on both sides: the order of day and month is a setting.
pub(in crate::postgres) const KEY_TEXTS: &str = "SET LOCAL DateStyle = 'ISO, YMD'; \
    SET LOCAL TimeZone = 'UTC'; SET LOCAL bytea_output = 'hex'";

/// The column that tells outbox rows apart while they are claimed, and its type.
fn place_of(client: &Lease) -> (&'static str, &'static str) {
    client.dialect().place_of_row()
}

/// Primary-key values of one row of a migrated table, by the table's small id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowKey {
    /// `segue.migrated_table.table_id`, the same on both sides.
    pub table_id: i32,
    /// As PostgreSQL's text, in the order of the key's columns.
    pub values: Vec<String>,
}

/// The way to one side's outbox. Clones share what the upkeep has said of it.
#[derive(Debug, Clone)]
pub struct Outbox {
    pool: Pool,
    stuck_after: i32,
    /// The outbox is over its limit: what is forgotten goes at once.
    window_shrunk: Arc<AtomicBool>,
}

/// Failed attempts after which a row counts as stuck, where nobody says another number.
const STUCK_AFTER: i32 = 8;

impl Outbox {
    /// The outbox behind a pool.
    pub fn new(pool: Pool) -> Self {
        Self { pool, stuck_after: STUCK_AFTER, window_shrunk: Arc::default() }
    }

    /// Counts rows as stuck after so many failed attempts.
    #[must_use]
    pub fn stuck_after(self, attempts: u32) -> Self {
        Self { stuck_after: i32::try_from(attempts).unwrap_or(i32::MAX), ..self }
    }

    /// The side whose outbox this is.
    pub fn side(&self) -> Side {
        self.pool.side()
    }

    /// Says whether forgotten rows are kept for the window.
    fn keep_window(&self, keep: bool) {
        self.window_shrunk.store(!keep, Ordering::Relaxed);
    }

    /// Whether forgotten rows are kept for the window.
    pub(in crate::postgres) fn keeps_window(&self) -> bool {
        !self.window_shrunk.load(Ordering::Relaxed)
    }

    pub(in crate::postgres) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(in crate::postgres) async fn client(&self) -> Result<Lease, SqlFault> {
        self.pool.get().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};

    #[test]
    fn the_present_slot_is_that_of_capture() {
        assert!(SLOT_NOW.contains(&format!("/ {SLOT_SECONDS})::int8, {OUTBOX_SLOTS})")));
    }
}
