//! Reconciles and chunks of the backfill, fenced on the side that they write to.
//!
//! Either may sleep between its reading and its commit. If the shadow becomes the primary
//! meanwhile, it would put back what callers have written since. So it holds a shared lock on
//! the shadow for its transaction, under which it sees that this side still follows; and a side
//! is made the primary only by whoever holds that lock exclusively.

use super::{CLASS, COPIES, COPYING};
use crate::domain::control::Phase;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::session::{ServerFacts, Session};

/// What the control row of the side says.
const LOOK: &str = "SELECT phase FROM segue.control WHERE id = 1";

/// Says for the transaction that it is a copy of segue's own, so that capture lets it pass.
pub fn say_copying(facts: &ServerFacts) -> String {
    facts.dialect.say_copying(COPYING)
}

/// PL/pgSQL that does `this` where the transaction is a copy of segue's own: for functions that
/// run as segue's role. A transaction that says nothing pays for the look at a setting; one that
/// says something else counts as anyone's.
pub fn when_copying(this: &str) -> String {
    format!(
        "    IF pg_catalog.current_setting('{COPYING}', true) <> '' THEN
        IF EXISTS (SELECT FROM segue.copy_token AS c
            WHERE c.token = pg_catalog.current_setting('{COPYING}', true))
        THEN
            {this}
        END IF;
    END IF;"
    )
}

/// Says that the transaction copies, and takes the shared lock for it. It stands in a statement
/// before the look, which alone orders a SERIALIZABLE transaction where there is no such lock.
pub fn share_copies(facts: &ServerFacts) -> String {
    format!("{}{}", say_copying(facts), facts.dialect.and_share_copies((CLASS, COPIES)))
}

/// Looks, under the lock, whether the session's side is still one to copy to.
///
/// # Errors
///
/// A fault where it is not, or the database's.
pub async fn check_follows(session: &Session) -> Result<(), SqlFault> {
    let side = session.side();
    let look = session.prepared(LOOK).await?;
    let row = session.repeatable().query_opt(&look.statement, &[]).await?;
    let phase = row.and_then(|row| row.try_get::<_, String>(0).ok()).unwrap_or_default();
    if still_follows(side, &phase) {
        return Ok(());
    }
    let message =
        format!("the {side} is no shadow in the phase {phase:?}: nothing is copied to it");
    Err(SqlFault::new(FaultKind::Unavailable, Reason::FenceNotShadow, message).on(side).retryable())
}

/// Whether a side that has this phase in its own control row is still a shadow. A phase that
/// cannot be read is none to write under.
fn still_follows(side: Side, phase: &str) -> bool {
    phase.parse::<Phase>().is_ok_and(|phase| phase.primary() != side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shadow_is_written_to() {
        assert!(still_follows(Side::Target, "shift") && still_follows(Side::Source, "reversed"));
        assert!(!still_follows(Side::Target, "reversed") && !still_follows(Side::Source, "shift"));
        assert!(!still_follows(Side::Target, "") && !still_follows(Side::Source, "later"));
    }
}
