//! The one primitive that changes the shadow: make its rows for these keys equal to the
//! primary's.
//!
//! An attempt is one transaction on the shadow: lock the keys, *then* read their rows on both
//! sides, write what differs, commit. It needs no order of the writes, no clock and no
//! version: every reconcile of a key reads the primary under the key's lock, so the last one
//! writes the final state.
//!
//! - [`attempt`]: that transaction
//! - [`Reconciler::reconcile`]: attempts until every key is done or has its reason
//! - `sets`, `settle`: which keys go together, and how often it is tried
//! - `sizes`, `weight`: how many bytes that may be; `wide`: a row that goes alone
//! - `batch`: claim, reconcile, forget
//! - [`consistent`]: while reads are shifted: all that waits, from one snapshot
//! - [`turn`]: the lock that keeps the two apart
//! - [`whole_table`]: after `TRUNCATE`
//! - [`plan`], [`lock`]: the pure parts, over what [`mapping`](super::mapping) knows of a table

pub mod apply;
mod asked;
pub mod attempt;
pub mod batch;
mod beyond;
pub mod conflict;
pub mod consistent;
mod digest;
mod generated;
mod give_back;
mod group;
pub mod halt;
pub mod lock;
pub mod mappings;
mod measure;
pub mod meter;
mod place;
pub mod plan;
pub mod preflight;
pub mod read;
pub mod select;
pub mod session;
mod sets;
mod settle;
pub(in crate::postgres) mod sizes;
pub mod turn;
mod turn_lock;
mod unread;
pub mod wanted;
pub(in crate::postgres) mod weight;
pub mod whole_table;
pub(in crate::postgres) mod wide;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::dialect::Dialect;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::failpoint::FailPoints;
use crate::postgres::mapping::load::IgnoredColumns;
use crate::postgres::mapping::table::Role;
use crate::postgres::memory::RowMemory;
use crate::postgres::outbox::RowKey;
use crate::postgres::pool::Pool;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::mappings::Shapes;
use crate::postgres::reconcile::session::ForeignKeys;
use crate::postgres::reconcile::sizes::Sizes;
use crate::postgres::reconcile::turn::Leave;
use crate::telemetry::retries::Retries;

/// Random numbers from 0 to 1, handed in.
pub type Dice = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Larger rows go into no message of the protocol, whose limit is 1 GiB.
pub const ROW_BYTES_MAX: u64 = 1000 << 20;

/// What a reconciler needs to know.
#[derive(Clone)]
pub struct Params {
    /// One attempt's limit.
    pub deadline: Duration,
    /// Keys that one transaction may take, those included that stood in the way.
    pub set_max: usize,
    /// How long one call may go on before it leaves the rest for later: the claims of its keys
    /// must not outlive the limit on an idle transaction.
    pub turn_max: Duration,
    /// Attempts on one set, for deadlocks, conflicts and growth together.
    pub attempts_max: u32,
    /// What foreign keys of the shadow mean, where its server can leave them alone.
    pub foreign_keys: ForeignKeys,
    /// Columns of the primary that are knowingly not copied.
    pub ignored_columns: IgnoredColumns,
    /// Memory for rows on their way, of the whole process.
    pub memory: RowMemory,
    /// A row of the primary that has more is not carried.
    pub row_bytes_max: u64,
    /// Chance, for the waits between attempts.
    pub dice: Dice,
    /// Leave to write keys on their own while reads are shifted.
    pub leave: Leave,
    /// Places where tests end the member.
    pub failpoints: FailPoints,
    /// Told of what is tried again and again.
    pub retries: Retries,
}

impl Params {
    /// The defaults of the design.
    pub fn new(dice: Dice) -> Self {
        Self {
            deadline: Duration::from_secs(5),
            turn_max: Duration::from_secs(30),
            set_max: 4096,
            attempts_max: 12,
            foreign_keys: ForeignKeys::Replica,
            ignored_columns: IgnoredColumns::new(),
            memory: RowMemory::default(),
            row_bytes_max: ROW_BYTES_MAX,
            dice,
            leave: Leave::default(),
            failpoints: FailPoints::default(),
            retries: Retries::default(),
        }
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params")
            .field("deadline", &self.deadline)
            .field("turn_max", &self.turn_max)
            .field("set_max", &self.set_max)
            .field("attempts_max", &self.attempts_max)
            .field("foreign_keys", &self.foreign_keys)
            .field("ignored_columns", &self.ignored_columns)
            .field("row_bytes_max", &self.row_bytes_max)
            .field("failpoints", &self.failpoints)
            .finish_non_exhaustive()
    }
}

/// Makes the shadow's rows equal to the primary's. Its pools are its own, so that it never
/// takes a connection from a caller.
#[derive(Debug)]
pub struct Reconciler {
    primary: Pool,
    shadow: Pool,
    primary_side: Side,
    shapes: Shapes,
    sizes: Sizes,
    /// Held while a row goes that is larger than all memory for rows.
    alone: Mutex<()>,
    params: Params,
    /// What the shadow's server speaks, once it has been seen.
    speaks: OnceLock<Dialect>,
}

/// What became of keys.
#[derive(Debug, Default)]
pub struct Report {
    /// Keys whose shadow rows are equal now, committed.
    pub done: BTreeSet<RowKey>,
    /// Keys that could not be done, each with its reason.
    pub failed: Vec<(RowKey, String)>,
    /// Of these, keys of another primary key than their table has now: they name no row, and the
    /// rows that they named are found by going through the table.
    pub outdated: BTreeSet<RowKey>,
    /// Rows of the shadow that were written.
    pub changed: u64,
    /// Why the rest was left alone.
    pub stopped: Option<Stopped>,
}

/// Why keys were left alone that had no fault of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// A side is away.
    Away(Box<SqlFault>),
    /// An attempt on many keys took too long; fewer may be quick enough.
    Late,
    /// Reads are shifted, and keys are not written on their own: what waits in the outbox is
    /// applied with all the rest.
    Shifted,
    /// Rows so large that only one goes at a time, and one is on its way.
    Busy,
    /// A failpoint was reached.
    Crash,
}

// === impl Reconciler ===

impl Reconciler {
    /// A reconciler from one side to the other.
    pub fn new(primary: Pool, shadow: Pool, primary_side: Side, params: Params) -> Self {
        let (shapes, speaks) = (Shapes::default(), OnceLock::new());
        let (sizes, alone) = (Sizes::default(), Mutex::default());
        Self { primary, shadow, primary_side, shapes, sizes, alone, params, speaks }
    }

    /// Sessions on a side.
    pub(in crate::postgres) fn pool(&self, role: Role) -> &Pool {
        match role {
            Role::Primary => &self.primary,
            Role::Shadow => &self.shadow,
        }
    }

    /// What foreign keys of the shadow mean: where they cannot be put off, they stay active whatever
    /// was asked.
    async fn foreign_keys(&self) -> Result<ForeignKeys, Halt> {
        if self.params.foreign_keys == ForeignKeys::Active {
            return Ok(ForeignKeys::Active);
        }
        let dialect = match self.speaks.get() {
            Some(known) => *known,
            None => {
                let session = self.shadow.get().await.map_err(Halt::Away)?;
                *self.speaks.get_or_init(|| session.dialect())
            }
        };
        Ok(ForeignKeys::on(dialect))
    }

    /// The next use reads the tables' shapes anew.
    pub(in crate::postgres) fn forget_shapes(&self) {
        self.shapes.forget();
    }
}
