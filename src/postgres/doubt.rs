//! What became of a transaction whose answer was lost.
//!
//! Bytes that a dead connection still holds can be executed by a server process that has not
//! noticed yet; so that process is ended first, and only then is its transaction looked up.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::ToSql;

use super::connect::Connector;
use super::session::{ServerFacts, Session};
use super::settings::Purpose;
use crate::domain::fault::{Outcome, SqlFault};

/// For finding out; afterwards the outcome stays unknown.
const RESOLVE_LIMIT: Duration = Duration::from_secs(15);
/// Between two attempts to connect, or two looks at a process.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

const END_PROCESS: &str = "SELECT pg_catalog.pg_terminate_backend(a.pid) \
     FROM pg_catalog.pg_stat_activity AS a \
     WHERE a.pid = $1 AND extract(epoch FROM a.backend_start)::text = $2";
const XACT_STATUS: &str = "SELECT pg_catalog.pg_xact_status($1::text::pg_catalog.xid8)::text";

/// A new session on which nothing of the lost one can happen any more; `None` where that
/// cannot be had in time.
pub(super) async fn after_lost_session(
    connector: &Connector,
    lost: &ServerFacts,
) -> Option<Session> {
    let give_up = Instant::now() + RESOLVE_LIMIT;
    timeout(RESOLVE_LIMIT, async {
        while Instant::now() < give_up {
            if let Ok(session) = Box::pin(connector.connect(Purpose::Write)).await
                && has_ended(&session, lost).await.unwrap_or(false)
            {
                return Some(session);
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
async fn has_ended(session: &Session, lost: &ServerFacts) -> Result<bool, SqlFault> {
    if lost.is_cockroach || session.facts().incarnation != lost.incarnation {
        // A restart has ended all processes; where there is no telling, the key decides.
        return Ok(true);
    }
    let params: [&(dyn ToSql + Sync); 2] = [&lost.backend_pid, &lost.backend_start];
    let found =
        session.query(END_PROCESS, &params).await.map_err(|error| session.fault(error, false))?;
    Ok(found.is_empty())
}

/// Whether the transaction `xid` of a lost session was committed.
pub(super) async fn outcome_of(
    connector: &Connector,
    lost: &ServerFacts,
    xid: Option<&str>,
) -> Outcome {
    let Some(xid) = xid else { return Outcome::Unknown };
    let Some(session) = after_lost_session(connector, lost).await else {
        return Outcome::Unknown;
    };
    let status = session
        .query_opt(XACT_STATUS, &[&xid])
        .await
        .ok()
        .flatten()
        .and_then(|row| row.try_get::<_, Option<String>>(0).ok().flatten());
    let same_server = session.facts().incarnation == lost.incarnation;
    match status.as_deref() {
        // A committed transaction is durable, so its id is not given out again.
        Some("aborted") => Outcome::NotApplied,
        // After a crash the id may have become another transaction's.
        Some("committed") if same_server => Outcome::Applied,
        _ => Outcome::Unknown,
    }
}
