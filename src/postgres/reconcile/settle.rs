//! Attempts on one set of keys until it is committed or has a reason.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::attempt::{Attempted, Learned};
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::sizes::Room;
use crate::postgres::reconcile::wanted::Wanted;

/// The first wait between two attempts on one set.
const AGAIN_FIRST: Duration = Duration::from_millis(5);
/// The longest of them.
const AGAIN_MAX: Duration = Duration::from_millis(250);

// === impl Reconciler ===

impl Reconciler {
    /// Attempts on one set until it is committed or has a reason.
    // Modelled as `Action::Again` in tests/model.
    pub(super) async fn settle(
        &self,
        set: &BTreeSet<RowKey>,
        until: Instant,
        room: Room,
    ) -> Result<Attempted, Halt> {
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
            let tried = Box::pin(self.attempt(&all, &learned, room));
            let tried = tokio::time::timeout(room.deadline, tried).await;
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
