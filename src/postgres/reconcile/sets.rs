//! Keys in sets: none holds back the others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tokio::sync::MutexGuard;

use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::attempt::Attempted;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::sizes::{Known, Ready, Room};
use crate::postgres::reconcile::{Reconciler, Report, Stopped};

/// When rows go that are so large that each goes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Large {
    /// Where their keys stand among the others.
    InOrder,
    /// After all others; and not at all while another call carries a row that is larger than all
    /// memory for rows ([`Stopped::Busy`]), so that it does not take two to carry such rows while
    /// nobody carries the small ones.
    Last,
}

/// What is left of a call, and what became of the rest.
#[derive(Default)]
struct Work {
    sets: Vec<BTreeSet<RowKey>>,
    /// One was left, since another call carries one as large.
    is_busy: bool,
    /// Those that go last.
    large: Vec<BTreeSet<RowKey>>,
    known: Known,
    report: Report,
}

// === impl Reconciler ===

impl Reconciler {
    /// Makes the shadow equal for these keys, itself. A key that cannot be done does not hold
    /// back the others: a set that fails is halved until the culprits stand alone.
    pub(super) async fn reconcile_here(&self, keys: BTreeSet<RowKey>, large: Large) -> Report {
        let mut work = Work { sets: vec![keys], ..Work::default() };
        let until = Instant::now() + self.params.turn_max;
        while let Some(set) = work.sets.pop().or_else(|| work.large.pop()) {
            if set.is_empty() {
                continue;
            }
            if Instant::now() > until {
                work.report.stopped = Some(Stopped::Late);
                break;
            }
            let stopped = match self.room(&set, &mut work.known).await {
                Ok(Ready::Whole(room))
                    if large == Large::Last && room.is_wide() && !work.sets.is_empty() =>
                {
                    work.large.push(set);
                    None
                }
                Ok(Ready::Whole(room)) => match self.alone(room, large) {
                    None => {
                        work.is_busy = true;
                        None
                    }
                    Some(_alone) => {
                        // Before anything is locked: who waits for memory is in nobody's way.
                        let _held = self.params.memory.hold(room.memory()).await;
                        let settled = self.settle(&set, until, room).await;
                        self.judge(set, room, settled, &mut work).await.err()
                    }
                },
                Ok(Ready::Parts(parts)) => {
                    work.sets.extend(parts.into_iter().rev());
                    None
                }
                Ok(Ready::TooLarge(reasons)) => {
                    work.fail(set, reasons);
                    None
                }
                Err(fault) => Some(Stopped::Away(Box::new(fault))),
            };
            if stopped.is_some() {
                work.report.stopped = stopped;
                break;
            }
        }
        let mut report = work.report;
        if work.is_busy && report.stopped.is_none() {
            report.stopped = Some(Stopped::Busy);
        }
        if !report.failed.is_empty()
            && let Err(halt) = self.take_settled(&mut report).await
        {
            // They wait, and are looked at again.
            tracing::debug!(?halt, "keys that failed could not be looked at");
        }
        report
    }

    /// Leave for a set to be carried now.
    fn alone(&self, room: Room, large: Large) -> Option<Option<MutexGuard<'_, ()>>> {
        match large == Large::Last && self.params.memory.is_above(room.memory()) {
            true => self.alone.try_lock().ok().map(Some),
            false => Some(None),
        }
    }

    /// Notes what came of a set; an error ends all of it.
    async fn judge(
        &self,
        mut set: BTreeSet<RowKey>,
        room: Room,
        settled: Result<Attempted, Halt>,
        work: &mut Work,
    ) -> Result<(), Stopped> {
        match settled {
            Ok(Attempted { changed, unequal }) => {
                work.report.changed += changed;
                for (key, reason) in unequal {
                    if set.remove(&key) {
                        work.report.failed.push((key, reason));
                    }
                }
                work.report.done.append(&mut set);
            }
            Err(Halt::Large) => {
                let sets = self.larger(set, &mut work.known).await;
                let sets = sets.map_err(|fault| Stopped::Away(Box::new(fault)))?;
                work.sets.extend(sets);
            }
            Err(Halt::Keys(faults)) => work.fail(set, faults),
            Err(Halt::Set(reason) | Halt::Uncast(reason)) => work.halve(set, &reason),
            Err(Halt::Table(reason)) => work.by_table(set, &reason),
            Err(Halt::Late) if set.len() == 1 => {
                work.halve(set, &format!("not done within {:?}", room.deadline));
            }
            Err(Halt::Away(fault)) => return Err(Stopped::Away(Box::new(fault))),
            Err(Halt::Crash(_)) => return Err(Stopped::Crash),
            Err(Halt::Shifted) => return Err(Stopped::Shifted),
            Err(_) => return Err(Stopped::Late),
        }
        Ok(())
    }
}

// === impl Work ===

impl Work {
    /// These keys cannot be done, whatever the others are.
    fn fail(&mut self, mut set: BTreeSet<RowKey>, faults: Vec<(RowKey, String)>) {
        let before = set.len();
        for (key, reason) in faults {
            if set.remove(&key) {
                self.report.failed.push((key, reason));
            }
        }
        if set.len() == before {
            // The fault is that of a row which stands in the way.
            self.halve(set, "a row that stands in its way cannot be done");
        } else {
            self.sets.push(set);
        }
    }

    /// Tells the tables of a set apart; where there is only one, all of its keys have the reason.
    fn by_table(&mut self, set: BTreeSet<RowKey>, reason: &str) {
        let mut tables: BTreeMap<i32, BTreeSet<RowKey>> = BTreeMap::new();
        for key in set {
            tables.entry(key.table_id).or_default().insert(key);
        }
        if tables.len() == 1 {
            let keys = tables.into_values().flatten();
            self.report.failed.extend(keys.map(|key| (key, reason.to_owned())));
        } else {
            self.sets.extend(tables.into_values());
        }
    }

    /// Halves a set that failed; a key that stands alone has found its reason.
    // Modelled as `Action::Halve` in tests/model.
    fn halve(&mut self, set: BTreeSet<RowKey>, reason: &str) {
        let middle = set.len() / 2;
        let mut keys = set.into_iter();
        if middle == 0 {
            self.report.failed.extend(keys.map(|key| (key, reason.to_owned())));
            return;
        }
        self.sets.push(keys.by_ref().take(middle).collect());
        self.sets.push(keys.collect());
    }
}
