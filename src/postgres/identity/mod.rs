//! Which migration a database belongs to, and which side of it: `segue.identity`.
//!
//! Both sides carry the migration's id, their own and each other's, written by `segue init`. Whoever
//! opens a session looks at them, so that a connection string that names another database, or a
//! host that took over and is none of this migration, is noticed before anything is written there.

mod expected;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::control::Phase;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::history::EventKind;
use crate::domain::side::{Side, Sides};
use crate::postgres::session::Session;

pub(in crate::postgres) use expected::{Expectation, LOOK};

/// No such table or schema: segue has not been set up in this database.
const UNDEFINED: [&str; 2] = ["42P01", "3F000"];

const READ: &str = "\
    SELECT migration_id::text, side, own_id::text, other_id::text, paired, system \
    FROM segue.identity WHERE id = 1";
const WRITE: &str = "\
    INSERT INTO segue.identity (id, migration_id, side, own_id, other_id, paired, system) \
    VALUES (1, $1::text::uuid, $2, $3::text::uuid, $4::text::uuid, $5, $6) \
    ON CONFLICT (id) DO NOTHING";
const PAIR: &str =
    "UPDATE segue.identity SET paired = true WHERE id = 1 AND own_id = $1::text::uuid";

const IN_USE: &str = "\
    SELECT (SELECT phase FROM segue.control WHERE id = 1), \
        coalesce((SELECT pg_catalog.string_agg(name, ', ' ORDER BY name) FROM segue.member \
            WHERE lease_until > pg_catalog.clock_timestamp()), '')";
/// All of it or nothing. Proofs are of the target that there was, and so is what was copied.
const ADOPT: &str = "\
    WITH present AS (SELECT epoch, phase, target_percentage FROM segue.control WHERE id = 1), \
    changed AS (UPDATE segue.identity SET other_id = $1::text::uuid, paired = false WHERE id = 1), \
    gap AS (UPDATE segue.outbox_state SET capture_gaps = capture_gaps + 1 WHERE id = 1), \
    void AS (UPDATE segue.verify SET proven_at = NULL, differs = false) \
    INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage, \
        to_percentage, forced, changed_by, reason) \
    SELECT $1::text::uuid, $4, epoch, phase, phase, target_percentage, target_percentage, false, \
        $2, $3 FROM present ON CONFLICT (event_id) DO NOTHING";

/// Which server and database a session is with, in words for an operator.
const SYSTEM: &str = "\
    SELECT pg_catalog.concat('system ', (SELECT system_identifier FROM pg_catalog.pg_control_system()), \
        ', database ', d.oid, ' ', d.datname) \
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()";
const SYSTEM_COCKROACH: &str = "\
    SELECT pg_catalog.concat('cluster ', crdb_internal.cluster_id()::text, ', database ', \
        pg_catalog.current_database())";

/// A migration: its own id and those of its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The migration's.
    pub migration: Uuid,
    /// Each side's.
    pub sides: Sides<Uuid>,
}

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The migration as this side knows it.
    pub identity: Identity,
    /// Which side this database is.
    pub side: Side,
    /// The other side has taken its identity up.
    pub paired: bool,
    /// The server and database that it was written on.
    pub system: String,
}

// === impl Identity ===

impl Identity {
    /// A new migration.
    pub fn new() -> Self {
        let sides = Sides { source: Uuid::new_v4(), target: Uuid::new_v4() };
        Self { migration: Uuid::new_v4(), sides }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Identity { migration, sides } = self.identity;
        write!(f, "{} {} of migration {migration}", self.side, sides.of(self.side))
    }
}

/// What the session's database says of itself; nothing where it does not belong to a migration.
///
/// # Errors
///
/// What the database reports, or a row that cannot be read.
pub async fn read(session: &Session) -> Result<Option<Found>, SqlFault> {
    let row = match session.query_opt(READ, &[]).await {
        Ok(row) => row,
        Err(error) => {
            let fault = session.fault(error, false);
            let absent = UNDEFINED.contains(&&*fault.sqlstate);
            return if absent { Ok(None) } else { Err(fault) };
        }
    };
    let Some(row) = row else { return Ok(None) };
    let failed = |error| session.fault(error, false);
    let id = |at| {
        let text: String = row.try_get(at).map_err(failed)?;
        text.parse::<Uuid>().map_err(|error| unreadable(session.side(), &error.to_string()))
    };
    let side: String = row.try_get(1).map_err(failed)?;
    let side = if side == Side::Source.as_str() { Side::Source } else { Side::Target };
    let (own, other) = (id(2)?, id(3)?);
    let sides = match side {
        Side::Source => Sides { source: own, target: other },
        Side::Target => Sides { source: other, target: own },
    };
    Ok(Some(Found {
        identity: Identity { migration: id(0)?, sides },
        side,
        paired: row.try_get(4).map_err(failed)?,
        system: row.try_get(5).map_err(failed)?,
    }))
}

/// Writes the identity of the session's side, where it has none.
///
/// # Errors
///
/// What the database reports.
pub async fn write(session: &Session, identity: &Identity, paired: bool) -> Result<(), SqlFault> {
    let side = session.side();
    let failed = |error| session.fault(error, true);
    let (migration, own) = (identity.migration.to_string(), identity.sides.of(side).to_string());
    let other = identity.sides.of(side.other()).to_string();
    let (system, name) = (system(session).await, side.as_str());
    let params: [&(dyn ToSql + Sync); 6] = [&migration, &name, &own, &other, &paired, &system];
    session.execute(WRITE, &params).await.map(drop).map_err(failed)
}

/// Notes on the session's side that the other one has taken its identity up.
///
/// # Errors
///
/// What the database reports.
pub async fn pair(session: &Session, identity: &Identity) -> Result<(), SqlFault> {
    let own = identity.sides.of(session.side()).to_string();
    let paired = session.execute(PAIR, &[&own]).await;
    paired.map(drop).map_err(|error| session.fault(error, true))
}

/// The phase that a side's own row names, and the sidecars that have a lease there.
///
/// # Errors
///
/// What the database reports.
pub async fn in_use(session: &Session) -> Result<(Phase, String), SqlFault> {
    let failed = |error| session.fault(error, false);
    let row = session.query_one(IN_USE, &[]).await.map_err(failed)?;
    let phase: Option<String> = row.try_get(0).map_err(failed)?;
    let phase = phase.unwrap_or_default().parse::<Phase>();
    let phase = phase.map_err(|error| unreadable(session.side(), &error.to_string()))?;
    Ok((phase, row.try_get(1).map_err(failed)?))
}

/// Gives the session's side, the source, another target, which has not taken that up yet. It is
/// recorded; proofs are void, and so is the copy.
///
/// # Errors
///
/// What the database reports.
pub async fn adopt(
    session: &Session,
    identity: &Identity,
    by: &str,
    reason: &str,
) -> Result<(), SqlFault> {
    let target = identity.sides.target.to_string();
    let kind = EventKind::Adopted.as_str();
    let adopted = session.execute(ADOPT, &[&target, &by, &reason, &kind]).await;
    adopted.map(drop).map_err(|error| session.fault(error, true))
}

/// Not every role may ask for it; then it is not told.
async fn system(session: &Session) -> String {
    let sql = if session.facts().is_cockroach { SYSTEM_COCKROACH } else { SYSTEM };
    let row = session.query_one(sql, &[]).await;
    row.and_then(|row| row.try_get(0)).unwrap_or_default()
}

fn unreadable(side: Side, why: &str) -> SqlFault {
    let message = format!("segue.identity cannot be read: {why}");
    SqlFault::new(FaultKind::Precondition, "identity.unreadable", message).on(side)
}
