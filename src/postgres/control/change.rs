//! The one statement that changes the control row, by compare-and-set, with its event.

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::notice::{quietly, told};
use crate::domain::control::Version;
use crate::domain::fault::SqlFault;
use crate::ports::control::ControlChange;
use crate::postgres::control::history;
use crate::postgres::fence::{mark, number};
use crate::postgres::session::Session;

/// The row and its event, both or neither. `phase_since` stays where the phase does, `settled_at`
/// where the epoch does, and `changed_at` where the share does: the schedule counts from it.
/// CockroachDB takes no part of `WITH` that returns nothing, asked for or not.
pub(in crate::postgres) const CHANGE: &str = "
WITH changed AS (
    UPDATE segue.control SET epoch = $3, revision = $4, phase = $5, target_percentage = $6,
        held = $7, reason = $8, changed_by = $9, changed_at = CASE WHEN phase = $5 AND target_percentage = $6 AND held = $7
            THEN changed_at ELSE pg_catalog.now() END,
        reads_off = $21, reads_off_by = $22::text::uuid,
        phase_since = CASE WHEN phase = $5 THEN coalesce(phase_since, changed_at)
            ELSE pg_catalog.now() END,
        settled_at = CASE WHEN epoch = $3 THEN settled_at END
    WHERE id = 1 AND epoch = $1 AND revision = $2 RETURNING 1 AS one),
recorded AS (
    INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage,
        to_percentage, forced, changed_by, reason, figures)
    SELECT $10::text::uuid, $11::text, $12::int8, $13::text, $14::text, $15::float8, $16::float8,
        $17::bool, $18::text, $19::text, $20::text
    FROM changed WHERE $10::text IS NOT NULL ON CONFLICT (event_id) DO NOTHING RETURNING 1)";

/// Changes the row of a session's side if it still is of this version, and records the event
/// with it. Who listens is told.
///
/// # Errors
///
/// What the database reports. The row tells whether it was changed.
pub(in crate::postgres) async fn change_on(
    session: &Session,
    from: Version,
    to: ControlChange,
) -> Result<bool, SqlFault> {
    change(session, &told(session, CHANGE), from, to).await
}

/// Changes the row under a fence, and nobody is told: that would take a lock at the commit which
/// all databases of the server share. A cutover's flip must not wait for it, and its members look
/// by themselves. Where the fence is a mark in the row, it must be the holder's, and is lifted.
///
/// # Errors
///
/// What the database reports. The row tells whether it was changed.
pub(in crate::postgres) async fn change_under(
    session: &Session,
    holder: Option<Uuid>,
    from: Version,
    to: ControlChange,
) -> Result<bool, SqlFault> {
    let sql = quietly(CHANGE);
    let sql = holder.map_or(sql.clone(), |holder| mark::under(&sql, holder));
    change(session, &sql, from, to).await
}

pub(in crate::postgres) async fn change(
    session: &Session,
    sql: &str,
    from: Version,
    to: ControlChange,
) -> Result<bool, SqlFault> {
    let side = session.side();
    let epoch = number(to.state.epoch, side)?;
    let revision = number(to.revision, side)?;
    let phase = to.state.phase.as_str();
    let percent = to.target_percentage.percent();
    let ControlChange { held, reason, changed_by, event, reads_off, .. } = to;
    let reads_off_by = reads_off.as_ref().and_then(|off| off.by).map(|by| by.to_string());
    let reads_off = reads_off.map(|off| off.reason);
    let (from_epoch, from_revision) = (number(from.epoch, side)?, number(from.revision, side)?);
    let event = event.map(|event| history::Columns::of(event, side)).transpose()?;
    let event = event.unwrap_or_default();
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![
        &from_epoch,
        &from_revision,
        &epoch,
        &revision,
        &phase,
        &percent,
        &held,
        &reason,
        &changed_by,
    ];
    params.extend(event.params());
    params.extend([&reads_off as &(dyn ToSql + Sync), &reads_off_by]);
    let prepared = session.prepared(sql).await?;
    let changed = session.query_one(&prepared.statement, &params).await;
    let changed = changed.and_then(|row| row.try_get::<_, i64>(0));
    changed.map(|rows| rows == 1)
}
