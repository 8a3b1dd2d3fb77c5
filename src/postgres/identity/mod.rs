//! `segue.identity`: which migration a database belongs to, and which side of it.
//!
//! - [`generation`]: a counter that rises, by which a backup that was restored is noticed
//! - [`adopt`]: another target, or a primary that went back, by an operator's command

pub mod adopt;
pub mod generation;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::identity::{Found, Identity, Place, Seen};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::postgres::schema;
use crate::postgres::session::Session;
use crate::postgres::session::expected::UNDEFINED;

const READ: &str = "\
    SELECT migration_id::text, side, own_id::text, other_id::text, paired, place, generation, \
        other_generation FROM segue.identity WHERE id = 1";
const WRITE: &str = "\
    INSERT INTO segue.identity (id, migration_id, side, own_id, other_id, paired, place) \
    VALUES (1, $1::text::uuid, $2, $3::text::uuid, $4::text::uuid, $5, $6) \
    ON CONFLICT (id) DO NOTHING";
const PAIR: &str =
    "UPDATE segue.identity SET paired = true WHERE id = 1 AND own_id = $1::text::uuid";
const CONTROL: &str = "SELECT epoch, phase FROM segue.control WHERE id = 1";

/// The server's own id, where the role may ask for it, and the database's there.
const HERE: &str = "\
    SELECT (SELECT c.system_identifier::text FROM pg_catalog.pg_control_system() AS c), d.oid::text \
    FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()";
const HERE_WITHOUT_SYSTEM: &str = "\
    SELECT ''::text, d.oid::text FROM pg_catalog.pg_database AS d \
    WHERE d.datname = pg_catalog.current_database()";
/// What the session's database says of itself; nothing where it does not belong to a migration.
///
/// # Errors
///
/// What the database reports, or a row that cannot be read.
pub async fn read(session: &Session) -> Result<Option<Found>, SqlFault> {
    let row = match session.repeatable().query_opt(READ, &[]).await {
        Ok(row) => row,
        Err(fault) => {
            let absent = UNDEFINED.contains(&&*fault.sqlstate);
            return if absent { Ok(None) } else { Err(fault) };
        }
    };
    let Some(row) = row else { return Ok(None) };
    let id = |at| {
        let text: String = row.try_get(at)?;
        text.parse::<Uuid>().map_err(|error| unreadable(session.side(), &error.to_string()))
    };
    let side: String = row.try_get(1)?;
    let side = if side == Side::Source.as_str() { Side::Source } else { Side::Target };
    let (own, other) = (id(2)?, id(3)?);
    let sides = match side {
        Side::Source => Sides { source: own, target: other },
        Side::Target => Sides { source: other, target: own },
    };
    let place: String = row.try_get(5)?;
    Ok(Some(Found {
        identity: Identity { migration: id(0)?, sides },
        side,
        paired: row.try_get(4)?,
        written_at: Place::read(&place),
        generation: row.try_get(6)?,
        other_generation: row.try_get(7)?,
    }))
}

/// All that tells whom the session is with.
///
/// # Errors
///
/// What the database reports, or a row that cannot be read.
pub async fn seen(session: &Session) -> Result<Seen, SqlFault> {
    let version = schema::version(session.driver()).await;
    let version = version.map_err(|error| session.fault(error, false))?;
    let here = here(session).await;
    if version == 0 {
        return Ok(Seen { here, ..Seen::default() });
    }
    let found = read(session).await?;
    let control = match session.repeatable().query_opt(CONTROL, &[]).await? {
        None => None,
        Some(row) => {
            let phase: String = row.try_get(1)?;
            let phase = phase.parse().map_err(|why| unreadable(session.side(), &format!("{why}")));
            Some((row.try_get(0)?, phase?))
        }
    };
    Ok(Seen { version, found, here, control })
}

/// Writes the identity of the session's side, where it has none.
///
/// # Errors
///
/// What the database reports.
pub async fn write(session: &Session, identity: &Identity, paired: bool) -> Result<(), SqlFault> {
    let side = session.side();
    let (migration, own) = (identity.migration.to_string(), identity.sides.of(side).to_string());
    let other = identity.other_of(side).to_string();
    let (place, name) = (here(session).await.written(), side.as_str());
    let params: [&(dyn ToSql + Sync); 6] = [&migration, &name, &own, &other, &paired, &place];
    session.execute(WRITE, &params).await.map(drop)
}

/// Notes on the session's side that the other one has taken its identity up.
///
/// # Errors
///
/// What the database reports.
pub async fn pair(session: &Session, identity: &Identity) -> Result<(), SqlFault> {
    let own = identity.sides.of(session.side()).to_string();
    let paired = session.execute(PAIR, &[&own]).await;
    paired.map(drop)
}

/// Where the session's database is. What the role may not ask, or the server has no notion of, is
/// not known then.
pub(super) async fn here(session: &Session) -> Place {
    let forms: &[&str] = match session.dialect().tells_system_identifier() {
        true => &[HERE, HERE_WITHOUT_SYSTEM],
        false => &[HERE_WITHOUT_SYSTEM],
    };
    for sql in forms {
        let Ok(row) = session.query_one(*sql, &[]).await else { continue };
        if let (Ok(system), Ok(database)) = (row.try_get(0), row.try_get(1)) {
            return Place { system, database };
        }
    }
    Place::default()
}

fn unreadable(side: Side, why: &str) -> SqlFault {
    let message = format!("whose side this database is cannot be read: {why}");
    SqlFault::new(FaultKind::Precondition, Reason::IdentityUnreadable, message)
        .on(side)
        .with_hint("segue.identity and segue.control may be of a newer segue")
}
