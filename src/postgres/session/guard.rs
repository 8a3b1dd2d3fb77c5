//! Sessions in which only an explicit transaction can write.
//!
//! A pipeline that begins with BEGIN goes out in one round trip. Should anybody cancel just
//! that BEGIN (an operator may, with `pg_cancel_backend`), the statements behind it would
//! commit one by one. In a guarded session they fail instead, for whatever is not in a
//! transaction that says READ WRITE begins read-only there. A single statement that commits
//! itself takes the guard off in the request that announces it.

use tokio_postgres::SimpleQueryMessage;

use super::{ServerFacts, Session};
use crate::domain::fault::{Outcome, SqlFault};
use crate::domain::sqlstate;

const PUT_ON: &str = "SET default_transaction_read_only = on";

/// Announces the next write and takes the guard off.
pub(in crate::postgres) const ANNOUNCE: &str = "SELECT pg_catalog.set_config('segue.write_id', $1, false), \
     pg_catalog.set_config('default_transaction_read_only', 'off', false)";
/// The same where the server itself wants sessions to be read-only.
const ANNOUNCE_ONLY: &str = "SELECT pg_catalog.set_config('segue.write_id', $1, false)";

/// What announces a write that commits itself.
pub(in crate::postgres) fn announcement(facts: &ServerFacts) -> &'static str {
    if facts.read_only { ANNOUNCE_ONLY } else { ANNOUNCE }
}

/// What BEGIN must say for a transaction that may write. Where the server itself wants its
/// sessions to be read-only, that is respected.
pub(in crate::postgres) fn access_of(facts: &ServerFacts) -> &'static str {
    if facts.read_only { "" } else { " READ WRITE" }
}

/// Whether the session has no guard and may have one.
pub(in crate::postgres) fn is_wanted(session: &Session) -> bool {
    !session.is_guarded() && !session.facts().read_only
}

/// Puts the guard on, where it is wanted.
///
/// # Errors
///
/// Nothing has been executed.
pub(in crate::postgres) async fn put_on(session: &Session) -> Result<(), SqlFault> {
    if !is_wanted(session) {
        return Ok(());
    }
    let put_on = session.repeatable().batch_execute(PUT_ON).await;
    put_on.map_err(|fault| fault.with_outcome(Outcome::NotApplied))?;
    session.set_guarded(true);
    Ok(())
}

/// The fault of a statement that stood behind a failed BEGIN or announcement.
pub(in crate::postgres) fn kept_off(
    session: &Session,
    cause: SqlFault,
    found: &SqlFault,
) -> Option<SqlFault> {
    let guarded = session.is_guarded() && found.sqlstate == sqlstate::READ_ONLY_SQL_TRANSACTION;
    guarded.then_some(SqlFault { outcome: Outcome::NotApplied, retryable: true, ..cause })
}

/// Whether somebody has left the session in a transaction: in a failed one nothing can be
/// asked.
pub(in crate::postgres) async fn is_in_transaction(session: &Session) -> bool {
    let at_rest = session.dialect().is_at_rest();
    let Ok(messages) = session.simple_query(at_rest.sql).await else { return true };
    let answer = Some(at_rest.answer);
    !messages
        .iter()
        .any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == answer))
}
