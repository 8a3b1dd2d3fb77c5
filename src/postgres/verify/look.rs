//! Rows that the sums did not settle: read on both sides, judged cell by cell, and looked at
//! again until it is known that no write on its way explains a difference.
//!
//! *Claim:* what is reported as data is a difference of data. Of a key these are read, in this
//! order: the primary's row and all outbox rows of the key, in one snapshot; the shadow's row;
//! then the first two again. A difference counts only where no outbox row waits in the first,
//! and the second is the same as the first. Then nothing was written to the row between the two,
//! and at the first every write to it had been reconciled: the shadow's row, which was read in
//! between, ought to have been the primary's.
//!
//! A row that is written all the time never stands still for that. It is enough to see that what
//! waited at the first look was forgotten at a later one: in between a reconcile has made the row
//! equal under its lock, and whatever was written since is in the outbox.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::domain::key::KeyValues;
use crate::domain::key_range::KeyRange;
use crate::domain::verify::{Discrepancy, Finding, Repair};
use crate::postgres::mapping::table::Role;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Stopped;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::sizes::Room;
use crate::postgres::verify::ask::Failed;
use crate::postgres::verify::chunk::{ChunkDone, Failures};
use crate::postgres::verify::judge::{Judged, discrepancy};
use crate::postgres::verify::outbox::{Depth, Noted};
use crate::postgres::verify::rows::Reading;
use crate::postgres::verify::{Table, Verifier};

/// Rows that are read at once.
const KEYS: usize = 256;
/// Pauses between two looks.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Looks after which a row that is written all the time is left alone.
const LOOKS_MOVING: u32 = 4;

/// What one look says of a key.
enum Seen {
    Equal,
    Pending(Noted),
    /// Something was written between the readings.
    Moving,
    Differs(Discrepancy),
    /// Whether it differs cannot be told.
    Unread(String),
}

/// A key that is looked at again.
struct Waiting {
    key: KeyValues,
    /// The newest outbox row when it was first seen to wait.
    newest: Option<String>,
    /// Looks at which it was written anew, and what waited before was done.
    moved: u32,
}

// === impl Verifier ===

impl Verifier {
    /// Looks at all rows of a range, on whichever side they are.
    pub(super) async fn look_at_range(
        &self,
        table: &Table,
        range: &KeyRange,
        done: &mut ChunkDone,
    ) -> Result<(), Halt> {
        let mut seen = BTreeSet::new();
        let first = done.findings.len();
        let uncopied = self.uncopied(table).await?;
        for role in [Role::Primary, Role::Shadow] {
            let before = done.findings.len();
            let mut rest = range.clone();
            loop {
                let page = self.bounds(table, role, &rest, (1, KEYS)).await;
                let page = page.map_err(Failed::halt)?;
                let full = page.len() == KEYS;
                rest.after = page.last().cloned().or(rest.after);
                // A range that differs is small, but for tables that cannot be added up.
                let new: Vec<KeyValues> =
                    page.into_iter().filter(|key| !seen.contains(key)).collect();
                if role == Role::Primary {
                    seen.extend(new.iter().cloned());
                }
                self.look(table, new, done).await?;
                if !full {
                    break;
                }
            }
            // Under another text of its key the primary's row has been seen already.
            if role == Role::Shadow && !table.shape.texts_are_keys() {
                let mut place = 0;
                done.findings.retain(|finding| {
                    place += 1;
                    place <= before || finding.what == Discrepancy::Extra
                });
            }
        }
        let findings = done.findings.get_mut(first..).unwrap_or_default();
        self.tell_uncopied(table, &uncopied, findings).await
    }

    /// Looks at rows, so many at once as there is memory for.
    async fn look(
        &self,
        table: &Table,
        keys: Vec<KeyValues>,
        done: &mut ChunkDone,
    ) -> Result<(), Halt> {
        let mut sets = vec![(keys, 0)];
        while let Some((keys, bytes)) = sets.pop() {
            let (findings, moving) = (done.findings.len(), done.moving);
            let room = Room::of_rows(bytes, self.params.deadline);
            match self.look_at(table, (keys.clone(), room), done).await {
                Err(Halt::Large) => {
                    // Nothing was said of them, or will be said again.
                    done.findings.truncate(findings);
                    done.moving = moving;
                    let parts = self.reconciler.by_size(table.shape.table_id, keys).await;
                    sets.extend(parts.map_err(Halt::Away)?.into_iter().rev());
                }
                looked => looked?,
            }
        }
        Ok(())
    }

    /// Looks at rows until each is equal, differs, or has waited too long.
    async fn look_at(
        &self,
        table: &Table,
        (keys, room): (Vec<KeyValues>, Room),
        done: &mut ChunkDone,
    ) -> Result<(), Halt> {
        let until = Instant::now() + self.params.pending_max;
        let mut pause = PAUSE_FIRST;
        let new = |key| Waiting { key, newest: None, moved: 0 };
        let mut left: Vec<Waiting> = keys.into_iter().map(new).collect();
        loop {
            let late = Instant::now() >= until;
            let keys: Vec<KeyValues> = left.iter().map(|waiting| waiting.key.clone()).collect();
            let seen = self.seen(table, (&keys, room), done).await?;
            let mut again = Vec::new();
            for (mut waiting, seen) in left.into_iter().zip(seen) {
                let what = match seen {
                    Seen::Equal => continue,
                    Seen::Differs(what) => what,
                    Seen::Unread(reason) => Discrepancy::Unread { reason },
                    Seen::Moving | Seen::Pending(_) if waiting.has_moved(&seen) => {
                        done.moving += 1;
                        continue;
                    }
                    Seen::Pending(noted) if late => Discrepancy::Pending {
                        attempts: noted.attempts,
                        last_error: noted.last_error,
                    },
                    Seen::Moving | Seen::Pending(_) => {
                        again.push(waiting);
                        continue;
                    }
                };
                done.findings.push(Finding { key: waiting.key, what, repair: Repair::None });
            }
            if again.is_empty() {
                return Ok(());
            }
            left = again;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Most rows are equal, or have an outbox row that waits, which is cheap to see. The others
    /// are looked at closely.
    async fn seen(
        &self,
        table: &Table,
        (keys, room): (&[KeyValues], Room),
        done: &mut ChunkDone,
    ) -> Result<Vec<Seen>, Halt> {
        let mut seen = self.glance(table, (keys, room), Depth::Waiting, done).await?;
        let differing = |it: &(usize, &Seen)| matches!(it.1, Seen::Differs(_));
        let places: Vec<usize> =
            seen.iter().enumerate().filter(differing).map(|(place, _)| place).collect();
        if places.is_empty() {
            return Ok(seen);
        }
        let suspects: Vec<KeyValues> =
            places.iter().filter_map(|place| keys.get(*place).cloned()).collect();
        let closely = self.glance(table, (&suspects, room), Depth::All, done).await?;
        for (place, judged) in places.into_iter().zip(closely) {
            seen[place] = judged;
        }
        Ok(seen)
    }

    async fn glance(
        &self,
        table: &Table,
        (keys, room): (&[KeyValues], Room),
        depth: Depth,
        done: &mut ChunkDone,
    ) -> Result<Vec<Seen>, Halt> {
        // No longer than the rows are there: whoever waits for the outbox has none.
        let _held = self.reconciler.hold(room).await;
        let (primary, before) = self.primary_now(table, (keys, room), depth).await?;
        self.params.between.pass().await;
        let shadow = self.rows(table, Role::Shadow, (keys, room)).await?;
        let (again, after) = match depth {
            Depth::Waiting => (primary.clone(), before.clone()),
            Depth::All => self.primary_now(table, (keys, room), depth).await?,
        };
        done.rows_read += keys.len() as u64;
        let size = |rows: &[Reading]| rows.iter().map(Reading::size).sum::<u64>();
        done.bytes_read += size(&primary) + size(&shadow);
        let judge = |index: usize| {
            let (one, other) = (&primary[index], &shadow[index]);
            let what = match discrepancy(&table.shape, one, other, &self.nonce) {
                Judged::Equal => return Seen::Equal,
                Judged::Unread(reason) => return Seen::Unread(reason),
                Judged::Differs(what) => what,
            };
            let (noted, noted_after) = (&before[index], &after[index]);
            if noted.waits {
                Seen::Pending(noted.clone())
            } else if noted != noted_after || again.get(index) != primary.get(index) {
                Seen::Moving
            } else {
                Seen::Differs(what)
            }
        };
        Ok((0..keys.len()).map(judge).collect())
    }

    /// Reconciles rows; answers which could not be.
    pub(super) async fn repair(&self, table: &Table, findings: &[&Finding]) -> Failures {
        let table_id = table.shape.table_id;
        let keys: Vec<RowKey> = findings
            .iter()
            .map(|finding| RowKey { table_id, values: finding.key.clone() })
            .collect();
        let mut failures = Failures::new();
        for set in keys.chunks(KEYS) {
            let report = self.reconciler.reconcile(set.iter().cloned().collect()).await;
            failures.extend(report.failed.into_iter().map(|(key, why)| (key.values, why)));
            if let Some(stopped) = report.stopped {
                let why = match stopped {
                    Stopped::Away(fault) => fault.to_string(),
                    Stopped::Late | Stopped::Shifted | Stopped::Busy | Stopped::Crash => {
                        "reconciling took too long".to_owned()
                    }
                };
                let left = set.iter().filter(|key| !report.done.contains(*key));
                failures.extend(left.map(|key| (key.values.clone(), why.clone())));
            }
        }
        failures
    }
}

// === impl Waiting ===

impl Waiting {
    /// Notes a look at which it was not equal; says whether it has been reconciled and written
    /// anew often enough.
    fn has_moved(&mut self, seen: &Seen) -> bool {
        match seen {
            Seen::Moving => self.moved += 1,
            Seen::Pending(noted) => match &self.newest {
                Some(newest) if noted.oldest_waiting > *newest => {
                    self.moved += 1;
                    self.newest = Some(noted.newest.clone());
                }
                Some(_) => {}
                None => self.newest = Some(noted.newest.clone()),
            },
            Seen::Equal | Seen::Differs(_) | Seen::Unread(_) => {}
        }
        self.moved >= LOOKS_MOVING
    }
}
