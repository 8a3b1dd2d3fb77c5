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
//! - [`batch`]: claim, reconcile, forget
//! - [`consistent`]: while reads are shifted: all that waits, from one snapshot
//! - [`turn`]: the lock that keeps the two apart
//! - [`whole_table`]: after `TRUNCATE`
//! - [`plan`], [`shape`], [`form`], [`lock`], [`cells`]: the pure parts

pub mod apply;
mod asked;
pub mod attempt;
pub mod batch;
mod beyond;
pub mod catalog;
pub mod cells;
pub mod conflict;
pub mod consistent;
pub mod form;
mod generated;
mod give_back;
pub mod halt;
pub mod image;
mod key_column;
pub mod lock;
mod place;
pub mod plan;
pub mod preflight;
mod queries;
pub mod read;
pub mod select;
pub mod session;
pub mod shape;
pub mod shapes;
pub mod turn;
mod unread;
pub mod whole_table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::postgres::crash::CrashPoints;
use crate::postgres::pool::Pool;

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::attempt::Attempted;
use crate::postgres::reconcile::catalog::IgnoredColumns;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::select::Wanted;
use crate::postgres::reconcile::session::ForeignKeys;
use crate::postgres::reconcile::shape::Role;
use crate::postgres::reconcile::shapes::Shapes;
use crate::postgres::reconcile::turn::Leave;

/// Random numbers from 0 to 1, handed in.
pub type Dice = Arc<dyn Fn() -> f64 + Send + Sync>;

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
    /// Chance, for the waits between attempts.
    pub dice: Dice,
    /// Leave to write keys on their own while reads are shifted.
    pub leave: Leave,
    /// Places where tests end the member.
    pub crash: CrashPoints,
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
            dice,
            leave: Leave::default(),
            crash: CrashPoints::default(),
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
            .field("crash", &self.crash)
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
    params: Params,
    /// Of the shadow's server, once it has been seen.
    is_cockroach: OnceLock<bool>,
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
    /// A crash point was reached.
    Crash,
}

/// The first wait between two attempts on one set.
const AGAIN_FIRST: Duration = Duration::from_millis(5);
/// The longest of them.
const AGAIN_MAX: Duration = Duration::from_millis(250);

/// What an attempt learned for the next one.
#[derive(Debug)]
struct Learned {
    extra: BTreeSet<RowKey>,
    holders_first: bool,
    wanted: Wanted,
}

impl Reconciler {
    /// A reconciler from one side to the other.
    pub fn new(primary: Pool, shadow: Pool, primary_side: Side, params: Params) -> Self {
        let (shapes, is_cockroach) = (Shapes::default(), OnceLock::new());
        Self { primary, shadow, primary_side, shapes, params, is_cockroach }
    }

    /// Sessions on a side.
    pub(in crate::postgres) fn pool(&self, role: Role) -> &Pool {
        match role {
            Role::Primary => &self.primary,
            Role::Shadow => &self.shadow,
        }
    }

    /// What foreign keys of the shadow mean: on CockroachDB they stay active, whatever was asked.
    async fn foreign_keys(&self) -> Result<ForeignKeys, Halt> {
        if self.params.foreign_keys == ForeignKeys::Active {
            return Ok(ForeignKeys::Active);
        }
        let is_cockroach = match self.is_cockroach.get() {
            Some(known) => *known,
            None => {
                let session = self.shadow.get().await.map_err(Halt::Away)?;
                *self.is_cockroach.get_or_init(|| session.facts().is_cockroach)
            }
        };
        Ok(if is_cockroach { ForeignKeys::Active } else { ForeignKeys::Replica })
    }

    /// The next use reads the tables' shapes anew.
    pub(in crate::postgres) fn forget_shapes(&self) {
        self.shapes.forget();
    }

    /// Makes the shadow equal for these keys, itself. A key that cannot be done does not hold
    /// back the others: a set that fails is halved until the culprits stand alone.
    pub(super) async fn reconcile_here(&self, keys: BTreeSet<RowKey>) -> Report {
        let mut report = Report::default();
        let mut sets = vec![keys];
        let until = Instant::now() + self.params.turn_max;
        while let Some(mut set) = sets.pop() {
            if set.is_empty() {
                continue;
            }
            if Instant::now() > until {
                report.stopped = Some(Stopped::Late);
                break;
            }
            match self.settle(&set, until).await {
                Ok(Attempted { changed, unequal }) => {
                    report.changed += changed;
                    for (key, reason) in unequal {
                        if set.remove(&key) {
                            report.failed.push((key, reason));
                        }
                    }
                    report.done.append(&mut set);
                }
                Err(Halt::Keys(faults)) => {
                    let before = set.len();
                    for (key, reason) in faults {
                        if set.remove(&key) {
                            report.failed.push((key, reason));
                        }
                    }
                    if set.len() == before {
                        // The fault is that of a row which stands in the way.
                        halve(
                            set,
                            "a row that stands in its way cannot be done",
                            &mut sets,
                            &mut report,
                        );
                    } else {
                        sets.push(set);
                    }
                }
                Err(Halt::Set(reason) | Halt::Uncast(reason)) => {
                    halve(set, &reason, &mut sets, &mut report);
                }
                Err(Halt::Table(reason)) => by_table(set, &reason, &mut sets, &mut report),
                Err(Halt::Late) if set.len() == 1 => {
                    let reason = format!("not done within {:?}", self.params.deadline);
                    halve(set, &reason, &mut sets, &mut report);
                }
                Err(halt) => {
                    report.stopped = Some(match halt {
                        Halt::Away(fault) => Stopped::Away(Box::new(fault)),
                        Halt::Crash(_) => Stopped::Crash,
                        Halt::Shifted => Stopped::Shifted,
                        _ => Stopped::Late,
                    });
                    break;
                }
            }
        }
        if !report.failed.is_empty()
            && let Err(halt) = self.take_settled(&mut report).await
        {
            // They wait, and are looked at again.
            tracing::debug!(?halt, "keys that failed could not be looked at");
        }
        report
    }

    /// Attempts on one set until it is committed or has a reason.
    // Modelled as `Action::Again` in tests/model.
    async fn settle(&self, set: &BTreeSet<RowKey>, until: Instant) -> Result<Attempted, Halt> {
        let (extra, holders_first) = (BTreeSet::new(), false);
        let mut learned = Learned { extra, holders_first, wanted: Wanted::Compared };
        let mut last = String::new();
        for attempt in 0..self.params.attempts_max {
            if attempt > 0 && Instant::now() > until {
                break;
            }
            // Outside of the attempt's deadline: many tables take their time to be read.
            self.shapes().await?;
            let all: BTreeSet<RowKey> = set.union(&learned.extra).cloned().collect();
            if all.len() > self.params.set_max.max(set.len()) {
                return Err(Halt::Set(format!(
                    "more than {} keys stand in its way; mend those of them that are stuck, or drop \
                     the foreign key or unique index of the shadow that ties them until the cutover",
                    self.params.set_max
                )));
            }
            let limit = self.params.deadline;
            let tried = tokio::time::timeout(limit, self.attempt(&all, &learned)).await;
            match tried.unwrap_or(Err(Halt::Late)) {
                Ok(done) => return Ok(done),
                Err(Halt::Grow(more)) => {
                    "rows that refer to it keep changing".clone_into(&mut last);
                    learned.extra.extend(more);
                }
                Err(Halt::Holders(more)) => {
                    "a unique value that it needs is held by another row".clone_into(&mut last);
                    // Growing is progress; the same set again needs others to finish first, or
                    // the constraint is one that was made since the tables were looked at.
                    if more.is_empty() && learned.holders_first {
                        self.shapes.forget_if_old();
                        self.pause(attempt).await;
                    }
                    learned.extra.extend(more);
                    learned.holders_first = true;
                }
                // Each session of the pool may still have its statements as they were.
                Err(Halt::Stale(fault)) => {
                    last = fault.to_string();
                    self.shapes.forget();
                }
                // Without its image the value is written anew, whatever it is.
                Err(Halt::Uncast(reason))
                    if set.len() == 1 && learned.wanted != Wanted::Columns =>
                {
                    last = reason;
                    learned.wanted = Wanted::Columns;
                }
                // What was unfit may have been mended since it was looked at.
                Err(Halt::Keys(_)) if self.shapes.forget_if_old() => {}
                Err(Halt::Again(fault) | Halt::ForeignKey(fault) | Halt::Unique(fault)) => {
                    last = fault.to_string();
                    self.pause(attempt).await;
                }
                Err(halt) => return Err(halt),
            }
        }
        Err(Halt::Set(format!("given back after {} attempts: {last}", self.params.attempts_max)))
    }

    async fn pause(&self, attempt: u32) {
        let full = AGAIN_FIRST.saturating_mul(1 << attempt.min(10)).min(AGAIN_MAX);
        tokio::time::sleep(full.mul_f64(0.5 + (self.params.dice)() / 2.0)).await;
    }
}

/// Tells the tables of a set apart; where there is only one, all of its keys have the reason.
fn by_table(
    set: BTreeSet<RowKey>,
    reason: &str,
    sets: &mut Vec<BTreeSet<RowKey>>,
    report: &mut Report,
) {
    let mut tables: BTreeMap<i32, BTreeSet<RowKey>> = BTreeMap::new();
    for key in set {
        tables.entry(key.table_id).or_default().insert(key);
    }
    if tables.len() == 1 {
        let keys = tables.into_values().flatten();
        report.failed.extend(keys.map(|key| (key, reason.to_owned())));
    } else {
        sets.extend(tables.into_values());
    }
}

/// Halves a set that failed; a key that stands alone has found its reason.
// Modelled as `Action::Halve` in tests/model.
fn halve(
    set: BTreeSet<RowKey>,
    reason: &str,
    sets: &mut Vec<BTreeSet<RowKey>>,
    report: &mut Report,
) {
    let middle = set.len() / 2;
    let mut keys = set.into_iter();
    if middle == 0 {
        report.failed.extend(keys.map(|key| (key, reason.to_owned())));
        return;
    }
    sets.push(keys.by_ref().take(middle).collect());
    sets.push(keys.collect());
}
