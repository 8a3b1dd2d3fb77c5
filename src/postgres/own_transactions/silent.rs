//! Ending what a process has left behind that is stopped or cut off.

use std::time::Duration;

use tokio_postgres::types::ToSql;

use super::{COPY_SESSIONS, Held, OWN};
use crate::domain::fault::SqlFault;
use crate::postgres::fence::{READERS, WRITERS};
use crate::postgres::session::Session;
use crate::postgres::session::silence::silence_max;

/// Sessions of this database that hold one of the locks while the server waits for their client:
/// between two statements, within one request, or with an answer that nobody takes. What runs, or
/// waits for a lock itself, is ended by its own limits. One whose state segue's role may not see is
/// left alone.
fn sql(locks: &[Held]) -> String {
    let silent = |held: &Held| {
        let limit = if *held == Held::Fence { "$2" } else { "$1" };
        format!(
            "({}) AND a.state_change < pg_catalog.clock_timestamp() \
                 - {limit}::float8 * '1 second'::interval",
            held.condition()
        )
    };
    let silent: Vec<String> = locks.iter().map(silent).collect();
    format!(
        "WITH silent AS MATERIALIZED (SELECT DISTINCT a.pid, \
                pg_catalog.concat_ws(', ', a.usename, nullif(a.application_name, ''), \
                    a.client_addr::text) AS who, \
                extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change)::float8 AS silent_s \
            FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid \
            WHERE l.granted AND a.pid <> pg_catalog.pg_backend_pid() \
                AND a.wait_event_type = 'Client' AND a.datname = pg_catalog.current_database() \
                AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d \
                    WHERE d.datname = pg_catalog.current_database()) AND ({})) \
         SELECT pid, who, silent_s, pg_catalog.pg_terminate_backend(pid) FROM silent",
        silent.join(" OR ")
    )
}

/// Transactions of callers that members have left open whose lease is over: what they have locked stays
/// locked until they are ended. Sessions at rest hold nothing, and stay: they may be those of a member
/// that has opened them ahead of a change of the primary, and is about to register there. Nothing where
/// no member has a lease, as on a primary that takes no renewal.
const LEFT_BY_LOST: &str = "\
    WITH alive AS MATERIALIZED (SELECT ('x' || pg_catalog.right( \
            pg_catalog.replace(m.member_id::text, '-', ''), 8))::bit(32)::int8 AS key \
        FROM segue.member AS m WHERE m.lease_until > pg_catalog.clock_timestamp()), \
    silent AS MATERIALIZED (SELECT a.pid, pg_catalog.concat_ws(', ', a.usename, \
            nullif(a.application_name, ''), a.client_addr::text) AS who, \
            extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change)::float8 AS silent_s \
        FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid \
        WHERE l.granted AND l.locktype = 'advisory' AND l.objsubid = 2 AND l.mode = 'ShareLock' \
            AND l.classid::int8 IN ($2, $3) AND a.xact_start IS NOT NULL \
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d \
                WHERE d.datname = pg_catalog.current_database()) \
            AND a.wait_event_type = 'Client' AND a.state_change < pg_catalog.clock_timestamp() \
                - $1::float8 * '1 second'::interval \
            AND EXISTS (SELECT FROM alive) \
            AND NOT EXISTS (SELECT FROM alive WHERE alive.key = l.objid::int8)) \
    SELECT pid, who, silent_s, pg_catalog.pg_terminate_backend(pid) FROM silent";

/// Transactions of segue's own that stand still and hold a table which somebody waits for: a change
/// of the schema, and behind it all who use the table. Those of callers are callers' own affair.
const IN_THE_WAY: &str = "\
    WITH silent AS MATERIALIZED (SELECT a.pid, pg_catalog.concat_ws(', ', a.usename, \
            nullif(a.application_name, ''), a.client_addr::text) AS who, \
            extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change)::float8 AS silent_s \
        FROM pg_catalog.pg_stat_activity AS a \
        WHERE a.datname = pg_catalog.current_database() AND a.usename = current_user \
            AND (a.application_name = pg_catalog.current_setting('application_name') \
                OR pg_catalog.starts_with(a.application_name, $4)) \
            AND a.pid <> pg_catalog.pg_backend_pid() AND a.state = 'idle in transaction' \
            AND a.state_change < pg_catalog.clock_timestamp() - $1::float8 * '1 second'::interval \
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid = a.pid \
                AND l.locktype = 'advisory' AND l.classid::int8 IN ($2, $3)) \
            AND EXISTS (SELECT FROM pg_catalog.pg_locks AS w \
                WHERE NOT w.granted AND w.locktype = 'relation' \
                    AND a.pid = ANY (pg_catalog.pg_blocking_pids(w.pid)))) \
    SELECT pid, who, silent_s, pg_catalog.pg_terminate_backend(pid) FROM silent";

/// Ends every transaction and session of segue's own on the session's side that others may have
/// to wait for and of whose client nothing was heard for too long, by the lease of the fleet.
/// Answers how many. CockroachDB has nobody end a session, and its marks and claims have ends of
/// their own.
///
/// # Errors
///
/// What the database reports: the right to end another role's session may be missing.
pub async fn end_silent(session: &Session, lease: Duration) -> Result<usize, SqlFault> {
    let locks: Vec<Held> = OWN.iter().flat_map(|it| it.locks).copied().collect();
    end(session, &locks, silence_max(lease), lease).await
}

/// Ends the sessions on the session's side that callers of lost members have left in the middle of
/// something: no answer can reach those callers any more. Answers how many. A member that was only
/// slow has written nothing since its lease was over.
///
/// # Errors
///
/// As [`end_silent`].
pub async fn end_left_by_lost(session: &Session, lease: Duration) -> Result<usize, SqlFault> {
    if !session.dialect().can_end_sessions() {
        return Ok(0);
    }
    let (writers, readers) = (i64::from(WRITERS), i64::from(READERS));
    let params: [&(dyn ToSql + Sync); 3] = [&silence_max(lease).as_secs_f64(), &writers, &readers];
    let what = "a session of a lost member is ended: what its callers have locked is free";
    ended(session, LEFT_BY_LOST, &params, what).await
}

/// Ends those on the session's side that read rows, or copy them, and of which nothing was heard for
/// a lease while somebody waits for a table that they hold. Answers how many. What a copy has lost it
/// does again.
///
/// # Errors
///
/// As [`end_silent`].
pub async fn end_in_the_way(session: &Session, lease: Duration) -> Result<usize, SqlFault> {
    if !session.dialect().can_end_sessions() {
        return Ok(0);
    }
    let (writers, readers) = (i64::from(WRITERS), i64::from(READERS));
    let params: [&(dyn ToSql + Sync); 4] =
        [&lease.as_secs_f64(), &writers, &readers, &COPY_SESSIONS];
    let what = "a transaction of segue's own is ended: it stands still, and a table that it holds is \
        waited for";
    ended(session, IN_THE_WAY, &params, what).await
}

/// The same for those in the way of a promotion, who are silent for so long.
///
/// # Errors
///
/// As [`end_silent`].
pub async fn end_silent_changes(session: &Session, silence: Duration) -> Result<usize, SqlFault> {
    end(session, &[Held::Copies, Held::Changes("segue.control")], silence, silence).await
}

async fn end(
    session: &Session,
    locks: &[Held],
    silence: Duration,
    lease: Duration,
) -> Result<usize, SqlFault> {
    if !session.dialect().can_end_sessions() {
        return Ok(0);
    }
    let (silence_s, lease_s) = (silence.as_secs_f64(), lease.as_secs_f64());
    let has_fence = locks.contains(&Held::Fence);
    let params: &[&(dyn ToSql + Sync)] =
        if has_fence { &[&silence_s, &lease_s] } else { &[&silence_s] };
    let what = "a transaction of segue's own is ended: its client is silent, and others wait";
    ended(session, &sql(locks), params, what).await
}

/// Runs a statement that ends sessions, and says which.
async fn ended(
    session: &Session,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
    what: &str,
) -> Result<usize, SqlFault> {
    // Dropped in the middle, the session is closed rather than used again.
    session.set_busy(true);
    let prepared = session.prepared(sql).await?;
    let rows = session.repeatable().query(&prepared.statement, params).await?;
    session.set_busy(false);
    for row in &rows {
        let (pid, who): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
        let silent_s: f64 = row.try_get(2)?;
        tracing::warn!(side = %session.side(), pid, who, silent_s, "{what}");
    }
    Ok(rows.len())
}
