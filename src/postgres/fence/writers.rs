//! Who writes, as the locks of a database show it, and what a refusal means.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use super::{CLASS, TRANSACTIONS, key_of};
use crate::domain::fault::SqlFault;
use crate::domain::side::{Side, Sides};
use crate::ports::fleet::OlderWriters;
use crate::postgres::pool::Pool;
use crate::postgres::session::Session;

/// Sessions that hold or await a shared lock of the fence.
const SHARED: &str = "\
    SELECT l.pid, l.objid::int8 AS key, a.usename::text, a.application_name, \
        coalesce(a.client_addr::text, ''), \
        extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 \
    FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid \
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.mode = 'ShareLock' \
        AND l.classid::int8 = $1 \
        AND l.database = (SELECT oid FROM pg_catalog.pg_database \
            WHERE datname = pg_catalog.current_database())";

/// A session that holds a shared lock of the fence.
#[derive(Debug, Clone, PartialEq)]
pub struct Writer {
    /// The server's process.
    pub pid: i32,
    /// [`TRANSACTIONS`], [`super::COPIES`], or what [`key_of`] makes of an epoch.
    pub key: i32,
    /// Role, program and address, in words for an operator.
    pub who: String,
    /// How long its transaction has been open.
    pub open_s: Option<f64>,
}

// === impl Writer ===

impl Writer {
    /// A connection of a sidecar, by its epoch's lock.
    pub fn is_session(&self) -> bool {
        self.key > TRANSACTIONS
    }

    /// A connection of a sidecar of another epoch than this.
    pub fn is_of_other_epoch(&self, epoch: u64) -> bool {
        self.is_session() && self.key != key_of(epoch)
    }
}

impl std::fmt::Display for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({})", self.pid, self.who)?;
        match self.open_s {
            Some(seconds) => write!(f, ", in a transaction for {seconds:.1} s"),
            None => Ok(()),
        }
    }
}

/// All of them.
///
/// # Errors
///
/// What the database reports.
pub async fn shared(session: &Session) -> Result<Vec<Writer>, SqlFault> {
    let prepared = session.prepared(SHARED).await?;
    let rows = session.query(&prepared.statement, &[&i64::from(CLASS)]).await;
    let rows = rows.map_err(|error| session.fault(error, false))?;
    let read = |row: &Row| -> Result<Writer, tokio_postgres::Error> {
        let (user, program): (Option<String>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
        let address: String = row.try_get(4)?;
        let named = [user, program, Some(address).filter(|it| !it.is_empty())];
        // The second half of a key is shown unsigned.
        let key = u32::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default().cast_signed();
        Ok(Writer {
            pid: row.try_get(0)?,
            key,
            who: named.into_iter().flatten().collect::<Vec<_>>().join(", "),
            open_s: row.try_get(5)?,
        })
    };
    let writers: Result<_, _> = rows.iter().map(read).collect();
    writers.map_err(|error| session.fault(error, false))
}

/// Tells sessions of older epochs by their locks.
#[derive(Debug, Clone)]
pub struct FenceTable {
    pools: Sides<Pool>,
}

impl FenceTable {
    /// Asks these two databases.
    pub fn new(pools: Sides<Pool>) -> Self {
        Self { pools }
    }

    async fn others(&self, side: Side, epoch: u64) -> Result<Vec<String>, SqlFault> {
        let session = self.pools.of(side).get().await?;
        if session.facts().is_cockroach {
            // There each write looks at the epoch itself.
            return Ok(Vec::new());
        }
        let writers = shared(&session).await?;
        let others = writers.iter().filter(|writer| writer.is_of_other_epoch(epoch));
        Ok(others.map(|writer| format!("{writer} writes under another epoch")).collect())
    }
}

impl OlderWriters for FenceTable {
    fn before(&self, side: Side, epoch: u64) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
        self.others(side, epoch).boxed()
    }
}
