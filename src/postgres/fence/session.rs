//! Sessions that write for callers: the shared lock of the epoch, and the look under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::named::Writers;
use super::readers::{Owner, Readers};
use super::{CLASS, key_of, mark};
use crate::domain::control::{ControlRow, ControlState, Phase};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::fence::look::first;
use crate::postgres::session::admission::{Share, not_primary};
use crate::postgres::session::{Session, fault};

/// Between two attempts while the lock is held against us, or the rows are being brought up.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

/// What the member knows, told to the fences of its pools.
#[derive(Debug, Clone)]
pub struct FenceControl {
    known: watch::Sender<Option<ControlState>>,
    behind: Arc<Notify>,
    holders: Arc<AtomicUsize>,
    owner: Owner,
}

/// The fence of one pool. Clones share it.
#[derive(Debug, Clone)]
pub struct Fence {
    side: Side,
    known: watch::Receiver<Option<ControlState>>,
    behind: Arc<Notify>,
    holders: Arc<AtomicUsize>,
    owner: Owner,
    wait_max: Duration,
}

/// What came of one attempt.
enum Attempt {
    Entered,
    /// Somebody has the lock exclusively, or waits for it.
    Held,
    /// The control row says something else.
    Other(ControlState),
}

// === impl FenceControl ===

impl Default for FenceControl {
    fn default() -> Self {
        Self {
            known: watch::Sender::new(None),
            behind: Arc::default(),
            holders: Arc::default(),
            owner: Owner::default(),
        }
    }
}

impl FenceControl {
    /// The fence of a pool on a side, at which nobody waits for longer than `wait_max`.
    pub fn fence(&self, side: Side, wait_max: Duration) -> Fence {
        Fence {
            side,
            known: self.known.subscribe(),
            behind: Arc::clone(&self.behind),
            holders: Arc::clone(&self.holders),
            owner: self.owner.clone(),
            wait_max,
        }
    }

    /// What lets a pool's sessions answer reads of callers on a side.
    pub fn readers(&self, side: Side) -> Readers {
        Readers::new(side, self.owner.clone(), Arc::clone(&self.behind))
    }

    /// What names a pool's sessions in which callers write without a fence.
    pub fn writers(&self, side: Side) -> Writers {
        Writers::new(side, self.owner.clone())
    }

    /// Whose those sessions are from now on, and the control row as that member knows it.
    pub fn read_as(&self, member: MemberId, row: watch::Receiver<ControlRow>) {
        self.owner.set(member, row);
    }

    /// The state that sessions are used under from now on. With nothing they are not used at
    /// all, and those at rest give their locks up.
    pub fn set(&self, state: Option<ControlState>) {
        self.known.send_if_modified(|known| {
            let changed = *known != state;
            *known = state;
            changed
        });
    }

    /// As [`FenceControl::set`], unless sessions are not used at all now.
    pub fn follow(&self, state: ControlState) {
        self.known.send_if_modified(|known| {
            let changed = known.is_some_and(|known| known != state);
            if changed {
                *known = Some(state);
            }
            changed
        });
    }

    /// Sessions that hold a lock.
    pub fn holders(&self) -> usize {
        self.holders.load(Ordering::Acquire)
    }

    /// Waits until a session has found the control row to be ahead of what is known here.
    pub async fn fell_behind(&self) {
        self.behind.notified().await;
    }
}

// === impl Fence ===

impl Fence {
    /// Whether a session may be used as it is.
    pub(in crate::postgres) fn is_current(&self, session: &Session) -> bool {
        let known = *self.known.borrow();
        known.is_some() && session.fenced_under() == known.map(|known| known.epoch)
    }

    /// What names its pool's sessions.
    pub(in crate::postgres) fn writers(&self) -> Writers {
        Writers::new(self.side, self.owner.clone())
    }

    /// Told of every change.
    pub(in crate::postgres) fn changes(&self) -> watch::Receiver<Option<ControlState>> {
        self.known.clone()
    }

    /// Whether there is any use in a session of this side.
    ///
    /// # Errors
    ///
    /// A fault where the other side is the primary.
    pub(in crate::postgres) fn check_side(&self) -> Result<(), SqlFault> {
        match *self.known.borrow() {
            Some(known) if known.phase.primary() != self.side => Err(not_primary(self.side, known)),
            _ => Ok(()),
        }
    }

    /// Takes the lock of the member's epoch and looks at the control row under it, again and
    /// again until both say the same.
    ///
    /// # Errors
    ///
    /// A fault, with nothing applied, where the other side is the primary, the wait is over, or
    /// the session is lost. The session is not to be used then.
    pub(in crate::postgres) async fn enter(&self, session: &Session) -> Result<(), SqlFault> {
        let until = Instant::now() + self.wait_max;
        let mut known = self.known.clone();
        leave(session).await?;
        loop {
            let mut found = None;
            let state = *known.borrow_and_update();
            if let Some(state) = state {
                self.check_side()?;
                match self.attempt(session, state).await? {
                    Attempt::Entered => return Ok(()),
                    Attempt::Held => {}
                    Attempt::Other(other) => {
                        if other.epoch > state.epoch {
                            self.behind.notify_one();
                        }
                        found = Some(other);
                    }
                }
            }
            if Instant::now() >= until {
                return Err(self.overdue(state, found));
            }
            tokio::select! {
                _ = known.changed() => {}
                () = tokio::time::sleep(AGAIN_AFTER) => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Lock and look in one round trip, each a transaction of its own: the look's snapshot is
    /// taken when the lock is held, whatever the database's default isolation is.
    async fn attempt(&self, session: &Session, state: ControlState) -> Result<Attempt, SqlFault> {
        let dialect = session.dialect();
        let lock = dialect.try_share((CLASS, key_of(state.epoch)));
        let look = dialect.control_look();
        // Polled in this order, they are sent in this order.
        let asked = session.repeatable();
        let (locked, row) = tokio::join!(
            biased;
            asked.simple_query(&lock),
            asked.simple_query(look)
        );
        let failed = |fault| SqlFault { outcome: Outcome::NotApplied, ..fault };
        let locked = first(&locked.map_err(failed)?, 0).as_deref() == Some("t");
        let row = row.map_err(|found| fault::not_admitted(failed(found)))?;
        if !locked {
            return Ok(Attempt::Held);
        }
        if dialect.fences_by_mark() && first(&row, 2).as_deref() == Some("t") {
            if first(&row, 3).as_deref() == Some("t") {
                mark::lift_lapsed(session).await;
            }
            return Ok(Attempt::Held);
        }
        let epoch = first(&row, 0).and_then(|epoch| epoch.parse::<u64>().ok());
        let phase = first(&row, 1).and_then(|phase| phase.parse::<Phase>().ok());
        let (Some(epoch), Some(phase)) = (epoch, phase) else {
            let message = "segue.control has no row that this segue can read";
            return Err(SqlFault::new(FaultKind::Unavailable, Reason::FenceControl, message)
                .with_hint("run `segue init`")
                .on(self.side));
        };
        let found = ControlState { epoch, phase };
        if epoch != state.epoch || phase.primary() != self.side {
            unlock(session, state.epoch).await?;
            return Ok(Attempt::Other(found));
        }
        self.holders.fetch_add(1, Ordering::AcqRel);
        session.set_share(Some(Share { epoch, holders: Arc::clone(&self.holders) }));
        Ok(Attempt::Entered)
    }

    fn overdue(&self, known: Option<ControlState>, found: Option<ControlState>) -> SqlFault {
        let waited = self.wait_max.as_millis();
        let why = match (known, found) {
            (None, _) => "this member does not take writes now".to_owned(),
            (Some(_), None) => {
                "the primary is being changed, and its writers are fenced".to_owned()
            }
            (Some(known), Some(found)) => format!(
                "the member is at epoch {}, and the {}'s control row at {}",
                known.epoch, self.side, found.epoch
            ),
        };
        let message = format!("no session may write after {waited} ms of waiting: {why}");
        SqlFault::new(FaultKind::Unavailable, Reason::UnavailableFenced, message)
            .with_hint("nothing was applied; try again")
            .on(self.side)
            .retryable()
    }
}

/// Gives a session's lock up, where it has one.
pub(in crate::postgres) async fn leave(session: &Session) -> Result<(), SqlFault> {
    let Some(epoch) = session.fenced_under() else { return Ok(()) };
    unlock(session, epoch).await?;
    session.set_share(None);
    Ok(())
}

async fn unlock(session: &Session, epoch: u64) -> Result<(), SqlFault> {
    if !session.dialect().has_advisory_locks() {
        return Ok(());
    }
    let sql = format!("SELECT pg_catalog.pg_advisory_unlock_shared({CLASS}, {})", key_of(epoch));
    let unlocked = session.repeatable().simple_query(&sql).await;
    unlocked.map(drop).map_err(|fault| SqlFault { outcome: Outcome::NotApplied, ..fault })
}
