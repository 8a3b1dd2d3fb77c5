//! Who writes, as the locks of a database show it, and what a refusal means.

use std::time::Duration;

use super::{CLASS, COPIES, TRANSACTIONS, key_of};
use crate::domain::fault::SqlFault;
use crate::postgres::session::Session;
use crate::postgres::session::asked::Row;

/// Who holds a shared lock of the fence: sessions, and prepared transactions, which have no process.
const SHARED: &str = "\
    SELECT coalesce(l.pid, 0), l.objid::int8 AS key, a.usename::text, a.application_name, \
        coalesce(a.client_addr::text, ''), \
        extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8, \
        coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change), 0)::float8, \
        coalesce(a.state = 'idle in transaction', false), l.pid IS NULL \
    FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.mode = 'ShareLock' \
        AND l.classid::int8 = $1 \
        AND l.database = (SELECT oid FROM pg_catalog.pg_database \
            WHERE datname = pg_catalog.current_database())";

/// Sessions that have claimed rows of the outbox: nothing else locks rows there.
const CLAIMS: &str = "\
    SELECT DISTINCT l.pid, NULL::int8, a.usename::text, a.application_name, \
        coalesce(a.client_addr::text, ''), \
        extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8, \
        coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change), 0)::float8, \
        coalesce(a.state = 'idle in transaction', false), false \
    FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid \
    WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'RowShareLock' \
        AND l.relation = 'segue.outbox'::pg_catalog.regclass \
        AND l.database = (SELECT oid FROM pg_catalog.pg_database \
            WHERE datname = pg_catalog.current_database())";

const TERMINATE: &str = "SELECT pg_catalog.pg_terminate_backend($1)";

/// A session that holds a shared lock of the fence, or a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Writer {
    /// The server's process; 0 of a prepared transaction.
    pub pid: i32,
    /// [`TRANSACTIONS`], [`super::COPIES`], or what [`key_of`] makes of an epoch; of a claim
    /// that of copies.
    pub key: i32,
    /// Role, program and address, in words for an operator.
    pub who: String,
    /// How long its transaction has been open.
    pub open_s: Option<f64>,
    /// How long nothing was heard of it.
    pub silent_s: f64,
    /// The server waits for it inside a transaction.
    pub waited_for: bool,
    /// A prepared transaction: no session has it, and nothing but a command of its own ends it.
    pub is_prepared: bool,
}

// === impl Writer ===

impl Writer {
    /// A connection of a sidecar, by its epoch's lock.
    pub fn is_session(&self) -> bool {
        self.key > TRANSACTIONS
    }

    /// One that copies, and that the server has waited for at least this long.
    pub fn is_silent_copy(&self, patience: Duration) -> bool {
        self.key == COPIES && self.waited_for && self.silent_s >= patience.as_secs_f64()
    }

    /// A connection of a sidecar of another epoch than this.
    pub fn is_of_other_epoch(&self, epoch: u64) -> bool {
        self.is_session() && self.key != key_of(epoch)
    }
}

impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_prepared {
            return f.write_str("a prepared transaction");
        }
        write!(f, "process {} ({})", self.pid, self.who)?;
        match self.open_s {
            Some(seconds) => write!(f, ", in a transaction for {seconds:.1} s"),
            None => Ok(()),
        }
    }
}

/// All of them. Where no lock is the fence, nobody holds one, and nobody can be told.
///
/// # Errors
///
/// What the database reports.
pub async fn shared(session: &Session) -> Result<Vec<Writer>, SqlFault> {
    if !session.dialect().has_advisory_locks() {
        session.repeatable().batch_execute("SELECT 1").await?;
        return Ok(Vec::new());
    }
    let prepared = session.prepared(SHARED).await?;
    let rows = session.repeatable().query(&prepared.statement, &[&i64::from(CLASS)]).await;
    read(&rows?)
}

/// Those that have claimed rows of the outbox. Where nobody can end them, a claim that is silent
/// ends by its own limit.
///
/// # Errors
///
/// What the database reports.
pub async fn claims(session: &Session) -> Result<Vec<Writer>, SqlFault> {
    if !session.dialect().can_end_sessions() {
        return Ok(Vec::new());
    }
    let prepared = session.prepared(CLAIMS).await?;
    let rows = session.repeatable().query(&prepared.statement, &[]).await;
    read(&rows?)
}

/// Ends a session of the server, and rolls back what it had not committed.
///
/// # Errors
///
/// What the database reports: the right may be missing.
pub async fn terminate(session: &Session, pid: i32) -> Result<(), SqlFault> {
    let prepared = session.prepared(TERMINATE).await?;
    let done = session.repeatable().query_one(&prepared.statement, &[&pid]).await;
    done.map(drop)
}

fn read(rows: &[Row]) -> Result<Vec<Writer>, SqlFault> {
    let read = |row: &Row| -> Result<Writer, SqlFault> {
        let (user, program): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
        let address: String = row.try_get(4)?;
        let named = [user, program, Some(address).filter(|it| !it.is_empty())];
        // The second half of a key is shown unsigned.
        let key = row
            .try_get::<_, Option<i64>>(1)?
            .map_or(COPIES, |key| u32::try_from(key).unwrap_or_default().cast_signed());
        Ok(Writer {
            pid: row.try_get(0)?,
            key,
            who: named.into_iter().flatten().collect::<Vec<_>>().join(", "),
            open_s: row.try_get(5)?,
            silent_s: row.try_get(6)?,
            waited_for: row.try_get(7)?,
            is_prepared: row.try_get(8)?,
        })
    };
    rows.iter().map(read).collect()
}
