//! Making a side the primary: nothing may be copied to it from then on.

use std::time::Duration;

use crate::domain::control::Version;
use crate::domain::fault::SqlFault;
use crate::domain::sqlstate;
use crate::failpoint::{FailPoint, FailPoints};
use crate::ports::control::ControlChange;
use crate::postgres::control::change::change_on;
use crate::postgres::fence::writers::{shared, terminate};
use crate::postgres::fence::{CLASS, COPIES};
use crate::postgres::own_transactions::{PROMOTION_SILENCE_MAX, end_silent_changes};
use crate::postgres::session::Session;

/// Reconciles that are under way may end for so long.
const PATIENCE: Duration = Duration::from_millis(200);
/// For the row, under the lock: whoever changes it has it for one statement.
const ROW_WAIT: Duration = Duration::from_secs(1);
/// Then reconciles are ended, which does no harm: their keys are due again, on whichever side the
/// outbox is. So are those who promote or change the row and of whom nothing is heard. So many
/// times, for those that begin meanwhile; that is longer than a promotion may be silent.
const ATTEMPTS_MAX: u32 = 8;

/// Changes the control row of a side that this makes the primary, or that is it already, in a
/// transaction under the exclusive lock of copies to that side.
///
/// *If we crash here*, or are stopped, the row is changed or it is not. The server ends the
/// transaction soon, and whoever promotes next does not wait for that.
///
/// # Errors
///
/// What the database reports; the row tells what became of it.
// Modelled as `Action::Promote` and those after it in tests/model_cutover.
pub(in crate::postgres) async fn promote(
    session: &Session,
    from: Version,
    to: ControlChange,
    failpoints: &FailPoints,
) -> Result<bool, SqlFault> {
    let mut attempt = 1;
    let changed = loop {
        // Dropped in the middle, the session is closed rather than used again.
        session.set_busy(true);
        let changed = attempt_once(session, from, to.clone(), failpoints).await;
        match changed {
            Err(fault)
                if fault.sqlstate == sqlstate::LOCK_NOT_AVAILABLE && attempt < ATTEMPTS_MAX =>
            {
                attempt += 1;
                end_copies(session).await?;
                end_silent_changes(session, PROMOTION_SILENCE_MAX).await?;
            }
            changed => break changed,
        }
    };
    session.set_busy(false);
    changed
}

/// Leaves no transaction open, or a session that is lost.
async fn attempt_once(
    session: &Session,
    from: Version,
    to: ControlChange,
    failpoints: &FailPoints,
) -> Result<bool, SqlFault> {
    // Other changes of the row are not what a test of a change of the primary waits for.
    let unarmed = FailPoints::default();
    let failpoints = if to.state.epoch > from.epoch { failpoints } else { &unarmed };
    let changed = match begin(session).await {
        Ok(()) => {
            failpoints.reach(FailPoint::PromotionLocked).await;
            change_on(session, from, to).await
        }
        Err(fault) => Err(fault),
    };
    if changed.is_ok() {
        failpoints.reach(FailPoint::PromotionChanged).await;
    }
    let end = if changed.is_ok() { "COMMIT" } else { "ROLLBACK" };
    run(session, end).await?;
    if changed.is_ok() {
        failpoints.reach(FailPoint::PromotionCommitted).await;
    }
    changed
}

async fn begin(session: &Session) -> Result<(), SqlFault> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = on; \
         SET LOCAL lock_timeout = {}; SELECT pg_catalog.pg_advisory_xact_lock({CLASS}, {COPIES}); \
         SET LOCAL lock_timeout = {}",
        PATIENCE.as_millis(),
        ROW_WAIT.as_millis()
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
    session.batch_execute(sql).await
}
