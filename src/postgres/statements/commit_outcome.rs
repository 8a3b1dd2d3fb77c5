//! What became of a write whose answer was lost.
//!
//! Bytes that a dead connection still holds can be executed by a server process that has not
//! noticed yet; so that process is ended first, and only then is its transaction looked up:
//! by its id, where that is known or the process still has it, or else by the write's id in
//! the outbox. Rows there prove that it was committed; their absence proves nothing, for a
//! write may touch nothing that is captured.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::{ToSql, Type};

use super::stop::stopped;
use crate::domain::call::CallContext;
use crate::domain::fault::{Outcome, SqlFault};
use crate::domain::key::WriteId;
use crate::postgres::session::connect::Connector;
use crate::postgres::session::settings::{Purpose, SessionLimits};
use crate::postgres::session::{ServerFacts, Session};

/// For finding out; afterwards the outcome stays unknown.
const RESOLVE_LIMIT: Duration = Duration::from_secs(15);
/// For any one look: the outbox has no index by write, and may be large.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts to connect, or two looks at a process.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Ends the process and tells its transaction, as the 64-bit id nearest to the next one.
const END_PROCESS: &str = "SELECT pg_catalog.pg_terminate_backend(a.pid), \
       (a.xid + (((a.next - a.xid + 2147483648) >> 32) << 32))::text \
     FROM (SELECT pid, backend_xid::text::int8 AS xid, pg_catalog.pg_snapshot_xmax( \
             pg_catalog.pg_current_snapshot())::text::int8 AS next \
           FROM pg_catalog.pg_stat_activity \
           WHERE pid = $1 AND extract(epoch FROM backend_start)::text = $2 OFFSET 0) AS a";
/// The same for servers that have no 64-bit ids.
const END_PROCESS_OLD: &str = "SELECT pg_catalog.pg_terminate_backend(a.pid), NULL::text \
     FROM pg_catalog.pg_stat_activity AS a \
     WHERE a.pid = $1 AND extract(epoch FROM a.backend_start)::text = $2";
const XACT_STATUS: &str = "SELECT pg_catalog.pg_xact_status($1::text::pg_catalog.xid8)::text";
/// By a function that runs as segue's role: that of callers may not look at the server's processes.
const HAS_CRASHED: &str = "SELECT segue.has_crashed_since($1::text::numeric)";

/// A session on which nothing of the lost one can happen any more.
pub(super) struct After {
    pub(super) session: Session,
    /// The transaction that the lost session was in when it was ended.
    xid: Option<String>,
}

/// Waits for such a session; `None` where it cannot be had in time.
pub(super) async fn after_lost_session(connector: &Connector, lost: &ServerFacts) -> Option<After> {
    let give_up = Instant::now() + RESOLVE_LIMIT;
    let limits = SessionLimits {
        statement_timeout: Some(LOOK_LIMIT),
        ..SessionLimits::for_purpose(Purpose::Write)
    };
    let mut xid = None;
    timeout(RESOLVE_LIMIT, async {
        while Instant::now() < give_up {
            if let Ok(session) = Box::pin(connector.connect_with(Purpose::Write, limits)).await
                && has_ended(&session, lost, &mut xid).await.unwrap_or(false)
            {
                return Some(After { session, xid });
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
        None
    })
    .await
    .ok()
    .flatten()
}

/// Ends the lost session's process, and says whether it is gone.
async fn has_ended(
    session: &Session,
    lost: &ServerFacts,
    xid: &mut Option<String>,
) -> Result<bool, SqlFault> {
    if !lost.dialect.can_end_sessions() || session.facts().incarnation != lost.incarnation {
        // A restart has ended all processes; where there is no telling, the key decides.
        return Ok(true);
    }
    let params: [&(dyn ToSql + Sync); 2] = [&lost.backend_pid, &lost.backend_start];
    let tells_ids = lost.dialect.tells_transaction_ids();
    let sql = if tells_ids { END_PROCESS } else { END_PROCESS_OLD };
    let found = session.repeatable().query(sql, &params).await?;
    if xid.is_none() {
        *xid = found.first().and_then(|row| row.try_get(1).ok().flatten());
    }
    Ok(found.is_empty())
}

/// What became of a write of a lost session. `xid` is its transaction's id, where that is
/// known. Nobody waits for the answer once the call has been stopped.
pub(super) async fn outcome_of(
    connector: &Connector,
    lost: &ServerFacts,
    xid: Option<&str>,
    write_id: WriteId,
    context: &CallContext,
) -> Outcome {
    tokio::select! {
        biased;
        outcome = look_up(connector, lost, xid, write_id) => outcome,
        _ = stopped(context) => Outcome::Unknown,
    }
}

async fn look_up(
    connector: &Connector,
    lost: &ServerFacts,
    xid: Option<&str>,
    write_id: WriteId,
) -> Outcome {
    let Some(After { session, xid: found }) = after_lost_session(connector, lost).await else {
        return Outcome::Unknown;
    };
    if let Some(xid) = xid.or(found.as_deref()) {
        let outcome = status_of(&session, lost, xid).await;
        if outcome != Outcome::Unknown {
            return outcome;
        }
    }
    let in_outbox = session
        .repeatable()
        .query_typed(session.dialect().is_in_outbox(), &[(&write_id.to_string(), Type::TEXT)])
        .await
        .ok()
        .and_then(|rows| rows.first()?.try_get::<_, bool>(0).ok());
    if in_outbox == Some(true) { Outcome::Applied } else { Outcome::Unknown }
}

async fn status_of(session: &Session, lost: &ServerFacts, xid: &str) -> Outcome {
    let status = session
        .query_opt(XACT_STATUS, &[&xid])
        .await
        .ok()
        .flatten()
        .and_then(|row| row.try_get::<_, Option<String>>(0).ok().flatten());
    let same_server = session.facts().incarnation == lost.incarnation
        && !(session.facts().is_blind_to_crashes() && has_crashed(session, lost).await);
    match status.as_deref() {
        // A committed transaction is durable, so its id is not given out again.
        Some("aborted") => Outcome::NotApplied,
        // After a crash the id may have become another transaction's.
        Some("committed") if same_server => Outcome::Applied,
        _ => Outcome::Unknown,
    }
}

/// Whether the server has crashed since the lost session began. Where segue's role may not see that
/// either, nothing says so; a question that fails says that it may have.
async fn has_crashed(session: &Session, lost: &ServerFacts) -> bool {
    let params = [(&lost.backend_start as _, Type::TEXT)];
    let asked = session.repeatable().query_typed(HAS_CRASHED, &params).await;
    match asked.as_deref().map(|rows| rows.first().map(|row| row.try_get::<_, Option<bool>>(0))) {
        Ok(Some(Ok(crashed))) => crashed.unwrap_or(false),
        _ => true,
    }
}
