//! What each new session is held against.
//!
//! A connection string, a name in the DNS or a load balancer may lead elsewhere from one session to
//! the next. So each session looks whom it is with, in the round trip that sets it up, and is not
//! handed out where that is another database, or this one as it was long ago.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::task::AbortHandle;
use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::identity::{Identity, Place};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::dsn::Dsn;

/// No such table, schema or function: segue has not been set up in this database.
pub(in crate::postgres) const UNDEFINED: [&str; 3] =
    [sqlstate::UNDEFINED_TABLE, sqlstate::INVALID_SCHEMA_NAME, sqlstate::UNDEFINED_FUNCTION];

/// Which database a connector's sessions must be with, once that is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    wanted: OnceLock<Wanted>,
    /// The generation that was seen of it, or that the other side has noted.
    floor: AtomicI64,
    open: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    migration: Uuid,
    own: Uuid,
}

/// An answer to [`look`].
struct Answer {
    migration: Uuid,
    own: Uuid,
    generation: i64,
    written_at: Place,
    here: Place,
}

// === impl Expectation ===

impl Expectation {
    /// From now on; what was expected first stays. Sessions that nobody has looked at are closed.
    pub fn set(&self, side: Side, identity: &Identity) {
        let wanted = Wanted { migration: identity.migration, own: *identity.sides.of(side) };
        // Set twice, it was read twice from the same two databases.
        if self.inner.wanted.set(wanted).is_ok() {
            self.close_all();
        }
    }

    /// Closes every session that is open, whatever it does: they are with a database that went back
    /// in time, and were opened before that was known.
    pub fn close_all(&self) {
        for session in self.open().drain(..) {
            session.abort();
        }
    }

    /// To be closed by [`Self::close_all`]. Before the session is checked: one that is not among
    /// those that are closed is checked by what is expected then.
    pub(in crate::postgres) fn opened(&self, session: AbortHandle) {
        let mut open = self.open();
        if open.len() == open.capacity() {
            open.retain(|session| !session.is_finished());
        }
        open.push(session);
    }

    fn open(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a session is to be looked at.
    pub fn is_set(&self) -> bool {
        self.inner.wanted.get().is_some()
    }

    /// No session is handed out whose database is of an older generation.
    pub fn set_floor(&self, generation: i64) {
        self.inner.floor.fetch_max(generation, Ordering::AcqRel);
    }

    /// Holds the answer to [`look`] against what is expected; `any_age` also takes a database
    /// that went back in time.
    pub(in crate::postgres) fn check(
        &self,
        (side, dsn): (Side, &Dsn),
        answer: &[SimpleQueryMessage],
        any_age: bool,
    ) -> Result<(), SqlFault> {
        let Some(wanted) = self.inner.wanted.get() else { return Ok(()) };
        let Some(answer) = Answer::of(answer) else {
            return Err(wanted.refusal(side, dsn, "it carries no identity"));
        };
        let Answer { migration, own, generation, written_at, here } = answer;
        if *wanted != (Wanted { migration, own }) {
            let found = format!("it is {own} of migration {migration}");
            return Err(wanted.refusal(side, dsn, &found));
        }
        if !written_at.agrees(&here) {
            let found = format!("it is a copy: {own} was set up at {written_at}, it is {here}");
            return Err(wanted.refusal(side, dsn, &found));
        }
        let floor = self.inner.floor.load(Ordering::Acquire);
        if generation < floor && !any_age {
            return Err(gone_back(side, dsn, generation, floor));
        }
        Ok(())
    }

    /// What a database without segue's tables is told as.
    pub(in crate::postgres) fn absent(
        &self,
        side: Side,
        dsn: &Dsn,
        fault: &SqlFault,
    ) -> Option<SqlFault> {
        let wanted = self.inner.wanted.get()?;
        let absent = UNDEFINED.contains(&&*fault.sqlstate);
        absent.then(|| wanted.refusal(side, dsn, "it has no tables of segue"))
    }
}

/// Nothing was sent to it, and it may be the right one at the next attempt.
fn gone_back(side: Side, dsn: &Dsn, generation: i64, floor: i64) -> SqlFault {
    let message = format!(
        "{dsn} went back in time: its generation is {generation}, and {floor} was seen of the {side}"
    );
    SqlFault::new(FaultKind::Unavailable, Reason::UnavailableWentBack, message)
        .with_hint("see docs/guides/runbook.md#a-database-went-back-in-time")
        .on(side)
        .retryable()
}

// === impl Wanted ===

impl Wanted {
    /// Nothing was sent to it, and it may be the right one at the next attempt.
    fn refusal(self, side: Side, dsn: &Dsn, found: &str) -> SqlFault {
        let Self { migration, own } = self;
        let message = format!(
            "{dsn} is not the {side} of this migration: expected {own} of migration {migration}, \
             and {found}"
        );
        SqlFault::new(FaultKind::Unavailable, Reason::UnavailableIdentity, message)
            .with_hint(format!(
                "correct {side}.dsn, or what it leads to; see docs/guides/runbook.md#another-database"
            ))
            .on(side)
            .retryable()
    }
}

// === impl Answer ===

impl Answer {
    /// The only row of the last statement.
    fn of(answer: &[SimpleQueryMessage]) -> Option<Self> {
        let row = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })?;
        let text = |at| row.try_get(at).ok().flatten().map(str::to_owned);
        Some(Self {
            migration: text(0)?.parse().ok()?,
            own: text(1)?.parse().ok()?,
            generation: text(2)?.parse().ok()?,
            written_at: Place::read(&text(3)?),
            here: Place { system: text(4)?, database: text(5)? },
        })
    }
}
