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
//! - [`sizes`]: how many bytes a set may have; [`wide`]: a row that is too large for a set
//! - [`batch`]: claim, reconcile, forget
//! - [`whole_table`]: after `TRUNCATE`
//! - [`plan`], [`shape`], [`lock`], [`cells`]: the pure parts

pub mod apply;
pub mod attempt;
pub mod batch;
pub mod catalog;
pub mod cells;
pub mod conflict;
pub mod halt;
pub mod image;
mod key_column;
pub mod lock;
mod place;
pub mod plan;
pub mod preflight;
mod queries;
pub mod read;
pub mod session;
pub mod shape;
pub mod shapes;
pub(in crate::postgres) mod sizes;
pub mod whole_table;
mod wide;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::postgres::crash::CrashPoints;
use crate::postgres::memory::RowMemory;
use crate::postgres::pool::Pool;

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::catalog::IgnoredColumns;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::session::ForeignKeys;
use crate::postgres::reconcile::shape::Role;
use crate::postgres::reconcile::shapes::Shapes;
use crate::postgres::reconcile::sizes::{Room, Sizes};

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
    /// Memory for rows on their way, shared by the whole process.
    pub memory: RowMemory,
    /// Chance, for the waits between attempts.
    pub dice: Dice,
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
            memory: RowMemory::default(),
            dice,
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
    sizes: Sizes,
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
    /// A crash point was reached.
    Crash,
}

/// The first wait between two attempts on one set.
const AGAIN_FIRST: Duration = Duration::from_millis(5);
/// The longest of them.
const AGAIN_MAX: Duration = Duration::from_millis(250);

/// What an attempt learned for the next one.
#[derive(Debug, Default)]
struct Learned {
    extra: BTreeSet<RowKey>,
    holders_first: bool,
}

impl Reconciler {
    /// A reconciler from one side to the other.
    pub fn new(primary: Pool, shadow: Pool, primary_side: Side, params: Params) -> Self {
        let (shapes, is_cockroach) = (Shapes::default(), OnceLock::new());
        let sizes = Sizes::default();
        Self { primary, shadow, primary_side, shapes, sizes, params, is_cockroach }
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

    /// Whether the shadow is CockroachDB, as far as it was seen.
    fn is_cockroach(&self) -> bool {
        self.is_cockroach.get().copied().unwrap_or(false)
    }

    /// The next use reads the tables' shapes anew.
    pub(in crate::postgres) fn forget_shapes(&self) {
        self.shapes.forget();
    }

    /// Makes the shadow equal for these keys. A key that cannot be done does not hold back
    /// the others: a set that fails is halved until the culprits stand alone.
    pub async fn reconcile(&self, keys: BTreeSet<RowKey>) -> Report {
        let mut report = Report::default();
        let mut sets = vec![keys];
        let until = Instant::now() + self.params.turn_max;
        let mut known = BTreeMap::new();
        while let Some(mut set) = sets.pop() {
            if set.is_empty() {
                continue;
            }
            if Instant::now() > until {
                report.stopped = Some(Stopped::Late);
                break;
            }
            let room = match self.room(&set, &mut known).await {
                Ok(Some(room)) => room,
                Ok(None) => {
                    sets.extend(sizes::parts(set, &known).into_iter().rev());
                    continue;
                }
                Err(fault) => {
                    report.stopped = Some(Stopped::Away(Box::new(fault)));
                    break;
                }
            };
            let _held = self.params.memory.hold(room.bytes).await;
            match self.settle(&set, until, room).await {
                // It is measured before it is tried again.
                Err(Halt::Large) if !set.iter().any(|key| known.contains_key(key)) => {
                    self.measure(&set, &mut known).await;
                    sets.push(set);
                }
                Err(Halt::Large) => halve(set, "its row is too large", &mut sets, &mut report),
                Ok(changed) => {
                    report.changed += changed;
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
                Err(Halt::Set(reason)) => halve(set, &reason, &mut sets, &mut report),
                Err(Halt::Table(reason)) => by_table(set, &reason, &mut sets, &mut report),
                Err(Halt::Late) if set.len() == 1 => {
                    let reason = format!("not done within {:?}", room.deadline);
                    halve(set, &reason, &mut sets, &mut report);
                }
                Err(halt) => {
                    report.stopped = Some(match halt {
                        Halt::Away(fault) => Stopped::Away(Box::new(fault)),
                        Halt::Crash(_) => Stopped::Crash,
                        _ => Stopped::Late,
                    });
                    break;
                }
            }
        }
        report
    }

    /// Attempts on one set until it is committed or has a reason.
    // Modelled as `Action::Again` in tests/model.
    async fn settle(
        &self,
        set: &BTreeSet<RowKey>,
        until: Instant,
        room: Room,
    ) -> Result<u64, Halt> {
        let mut learned = Learned::default();
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
                    "more than {} keys stand in its way; raise the limit of a reconcile's set",
                    self.params.set_max
                )));
            }
            let tried = async {
                match room.bytes >= sizes::WIDE_BYTES && !self.is_cockroach() {
                    true => self.attempt_wide(&all, learned.holders_first, room).await,
                    false => self.attempt(&all, learned.holders_first, room).await,
                }
            };
            let tried = tokio::time::timeout(room.deadline, tried).await;
            match tried.unwrap_or(Err(Halt::Late)) {
                Ok(changed) => return Ok(changed),
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
