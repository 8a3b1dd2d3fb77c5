//! No member answers a read from the old primary once a write is let in on the new one.
//!
//! A member that has not heard of the flip goes on reading from the old primary, as long as it has
//! a lease there or has read its row within one. So the new primary's row, which lets writes through
//! there, is brought up only when no session is left that could answer such a read: each shows whose
//! it is ([`crate::postgres::fence::Readers`]), and those of members that have not acknowledged the
//! flip after a quarter of a lease are ended at the server. A member that is lost, or cannot renew
//! its lease, is found by its sessions as well. What opens one later finds the flip there.
//!
//! To end them is better than to let nobody read without a lease: a primary that cannot be written
//! to, as with a full disk, still answers.
//!
//! Where they cannot be ended, a lease is waited for: where segue's role lacks the right, or the old
//! primary is away. A member stops by itself then, but what it has sent may arrive later. On
//! CockroachDB, where a read needs a lease, members whose lease lasts are waited for.
//!
//! *If we crash here*, whoever brings the row up waits anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::app::databases::Databases;
use crate::domain::control::ControlRow;
use crate::domain::fault::SqlFault;
use crate::domain::fleet::{Fleet, MemberId};
use crate::domain::side::{Side, Sides};
use crate::ports::fleet::FleetStore;
use crate::postgres::control::members::FleetTable;
use crate::postgres::fence::writers::terminate;
use crate::postgres::fence::{ReadSession, key_of_member, read_sessions};
use crate::postgres::pool::Pool;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// For one look at a side.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Part of a lease in which members that are well acknowledge the flip. The reads of one that is
/// late are cut short, and may be made again.
const PATIENCE: u32 = 4;

/// Who may still read from a side that is no longer the primary.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    fleet: Arc<FleetTable>,
    control: Sides<Pool>,
    lease: Duration,
}

/// Those who were found when the flip was seen. What comes later has looked.
#[derive(Debug, Default)]
struct Found {
    sessions: Option<Vec<ReadSession>>,
    /// Members whose lease lasts, where sessions cannot be told.
    members: Option<BTreeSet<MemberId>>,
    ended: BTreeSet<i32>,
}

impl Readers {
    pub(super) fn new(databases: &Databases, fleet: &Arc<FleetTable>, lease: Duration) -> Self {
        Self { fleet: Arc::clone(fleet), control: databases.control(), lease }
    }

    /// Waits until nobody can be reading from the other side as from the primary. Members that
    /// have gone on say so on the new one at once.
    // Modelled as `Action::ReadersMoved` and `Action::EndReads` in tests/model_cutover.
    pub(super) async fn have_moved(&self, row: &ControlRow) {
        let (begun, primary) = (Instant::now(), row.state.phase.primary());
        let old = primary.other();
        let mut found = Found::default();
        loop {
            let (there, left) =
                tokio::join!(self.members(primary), limited(self.left(old, &mut found)));
            let moved = |id: &MemberId| {
                let acknowledged = |at: &Fleet| {
                    at.members.iter().any(|at| at.id == *id && at.epoch >= row.state.epoch)
                };
                there.as_ref().is_some_and(acknowledged)
            };
            if let (Some(there), Some(left)) = (&there, left) {
                let keys: BTreeSet<i32> = there
                    .members
                    .iter()
                    .filter(|member| moved(&member.id))
                    .map(|member| key_of_member(member.id))
                    .collect();
                let left: Vec<_> = left.iter().filter(|it| !keys.contains(&it.key)).collect();
                let members = found.members.iter().flatten().all(moved);
                if left.is_empty() && members {
                    return;
                }
                if begun.elapsed() >= self.lease / PATIENCE {
                    self.end(old, &left, &mut found.ended).await;
                }
            }
            // What was read of the old primary's row was read before the flip.
            if begun.elapsed() >= self.lease {
                let lease_ms = self.lease.as_millis();
                tracing::warn!(
                    lease_ms,
                    "members that may have read the old primary were waited for"
                );
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Of the sessions that were found first, those that are still there.
    async fn left(&self, old: Side, found: &mut Found) -> Result<Vec<ReadSession>, SqlFault> {
        if found.members.is_some() {
            return Ok(Vec::new());
        }
        let session = self.control.of(old).get().await?;
        let Some(now) = read_sessions(&session).await? else {
            drop(session);
            let fleet = self.fleet.fleet(old).await?;
            found.members = Some(fleet.alive().map(|member| member.id).collect());
            return Ok(Vec::new());
        };
        let first = found.sessions.get_or_insert_with(|| now.clone());
        first.retain(|it| now.iter().any(|now| (now.pid, now.key) == (it.pid, it.key)));
        Ok(first.clone())
    }

    /// Each is told once; it ends within moments, and its lock with it.
    async fn end(&self, side: Side, sessions: &[&ReadSession], ended: &mut BTreeSet<i32>) {
        for it in sessions {
            if !ended.insert(it.pid) {
                continue;
            }
            tracing::warn!(
                %side, session = %it,
                "a session is ended: its sidecar does not know of the change of the primary"
            );
            let end = async {
                let session = self.control.of(side).get().await?;
                terminate(&session, it.pid).await
            };
            match timeout(LOOK_LIMIT, end).await {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => {
                    tracing::warn!(%side, %fault, "it cannot be ended; a lease is waited for");
                }
                Err(_) => tracing::warn!(%side, "the old primary does not answer"),
            }
        }
    }

    async fn members(&self, side: Side) -> Option<Fleet> {
        limited(self.fleet.fleet(side)).await
    }
}

async fn limited<T>(look: impl Future<Output = Result<T, SqlFault>>) -> Option<T> {
    timeout(LOOK_LIMIT, look).await.ok()?.ok()
}
