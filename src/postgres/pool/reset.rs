//! Bringing a session of callers back to its first state before anyone else has it.
//!
//! What a caller runs may call functions, and those may leave behind whatever a session keeps:
//! settings, a role, temporary tables that hide real ones, cursors, subscriptions, locks,
//! prepared statements, the values of sequences. So a session that ran anything but statements
//! known to leave nothing is reset, after its caller has the answer, and closed where that fails.
//!
//! `DISCARD ALL` would release segue's own lock as well (the fence's, or that of a session that
//! answers reads); these are its parts. Segue's lock is taken once more for the transaction of the
//! reset, so that it is held all the time while the session's own are given up.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::SimpleQueryMessage;

use crate::domain::fault::SqlFault;
use crate::postgres::fence::{CLASS, READERS, WRITERS, key_of};
use crate::postgres::session::Session;

/// For all of it; a session that takes longer is closed.
const LIMIT: Duration = Duration::from_secs(5);

/// How long whoever wants a session waits for one that is being reset, before another is opened.
/// A reset is a round trip; a new session takes several, and a process of the server.
const PATIENCE: Duration = Duration::from_millis(200);

const DISCARD: &str = "DISCARD TEMP; DISCARD SEQUENCES; ";

/// True where the session is in no transaction, by which all of this could be undone.
const AT_REST: &str = "pg_catalog.now() OPERATOR(pg_catalog.=) pg_catalog.statement_timestamp()";
/// Whether a function has prepared statements by SQL, whose names could collide with the
/// driver's. Prepared itself: to plan it each time would be half of a reset.
const FOREIGN: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements AS p \
    WHERE p.from_sql)";

/// The resets of a pool that are under way.
#[derive(Debug, Default)]
pub(super) struct Resets {
    running: AtomicUsize,
    waiting: AtomicUsize,
    ended: AtomicUsize,
    done: Notify,
}

/// A place among those that wait for one, given up when it is dropped.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn take(all: &'a AtomicUsize) -> Self {
        Self { all, before: all.fetch_add(1, Ordering::AcqRel) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One of them; its end is told when it is dropped, which must come after the session's return.
#[derive(Debug)]
pub(in crate::postgres) struct Running(Option<Arc<Resets>>);

// === impl Resets ===

impl Resets {
    /// Waits for one to end, where there is one for whom nobody waits: a new session costs more.
    pub(in crate::postgres) async fn one_ended(&self) {
        let place = Waiting::take(&self.waiting);
        let seen = self.ended.load(Ordering::Acquire);
        let waited = async {
            while place.before < self.running.load(Ordering::Acquire)
                && self.ended.load(Ordering::Acquire) == seen
            {
                // May tell of one that had ended before.
                self.done.notified().await;
            }
        };
        // Whether it came to that or not, the pool is asked next.
        let _ = tokio::time::timeout(PATIENCE, waited).await;
    }
}

impl Running {
    /// Counts one.
    pub(super) fn begin(resets: Option<Arc<Resets>>) -> Self {
        if let Some(resets) = &resets {
            resets.running.fetch_add(1, Ordering::AcqRel);
        }
        Self(resets)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(resets) = &self.0 {
            resets.running.fetch_sub(1, Ordering::AcqRel);
            resets.ended.fetch_add(1, Ordering::AcqRel);
            resets.done.notify_one();
        }
    }
}

/// Resets a session in which nothing runs. False where it is of no more use: it is poisoned.
pub(in crate::postgres) async fn to_first_state(session: &Session) -> bool {
    if !session.is_touched() {
        return true;
    }
    let done = tokio::time::timeout(LIMIT, run(session)).await;
    let why = match done {
        Ok(Ok(true)) => {
            session.set_touched(false);
            return true;
        }
        Ok(Ok(false)) => {
            "it had given its lock up, was in a transaction, or had prepared statements"
        }
        Ok(Err(fault)) => {
            tracing::debug!(%fault, "a session could not be reset");
            "the server refused"
        }
        Err(_) => "it took too long",
    };
    tracing::info!(
        side = %session.side(),
        backend_pid = session.facts().backend_pid,
        why,
        "a session is closed instead of being reset for the next caller"
    );
    session.poison();
    false
}

/// One message, and so one transaction: all of it or nothing.
fn statements(session: &Session) -> String {
    let mut sql = session.dialect().take_off().to_owned();
    sql.push_str(&session.first_settings().0);
    // Segue's own part of the settings stays as it was left.
    if session.is_guarded() {
        sql.push_str("SET default_transaction_read_only = on; ");
    }
    if let Some(write_id) = session.announced() {
        let _ = write!(sql, "SET segue.write_id = '{write_id}'; ");
    }
    sql.push_str(DISCARD);
    if !session.dialect().has_advisory_locks() {
        return sql;
    }
    // Evaluated from left to right. The second of a lock is false where a function has given it up:
    // then nobody can say what the control row was meanwhile, or who has looked for the session.
    let fence = session.fenced_under().map(|epoch| (CLASS, key_of(epoch)));
    let reads = session.found().map(|found| (READERS, found.key));
    let writes = session.named().map(|key| (WRITERS, key));
    let held: Vec<(i32, i32)> = [fence, reads, writes].into_iter().flatten().collect();
    sql.push_str("SELECT ");
    for (class, key) in &held {
        let _ = write!(
            sql,
            "pg_catalog.pg_try_advisory_xact_lock_shared({class}, {key}), \
             pg_catalog.pg_advisory_unlock_shared({class}, {key}), "
        );
    }
    sql.push_str("pg_catalog.pg_advisory_unlock_all(), ");
    for (class, key) in &held {
        let _ = write!(sql, "pg_catalog.pg_try_advisory_lock_shared({class}, {key}), ");
    }
    sql.push_str(AT_REST);
    sql
}

/// One round trip. False where something is left that cannot be taken off.
async fn run(session: &Session) -> Result<bool, SqlFault> {
    if !session.dialect().has_advisory_locks() {
        session.batch_execute(&statements(session)).await?;
        return Ok(true);
    }
    let foreign = session.prepared(FOREIGN).await?;
    let sql = statements(session);
    // Polled in this order, they are sent in this order.
    let (reset, foreign) = tokio::join!(
        biased;
        session.simple_query(&sql),
        session.query_one(&foreign.statement, &[])
    );
    let (reset, foreign) = (reset?, foreign?);
    Ok(all_true(&reset) && !foreign.try_get::<_, bool>(0)?)
}

fn all_true(answer: &[SimpleQueryMessage]) -> bool {
    let is_false = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => (0..row.len()).any(|column| row.get(column) == Some("f")),
        _ => false,
    };
    !answer.iter().any(is_false)
}
