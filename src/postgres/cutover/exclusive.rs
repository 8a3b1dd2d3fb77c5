//! The fence held: the session of whoever changes the primary.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::control::Version;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::ports::control::ControlChange;
use crate::postgres::control::change::change_under;
use crate::postgres::fence::writers::{self, Writer};
use crate::postgres::fence::{CLASS, TRANSACTIONS, key_of, mark};
use crate::postgres::session::Session;
use crate::postgres::session::connect::Connector;
use crate::postgres::session::settings::{Purpose, SessionLimits};

/// Between two looks at standbys.
const STANDBY_LOOK: Duration = Duration::from_millis(5);

/// Transactions that outlive every session, and could be committed after the flip.
const PREPARED: &str = "\
    SELECT gid FROM pg_catalog.pg_prepared_xacts \
    WHERE database = pg_catalog.current_database() ORDER BY prepared";

/// Counted no further than is of use.
const OUTBOX: &str = "\
    SELECT pg_catalog.count(*) FROM (SELECT 1 FROM segue.outbox WHERE forgotten_at IS NULL \
        LIMIT 100000) AS o";

/// Servers that stream from this one, and those that have not written all of the log yet. Of
/// connections that its role may not see, it is not told how far they are: they count as behind.
const STANDBYS: &str = "\
    SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE \
        flush_lsn IS NULL OR flush_lsn < $1::text::pg_catalog.pg_lsn) \
    FROM pg_catalog.pg_stat_replication WHERE state IS DISTINCT FROM 'backup'";

/// Servers that stream from this one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standbys {
    /// All of them.
    pub all: u64,
    /// Those that have not written everything yet.
    pub behind: u64,
}

/// A session that asks for the fence, and holds it. The server ends it, and with it the fence,
/// when nothing was heard of it for its lease: a holder that is stopped holds nobody up. On
/// CockroachDB it is a mark that ends with the lease.
#[derive(Debug)]
pub struct Exclusive {
    session: Session,
    /// Whose mark it is, where the fence is one.
    holder: Option<Uuid>,
    lease: Duration,
}

// === impl Exclusive ===

impl Exclusive {
    /// Opens the session.
    ///
    /// # Errors
    ///
    /// `Unavailable` where there is none to be had.
    pub async fn open(connector: &Connector, lease: Duration) -> Result<Self, SqlFault> {
        let limits = SessionLimits::control(lease);
        let session = connector.connect_with(Purpose::Own, limits).await?;
        let lease_ms = lease.as_millis().max(1);
        let ends = session.dialect().settings_of_holder(lease_ms);
        let sql = format!(
            "{ends}; SET idle_in_transaction_session_timeout = {lease_ms}; \
             SET statement_timeout = {lease_ms}"
        );
        session.repeatable().batch_execute(&sql).await?;
        let holder = session.dialect().fences_by_mark().then(Uuid::new_v4);
        Ok(Self { session, holder, lease })
    }

    /// Its side.
    pub fn side(&self) -> Side {
        self.session.side()
    }

    /// Whether it is a mark in the control row, and no lock: then nobody's session can be ended for
    /// it, nor need be.
    pub fn is_mark(&self) -> bool {
        self.holder.is_some()
    }

    /// The session: what is done on it is done under the fence, or not at all.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Asks for the exclusive lock of all captured transactions and of the epoch's sessions,
    /// and gives both up again where they are not to be had in time. While it waits, those who
    /// come wait behind it; so `attempt` stays below the time after which PostgreSQL looks for
    /// deadlocks.
    ///
    /// # Errors
    ///
    /// What the database reports; the lock is gone with the session then.
    pub async fn acquire(&self, epoch: u64, attempt: Duration) -> Result<bool, SqlFault> {
        if let Some(holder) = self.holder {
            let raised = mark::raise(&self.session, holder, epoch, self.lease).await?;
            if raised {
                // Whoever has looked before, and not committed, cannot any more.
                mark::read_outbox(&self.session, holder).await?;
            }
            return Ok(raised);
        }
        let limit = format!("SET lock_timeout = {}", attempt.as_millis().max(1));
        self.run(&limit).await?;
        for key in [TRANSACTIONS, key_of(epoch)] {
            let lock = format!("SELECT pg_catalog.pg_advisory_lock({CLASS}, {key})");
            match self.run(&lock).await {
                Ok(()) => {}
                Err(fault) if fault.sqlstate == sqlstate::LOCK_NOT_AVAILABLE => {
                    self.release().await?;
                    return Ok(false);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(true)
    }

    /// Whether every captured transaction that was open has ended, waited for as long as in
    /// [`Self::acquire`]. Nothing is held afterwards.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn no_transaction_left(&self, attempt: Duration) -> Result<bool, SqlFault> {
        let limit = format!("SET lock_timeout = {}", attempt.as_millis().max(1));
        self.run(&limit).await?;
        let lock = format!("SELECT pg_catalog.pg_advisory_lock({CLASS}, {TRANSACTIONS})");
        match self.run(&lock).await {
            Ok(()) => self.release().await.map(|_| true),
            Err(fault) if fault.sqlstate == sqlstate::LOCK_NOT_AVAILABLE => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Lifts the fence; says whether it stood until now, as far as that can be lost without the
    /// session.
    ///
    /// # Errors
    ///
    /// What the database reports; the lock is gone with the session then.
    pub async fn release(&self) -> Result<bool, SqlFault> {
        if let Some(holder) = self.holder {
            return mark::lift(&self.session, holder).await;
        }
        // The session has no other advisory locks.
        self.run("SELECT pg_catalog.pg_advisory_unlock_all()").await.map(|()| true)
    }

    /// Lets itself be heard of at intervals, for ever: to be run beside what is done under the
    /// fence. Where the session is lost, whatever is done on it says so.
    pub async fn be_heard(&self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            match self.holder {
                Some(holder) => {
                    match mark::renew(&self.session, holder, self.lease).await {
                        Ok(true) => {}
                        // Gone with the flip, or lost: whatever is done under it says so.
                        Ok(false) => return std::future::pending().await,
                        // The next one may come through before the mark's end.
                        Err(fault) => tracing::warn!(%fault, "the fence could not be renewed"),
                    }
                }
                None if self.run("SELECT 1").await.is_err() => {
                    return std::future::pending().await;
                }
                None => {}
            }
        }
    }

    /// Who holds a shared lock of the fence.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn writers(&self) -> Result<Vec<Writer>, SqlFault> {
        if self.holder.is_some() {
            // Who has looked too early fails at its commit.
            return Ok(Vec::new());
        }
        writers::shared(&self.session).await
    }

    /// Ends a session of the server, and rolls back what it had not committed.
    ///
    /// # Errors
    ///
    /// What the database reports: the right may be missing.
    pub async fn terminate(&self, pid: i32) -> Result<(), SqlFault> {
        writers::terminate(&self.session, pid).await
    }

    /// Changes the control row under the fence, and tells nobody; whether it was changed.
    ///
    /// # Errors
    ///
    /// What the database reports. The row tells whether it was changed.
    pub async fn change(&self, from: Version, to: ControlChange) -> Result<bool, SqlFault> {
        change_under(&self.session, self.holder, from, to).await
    }

    /// Rows of the outbox that are not forgotten, by a plain read: those that somebody has
    /// claimed count as well. The fence still stood when they were read.
    ///
    /// # Errors
    ///
    /// What the database reports, or that the fence was lost.
    pub async fn outbox_rows(&self) -> Result<u64, SqlFault> {
        if let Some(holder) = self.holder {
            return mark::read_outbox(&self.session, holder).await;
        }
        let prepared = self.session.prepared(OUTBOX).await?;
        let row = self.session.repeatable().query_one(&prepared.statement, &[]).await;
        let rows: i64 = row?.try_get(0)?;
        Ok(rows.unsigned_abs())
    }

    /// Waits until every standby has written to its disk what is committed now, for `wait_max`
    /// at most.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn standbys(&self, wait_max: Duration) -> Result<Standbys, SqlFault> {
        if self.holder.is_some() {
            // A commit there is on most replicas of each range.
            return Ok(Standbys::default());
        }
        let written = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text";
        let row = self.session.repeatable().query_one(written, &[]).await?;
        let written: String = row.try_get(0)?;
        let look = self.session.prepared(STANDBYS).await?;
        let until = tokio::time::Instant::now() + wait_max;
        loop {
            let row = self.session.repeatable().query_one(&look.statement, &[&written]).await?;
            let count = |at| row.try_get::<_, i64>(at).map(i64::unsigned_abs);
            let standbys = Standbys { all: count(0)?, behind: count(1)? };
            if standbys.behind == 0 || tokio::time::Instant::now() >= until {
                return Ok(standbys);
            }
            tokio::time::sleep(STANDBY_LOOK).await;
        }
    }

    async fn run(&self, sql: &str) -> Result<(), SqlFault> {
        let ran = self.session.repeatable().simple_query(sql).await;
        ran.map(drop)
    }
}

/// Refuses prepared transactions of this database: any of them could commit after the flip,
/// and one that has written to a migrated table lets no fence be raised.
///
/// # Errors
///
/// `refused.prepared` with their names, or what the database reports.
pub async fn refuse_prepared(session: &Session) -> Result<(), SqlFault> {
    if session.dialect().fences_by_mark() {
        return Ok(());
    }
    let prepared = session.prepared(PREPARED).await?;
    let rows = session.repeatable().query(&prepared.statement, &[]).await?;
    let names: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Ok(());
    }
    let message = format!("prepared transactions are left: {}", names.join(", "));
    Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedPrepared, message)
        .on(session.side())
        .with_hint("end each by COMMIT PREPARED or ROLLBACK PREPARED, then try again"))
}
