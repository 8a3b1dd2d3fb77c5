//! Making a side the primary: nothing may be copied to it from then on.

use std::time::Duration;

use super::writers::{shared, terminate};
use super::{CLASS, COPIES};
use crate::domain::control::Version;
use crate::domain::fault::SqlFault;
use crate::ports::control::ControlChange;
use crate::postgres::control::change_on;
use crate::postgres::session::Session;

/// Reconciles that are under way may end for so long.
const PATIENCE: Duration = Duration::from_millis(200);
/// Then they are ended, which does no harm: their keys are due again, on whichever side the
/// outbox is. So many times, for those that begin meanwhile.
const ATTEMPTS_MAX: u32 = 5;
/// `lock_not_available`.
const LOCK_TIMEOUT: &str = "55P03";

/// Changes the control row of a side that this makes the primary, or that is it already, in a
/// transaction under the exclusive lock of copies to that side.
///
/// *If we crash here*, the row is changed or it is not.
///
/// # Errors
///
/// What the database reports; the row tells what became of it.
pub(in crate::postgres) async fn promote(
    session: &Session,
    from: Version,
    to: ControlChange,
) -> Result<bool, SqlFault> {
    // Dropped in the middle, the session is closed rather than used again.
    session.set_busy(true);
    let mut attempt = 1;
    while let Err(fault) = begin(session).await {
        run(session, "ROLLBACK").await?;
        if fault.sqlstate != LOCK_TIMEOUT || attempt == ATTEMPTS_MAX {
            session.set_busy(false);
            return Err(fault);
        }
        attempt += 1;
        end_copies(session).await?;
    }
    let changed = change_on(session, from, to).await;
    let end = if changed.is_ok() { "COMMIT" } else { "ROLLBACK" };
    run(session, end).await?;
    session.set_busy(false);
    changed
}

async fn begin(session: &Session) -> Result<(), SqlFault> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; \
         SET LOCAL lock_timeout = {}; SELECT pg_catalog.pg_advisory_xact_lock({CLASS}, {COPIES}); \
         SET LOCAL lock_timeout = '5s'",
        PATIENCE.as_millis()
    );
    run(session, &begin).await
}

async fn end_copies(session: &Session) -> Result<(), SqlFault> {
    for copy in shared(session).await?.iter().filter(|it| it.key == COPIES) {
        tracing::warn!(side = %session.side(), %copy, "a reconcile is ended: its shadow becomes the primary");
        terminate(session, copy.pid).await?;
    }
    Ok(())
}

async fn run(session: &Session, sql: &str) -> Result<(), SqlFault> {
    session.batch_execute(sql).await.map_err(|error| session.fault(error, true))
}
