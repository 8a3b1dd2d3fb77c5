//! The fence where advisory locks do nothing, as on CockroachDB: a mark in the control row. Each write
//! reads the row in its own SERIALIZABLE transaction, so that it comes before the mark as a whole,
//! or after it, and is refused then.
//!
//! That is an order, not a time: a transaction that has looked may still commit when the mark is
//! there, as one that came before. What stops it is a look at all that such transactions note, in a
//! transaction that sees the mark: one of which it saw nothing would have to come after it, and
//! before the mark. So whoever raises the fence reads the whole outbox.
//!
//! The mark has a holder and an end. Nobody passes it by the clock alone: past its end it is
//! *taken off*, by a change of the row, and the flip is made only where the holder's mark is still
//! there. So of a holder that slept too long and of who went on without it one is refused.
//!
//! It has never been run on CockroachDB: there was none at hand. `tests/fence/epoch_row.rs`
//! and `tests/cutover/cockroach.rs` show it on PostgreSQL with serializable transactions.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::fence::number;
use crate::postgres::session::Session;

/// Before it counts as the fence, it must be followed by a look at the whole outbox.
const RAISE: &str = "\
    UPDATE segue.control SET fenced_by = $1::text::uuid, \
        fenced_until = pg_catalog.clock_timestamp() + $2::float8 * '1 second'::interval \
    WHERE id = 1 AND epoch = $3 AND (fenced_by IS NULL OR fenced_by = $1::text::uuid \
        OR fenced_until < pg_catalog.clock_timestamp())";

const RENEW: &str = "\
    UPDATE segue.control SET \
        fenced_until = pg_catalog.clock_timestamp() + $2::float8 * '1 second'::interval \
    WHERE id = 1 AND fenced_by = $1::text::uuid";

const LIFT: &str = "\
    UPDATE segue.control SET fenced_by = NULL, fenced_until = NULL \
    WHERE id = 1 AND fenced_by = $1::text::uuid";

/// All of it: what a limit left out would not be looked at. It sees the mark as well, and so comes
/// after it: two transactions that have nothing in common may be put in either order.
const READ_OUTBOX: &str = "\
    SELECT (SELECT fenced_by = $1::text::uuid FROM segue.control WHERE id = 1), \
        pg_catalog.count(*) FROM segue.outbox WHERE forgotten_at IS NULL";

/// Its holder is lost, or slept too long.
const LIFT_LAPSED: &str = "\
    UPDATE segue.control SET fenced_by = NULL, fenced_until = NULL \
    WHERE id = 1 AND fenced_until < pg_catalog.clock_timestamp()";

const LAPSED: &str = "\
    SELECT 1 FROM segue.control WHERE id = 1 AND fenced_until < pg_catalog.clock_timestamp()";

/// What a transaction that may write runs first; nothing where locks are the fence.
pub(in crate::postgres) fn look(session: &Session) -> Option<String> {
    let epoch = session.fenced_under().filter(|_| session.dialect().fences_by_mark())?;
    Some(look_for(epoch))
}

/// Fails with `25006` where the epoch is another one, or writers are fenced.
fn look_for(epoch: u64) -> String {
    format!(
        "SELECT CASE WHEN (SELECT epoch FROM segue.control WHERE id = 1 AND fenced_by IS NULL) \
         = {epoch} THEN 0 \
         ELSE segue.refuse_write('the epoch is not {epoch} any more') END"
    )
}

/// The condition and the end of a change of the control row that is made under the fence: it is
/// lifted by it.
pub(in crate::postgres) fn under(changing: &str, holder: Uuid) -> String {
    changing.replacen("SET ", "SET fenced_by = NULL, fenced_until = NULL, ", 1).replacen(
        "WHERE id = 1",
        &format!("WHERE id = 1 AND fenced_by = '{holder}'"),
        1,
    )
}

/// Puts the holder's mark on, where the row has this epoch and no other mark.
///
/// # Errors
///
/// What the database reports.
pub(in crate::postgres) async fn raise(
    session: &Session,
    holder: Uuid,
    epoch: u64,
    lease: Duration,
) -> Result<bool, SqlFault> {
    let epoch = number(epoch, session.side())?;
    let prepared = session.prepared(RAISE).await?;
    let (holder, lease_s) = (holder.to_string(), lease.as_secs_f64());
    let raised = session.execute(&prepared.statement, &[&holder, &lease_s, &epoch]).await;
    raised.map(|rows| rows == 1)
}

/// Looks at the whole outbox under the mark: of those who have looked at the row before it, nobody
/// can commit what this has not seen. Answers how many rows are not forgotten.
///
/// # Errors
///
/// What the database reports, or that the mark is gone.
// Modelled as `Action::Read` in tests/model_cutover/mark.rs, as what stands beside it is.
pub(in crate::postgres) async fn read_outbox(
    session: &Session,
    holder: Uuid,
) -> Result<u64, SqlFault> {
    let prepared = session.prepared(READ_OUTBOX).await?;
    let row = session.query_one(&prepared.statement, &[&holder.to_string()]).await?;
    match row.try_get(0)? {
        Some(true) => Ok(row.try_get::<_, i64>(1)?.unsigned_abs()),
        _ => Err(lost(session.side())),
    }
}

/// Puts its end off; says whether it is still there.
///
/// # Errors
///
/// What the database reports.
pub(in crate::postgres) async fn renew(
    session: &Session,
    holder: Uuid,
    lease: Duration,
) -> Result<bool, SqlFault> {
    let prepared = session.prepared(RENEW).await?;
    let (holder, lease_s) = (holder.to_string(), lease.as_secs_f64());
    let renewed = session.execute(&prepared.statement, &[&holder, &lease_s]).await;
    renewed.map(|rows| rows == 1)
}

/// Takes the holder's mark off; says whether it was there.
///
/// # Errors
///
/// What the database reports; it has an end.
pub(in crate::postgres) async fn lift(session: &Session, holder: Uuid) -> Result<bool, SqlFault> {
    let prepared = session.prepared(LIFT).await?;
    let lifted = session.execute(&prepared.statement, &[&holder.to_string()]).await;
    lifted.map(|rows| rows == 1)
}

/// The fault of a fence whose mark somebody has taken off.
pub fn lost(side: Side) -> SqlFault {
    let message = "the fence was not renewed in time, and has been taken off";
    SqlFault::new(FaultKind::Unavailable, Reason::CutoverFenceLost, message)
        .with_hint("nothing has changed; try again")
        .on(side)
}

/// Takes a mark off that is past its end, where there is one. Where it cannot, another one does, or
/// the next look.
pub(in crate::postgres) async fn lift_if_lapsed(session: &Session) {
    if !session.dialect().fences_by_mark() {
        return;
    }
    let lapsed = session.query_opt(LAPSED, &[]).await;
    if lapsed.is_ok_and(|row| row.is_some()) {
        lift_lapsed(session).await;
    }
}

/// Takes a mark off that is past its end.
pub(in crate::postgres) async fn lift_lapsed(session: &Session) {
    // A session's own guard refuses what does not say that it writes.
    let sql = format!("BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; {LIFT_LAPSED}; COMMIT");
    match session.batch_execute(&sql).await {
        Ok(()) => tracing::info!("a fence is lifted whose holder is lost"),
        Err(error) => {
            tracing::debug!(%error, "a fence whose holder is lost cannot be lifted yet");
            // Whatever that says is said again by what comes next.
            let _ = session.batch_execute("ROLLBACK").await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_epoch_is_refused_as_a_database_that_takes_no_writes() {
        let sql = look_for(7);
        assert!(sql.contains("fenced_by IS NULL) = 7 THEN 0"), "{sql}");
        assert!(sql.contains("ELSE segue.refuse_write("), "{sql}");
    }

    #[test]
    fn a_change_under_the_fence_is_the_holders_and_lifts_it() {
        let holder = Uuid::from_u128(1);
        let sql = under("UPDATE t SET a = 1 WHERE id = 1 AND epoch = $1", holder);
        assert_eq!(
            sql,
            format!(
                "UPDATE t SET fenced_by = NULL, fenced_until = NULL, a = 1 \
                 WHERE id = 1 AND fenced_by = '{holder}' AND epoch = $1"
            )
        );
    }
}
