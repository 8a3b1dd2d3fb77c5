//! Sessions that answer reads of callers: whose they are, and what the control row said when they
//! were opened.
//!
//! A member that has not heard of a flip would go on reading from the old primary. So each of its
//! sessions for reads holds a shared advisory lock whose key names the member, from before it looks
//! at the control row of its side. Nobody takes that lock exclusively: it shows, for as long as the
//! session lives, whose it is, whatever role it logged in as. Whoever makes the other side the
//! primary ends there the sessions of members that have not acknowledged the flip. One that is
//! opened after that finds the flip when it looks, and answers no read that was admitted under an
//! older row ([`Found::admits`]).
//!
//! CockroachDB has no such locks. There a member reads under a lease only.

use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, watch};

use super::READERS;
use super::look::first;
use crate::domain::control::{ControlRow, ControlState, Phase};
use crate::domain::fault::{Outcome, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::session::admission::Found;
use crate::postgres::session::asked::Row;
use crate::postgres::session::{Session, fault};

/// Sessions that hold the lock of some member.
const SESSIONS: &str = "\
    SELECT l.pid, l.objid::int8, pg_catalog.concat_ws(', ', a.usename, \
        nullif(a.application_name, ''), a.client_addr::text) \
    FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.mode = 'ShareLock' \
        AND l.classid::int8 = $1 \
        AND l.database = (SELECT oid FROM pg_catalog.pg_database \
            WHERE datname = pg_catalog.current_database())";

/// Second half of the key of a member's lock: 32 of the random bits of its id. Two members of a
/// hundred share one with a chance of one in a million, and one of them must be stopped at a flip
/// for that to matter.
pub fn key_of_member(member: MemberId) -> i32 {
    let bits = u32::try_from(member.0 & u128::from(u32::MAX)).unwrap_or_default();
    bits.cast_signed()
}

/// Whose sessions they are, once that is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Owner {
    inner: Arc<OnceLock<Known>>,
}

#[derive(Debug)]
struct Known {
    key: i32,
    row: watch::Receiver<ControlRow>,
}

/// Lets a pool's sessions answer reads of callers. Clones share it.
#[derive(Debug, Clone)]
pub struct Readers {
    side: Side,
    owner: Owner,
    behind: Arc<Notify>,
}

/// A session of some member that answers reads of callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSession {
    /// The server's process.
    pub pid: i32,
    /// As [`key_of_member`] makes it.
    pub key: i32,
    /// Role, program and address, where segue's role may see them.
    pub who: String,
}

// === impl Owner ===

impl Owner {
    /// From now on; what was said first stays.
    pub(super) fn set(&self, member: MemberId, row: watch::Receiver<ControlRow>) {
        // Said twice, it is the same process and the same member.
        let _ = self.inner.set(Known { key: key_of_member(member), row });
    }

    /// The second half of the key of its locks, once it is known.
    pub(super) fn key(&self) -> Option<i32> {
        self.inner.get().map(|known| known.key)
    }
}

// === impl Readers ===

impl Readers {
    pub(super) fn new(side: Side, owner: Owner, behind: Arc<Notify>) -> Self {
        Self { side, owner, behind }
    }

    /// Whether a session may be used as it is. Where no member serves, nobody asks.
    pub(in crate::postgres) fn has(&self, session: &Session) -> bool {
        self.owner.inner.get().is_none() || session.found().is_some()
    }

    /// Takes the member's lock, and looks at the control row under it. Where that is ahead of what
    /// the member knows, it is told to look.
    ///
    /// # Errors
    ///
    /// What the database reports. The session is not to be used then.
    // Modelled as `Action::OpenReads` and `Action::LookForReads` in tests/model_cutover.
    pub(in crate::postgres) async fn enter(&self, session: &Session) -> Result<(), SqlFault> {
        let Some(known) = self.owner.inner.get() else { return Ok(()) };
        let dialect = session.dialect();
        let (lock, look) = (dialect.try_share((READERS, known.key)), dialect.control_look());
        // Polled in this order, they are sent in this order, each in a transaction of its own: the
        // look's snapshot is taken when the lock is held, whatever the default isolation is.
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
            // Nobody but an application that takes segue's locks holds it exclusively.
            let message = "another session holds the lock that names this sidecar's sessions";
            return Err(unavailable(message).on(self.side));
        }
        let epoch = first(&row, 0).and_then(|epoch| epoch.parse::<u64>().ok());
        let phase = first(&row, 1).and_then(|phase| phase.parse::<Phase>().ok());
        let state = epoch.zip(phase).map(|(epoch, phase)| ControlState { epoch, phase });
        if state.is_some_and(|state| state.epoch > known.row.borrow().state.epoch) {
            self.behind.notify_one();
        }
        session.set_found(Found { key: known.key, state });
        Ok(())
    }
}

/// All sessions of the session's side that answer reads of callers; nothing where the database
/// cannot tell.
///
/// # Errors
///
/// What the database reports.
pub async fn read_sessions(session: &Session) -> Result<Option<Vec<ReadSession>>, SqlFault> {
    if !session.dialect().has_advisory_locks() {
        return Ok(None);
    }
    let prepared = session.prepared(SESSIONS).await?;
    let rows = session.repeatable().query(&prepared.statement, &[&i64::from(READERS)]).await?;
    let read = |row: &Row| {
        // The second half of a key is shown unsigned.
        let key: i64 = row.try_get(1)?;
        let key = u32::try_from(key).unwrap_or_default().cast_signed();
        Ok(ReadSession { pid: row.try_get(0)?, key, who: row.try_get(2)? })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map(Some)
}

fn unavailable(message: &str) -> SqlFault {
    use crate::domain::fault::FaultKind;
    SqlFault::new(FaultKind::Unavailable, Reason::UnavailableReadLock, message)
        .with_hint("nothing was sent; try again")
        .retryable()
}

impl std::fmt::Display for ReadSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(epoch: u64, phase: Phase) -> ControlState {
        ControlState { epoch, phase }
    }

    #[test]
    fn a_session_that_has_seen_a_flip_answers_no_read_that_was_admitted_before_it() {
        let found = Found { key: 1, state: Some(state(5, Phase::Reversed)) };
        let admits = |admitted| found.admits(Side::Source, admitted);
        let fault = admits(Some(state(4, Phase::Shift))).unwrap_err();
        assert!(fault.reason == Reason::FenceNotPrimary && fault.retryable, "{fault}");
        // What stays on the old primary is read there under the new row, and under later ones.
        for admitted in [state(5, Phase::Reversed), state(6, Phase::Shift)] {
            assert!(admits(Some(admitted)).is_ok(), "{admitted:?}");
        }
        assert!(admits(None).is_ok(), "segue's own reads");
        let same = Found { key: 1, state: Some(state(5, Phase::Shift)) };
        assert!(same.admits(Side::Source, Some(state(4, Phase::ShadowRead))).is_ok());
    }

    #[test]
    fn a_members_key_is_of_its_ids_random_bits() {
        assert_eq!(key_of_member(MemberId(u128::from(u32::MAX))), -1);
        assert_ne!(key_of_member(MemberId(1)), key_of_member(MemberId(2)));
    }
}
