//! All keys of a snapshot, written in one transaction on the shadow, whatever stands in the way.

use std::collections::BTreeSet;

use crate::failpoint::FailPoint;
use crate::postgres::mapping::table::Role;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::apply::apply;
use crate::postgres::reconcile::attempt::{Learned, Readings};
use crate::postgres::reconcile::group::{group, still_registered};
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::meter::Meter;
use crate::postgres::reconcile::read::read_all;
use crate::postgres::reconcile::session::Transaction;
use crate::postgres::reconcile::wanted::Wanted;
use crate::postgres::reconcile::{Reconciler, generated};

/// Back to before anything was written, with the turn and the snapshot as they are.
const SAVE: &str = "SAVEPOINT applied";
const UNDO: &str = "ROLLBACK TO SAVEPOINT applied";

/// What came of it.
pub(super) enum Outcome {
    /// The shadow's transaction is to be committed.
    Applied(Applied),
    /// It cannot be done as a whole.
    Unfit(String),
}

/// What was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Applied {
    /// Rows.
    pub(super) changed: u64,
    /// Bytes that were read on the side where they were more.
    pub(super) bytes: u64,
    /// Bytes of the largest row.
    pub(super) largest: usize,
}

/// Bytes that the rows of a batch may have on one side. They grow with the load, up to here: what
/// is above is done in steps, without reads.
const BATCH_BYTES: u64 = 16 << 20;

impl Reconciler {
    /// Writes these keys as they are in the primary's transaction. Keys that stand in the way
    /// join them: they are read in the same snapshot.
    pub(super) async fn apply_all(
        &self,
        shadow: &Transaction,
        primary: &Transaction,
        keys: &BTreeSet<RowKey>,
    ) -> Result<Outcome, Halt> {
        let (extra, holders_first) = (BTreeSet::new(), false);
        let mut learned = Learned { extra, holders_first, wanted: Wanted::Compared };
        for _ in 0..self.params.attempts_max {
            let all: BTreeSet<RowKey> = keys.union(&learned.extra).cloned().collect();
            if all.len() > self.params.set_max.max(keys.len() * 2) {
                return Ok(Outcome::Unfit("too many keys stand in its way".to_owned()));
            }
            match self.apply_once(shadow, primary, &all, learned.holders_first).await {
                Ok(applied) => return Ok(Outcome::Applied(applied)),
                Err(Halt::Grow(more)) => learned.extra.extend(more),
                Err(Halt::Holders(more)) => {
                    if more.is_empty() && learned.holders_first {
                        self.forget_shapes();
                        let why = "a unique value that a key needs is held by another row";
                        return Ok(Outcome::Unfit(why.to_owned()));
                    }
                    learned.extra.extend(more);
                    learned.holders_first = true;
                }
                Err(Halt::Stale(fault)) => {
                    self.forget_shapes();
                    return Err(Halt::Stale(fault));
                }
                Err(Halt::Keys(faults)) => {
                    let first = faults.into_iter().next();
                    let why = first.map_or_else(String::new, |(key, why)| {
                        format!("a key of table {} cannot be applied: {why}", key.table_id)
                    });
                    return Ok(Outcome::Unfit(why));
                }
                Err(Halt::Set(why) | Halt::Table(why) | Halt::Uncast(why)) => {
                    return Ok(Outcome::Unfit(format!("a key cannot be applied: {why}")));
                }
                Err(Halt::ForeignKey(fault) | Halt::Unique(fault)) => {
                    return Ok(Outcome::Unfit(fault.to_string()));
                }
                Err(Halt::Large) => {
                    let most = BATCH_BYTES >> 20;
                    let why = format!("the rows have more than {most} MiB, too much for one batch");
                    return Ok(Outcome::Unfit(why));
                }
                Err(Halt::Late) => {
                    let limit = self.params.deadline;
                    return Ok(Outcome::Unfit(format!("it was not done within {limit:?}")));
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(Outcome::Unfit("rows that stand in its way keep changing".to_owned()))
    }

    async fn apply_once(
        &self,
        shadow: &Transaction,
        primary: &Transaction,
        keys: &BTreeSet<RowKey>,
        holders_first: bool,
    ) -> Result<Applied, Halt> {
        let shapes = self.shapes().await?;
        let tables = group(keys, &shapes)?;
        let wanted = Wanted::Compared;
        let (here, there) = (Meter::new(BATCH_BYTES), Meter::new(BATCH_BYTES));
        let read = async {
            let (client, side) = (primary.client()?, primary.side());
            let read = read_all(client, side, Role::Primary, &tables, wanted, &here);
            let (read, known) = tokio::join!(read, still_registered(primary, &tables));
            let read = read?;
            known?;
            Ok::<_, Halt>(read)
        };
        let (client, side) = (shadow.client()?, shadow.side());
        let on_shadow = read_all(client, side, Role::Shadow, &tables, wanted, &there);
        let (on_primary, on_shadow) = tokio::join!(read, on_shadow);
        let largest = here.largest().max(there.largest());
        let readings = Readings { primary: on_primary?, shadow: on_shadow?, largest };
        let bytes = here.bytes().max(there.bytes());
        let applied = |changed| Applied { changed, bytes, largest };
        self.params.failpoints.pass(FailPoint::AfterRead).await?;
        let planned = self.plan_all(shadow, &tables, &readings, holders_first, &shapes).await?;
        if planned.iter().all(|table| table.plan.is_empty()) {
            let unequal = generated::unequal(shadow, &planned, wanted).await?;
            return if unequal.is_empty() { Ok(applied(0)) } else { Err(Halt::Keys(unequal)) };
        }
        client.batch_execute(SAVE).await?;
        let halt = match apply(client, &planned).await {
            Ok(changed) => {
                let unequal = generated::unequal(shadow, &planned, wanted).await?;
                return match unequal.is_empty() {
                    true => Ok(applied(changed)),
                    false => Err(Halt::Keys(unequal)),
                };
            }
            Err(halt @ (Halt::Away(_) | Halt::Again(_) | Halt::Crash(_))) => return Err(halt),
            Err(halt) => halt,
        };
        client.batch_execute(UNDO).await?;
        Err(match self.in_the_way(shadow, &planned, &shapes, &halt).await {
            Ok(found) => self.judged(halt, found.difference(keys).cloned().collect()),
            Err(other) => other,
        })
    }
}
