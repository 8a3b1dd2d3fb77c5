//! The fence of CockroachDB, which has no advisory locks that hold: each write reads the epoch
//! row in its own SERIALIZABLE transaction, so that it comes before the change of epoch as a
//! whole, or after it, and is refused then.
//!
//! That is an order, not a time: a transaction that has looked may still commit when the epoch
//! has been changed, as one that came before. What stops it is a look at all that such
//! transactions note, in a transaction after the change: one that saw nothing of it comes before
//! it, and so cannot come before the change. So a drain there must read the whole outbox.
//!
//! It has never been run on CockroachDB: there was none at hand. `tests/fence/epoch_row.rs`
//! shows it on PostgreSQL with serializable transactions.

use crate::postgres::session::{ServerFacts, Session};

/// What BEGIN must say there of a transaction that may write, whatever its caller asked for:
/// in any other isolation nothing orders its look.
pub(in crate::postgres) fn isolation(facts: &ServerFacts) -> Option<&'static str> {
    facts.is_cockroach.then_some(" ISOLATION LEVEL SERIALIZABLE")
}

/// What a transaction that may write runs first; nothing where locks are the fence.
pub(in crate::postgres) fn look(session: &Session) -> Option<String> {
    let epoch = session.fenced_under().filter(|_| session.facts().is_cockroach)?;
    Some(look_for(epoch))
}

/// Fails with `25006` where the epoch is another one.
fn look_for(epoch: u64) -> String {
    format!(
        "SELECT CASE WHEN (SELECT epoch FROM segue.control WHERE id = 1) = {epoch} THEN 0 \
         ELSE crdb_internal.force_error('25006', 'the epoch is not {epoch} any more') END"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_epoch_is_refused_as_a_database_that_takes_no_writes() {
        let sql = look_for(7);
        assert!(sql.contains("WHERE id = 1) = 7 THEN 0") && sql.contains("'25006'"), "{sql}");
    }
}
