//! What each new session is held against.

use std::sync::{Arc, OnceLock};

use tokio_postgres::SimpleQueryMessage;
use uuid::Uuid;

use super::{Identity, UNDEFINED};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::Side;
use crate::postgres::dsn::Dsn;

/// Behind the settings of a session, in the same round trip.
pub(in crate::postgres) const LOOK: &str =
    "; SELECT migration_id::text, own_id::text FROM segue.identity WHERE id = 1";

/// Which database a connector's sessions must be with, once that is known. Clones share it.
#[derive(Debug, Clone, Default)]
pub(in crate::postgres) struct Expectation {
    wanted: Arc<OnceLock<Wanted>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    migration: Uuid,
    own: Uuid,
}

// === impl Expectation ===

impl Expectation {
    /// From now on; what was expected first stays.
    pub(in crate::postgres) fn set(&self, side: Side, identity: &Identity) {
        let wanted = Wanted { migration: identity.migration, own: *identity.sides.of(side) };
        // Set twice, it was read twice from the same two databases.
        let _ = self.wanted.set(wanted);
    }

    /// Whether a session is to be looked at.
    pub(in crate::postgres) fn is_set(&self) -> bool {
        self.wanted.get().is_some()
    }

    /// Holds the answer to [`LOOK`], the last of several, against what is expected.
    pub(in crate::postgres) fn check(
        &self,
        side: Side,
        dsn: &Dsn,
        answer: &[SimpleQueryMessage],
    ) -> Result<(), SqlFault> {
        let Some(wanted) = self.wanted.get() else { return Ok(()) };
        let row = answer.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.len() == 2 => Some(row),
            _ => None,
        });
        let id = |at| row.and_then(|row| row.get(at)).and_then(|id| id.parse::<Uuid>().ok());
        match (id(0), id(1)) {
            (Some(migration), Some(own)) if *wanted == (Wanted { migration, own }) => Ok(()),
            (Some(migration), Some(own)) => {
                Err(wanted.refusal(side, dsn, &format!("it is {own} of migration {migration}")))
            }
            _ => Err(wanted.refusal(side, dsn, "it carries no identity")),
        }
    }

    /// What a database without segue's tables is told as.
    pub(in crate::postgres) fn absent(&self, side: Side, dsn: &Dsn, fault: SqlFault) -> SqlFault {
        match self.wanted.get() {
            Some(wanted) if UNDEFINED.contains(&&*fault.sqlstate) => {
                wanted.refusal(side, dsn, "it has no tables of segue")
            }
            _ => fault,
        }
    }
}

// === impl Wanted ===

impl Wanted {
    fn refusal(self, side: Side, dsn: &Dsn, found: &str) -> SqlFault {
        let Self { migration, own } = self;
        let message = format!(
            "{dsn} is not the {side} of this migration: expected {own} of migration {migration}, \
             and {found}"
        );
        SqlFault::new(FaultKind::Refused, "refused.identity", message)
            .with_hint(format!(
                "correct {side}.dsn; to begin anew with another target: segue adopt target --reason"
            ))
            .on(side)
    }
}
