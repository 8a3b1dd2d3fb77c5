//! The two transactions of an attempt: the shadow's, which locks and writes, and the
//! primary's, which is opened after the locks and only reads.

use std::time::Duration;

use crate::dialect::Dialect;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::postgres::fence::{check_follows, share_copies};
use crate::postgres::outbox::KEY_TEXTS;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::turn_lock;
use crate::postgres::session::ServerFacts;

/// What foreign keys of the shadow mean for reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignKeys {
    /// `session_replication_role = replica`: rows are copied, and the primary's integrity is
    /// the shadow's.
    Replica,
    /// They stay active: parents before children, children out before parents.
    Active,
}

// === impl ForeignKeys ===

impl ForeignKeys {
    /// What they mean on a shadow that speaks this, where nobody asks for them to stay active.
    pub fn on(shadow: Dialect) -> Self {
        if shadow.has_replication_role() { Self::Replica } else { Self::Active }
    }
}

/// A connection in a transaction. Dropped without [`Transaction::end`], the connection is
/// closed, and with it the transaction.
#[derive(Debug)]
pub struct Transaction {
    client: Option<Lease>,
    side: Side,
}

impl Transaction {
    /// Opens one by the statements of `begin`.
    ///
    /// # Errors
    ///
    /// [`Halt::Away`] where no connection is to be had, or what the database reports.
    pub async fn open(pool: &Pool, begin: &str) -> Result<Self, Halt> {
        Self::open_by(pool, |_| begin.to_owned()).await
    }

    /// The same by statements that depend on the server.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open`].
    pub async fn open_by(
        pool: &Pool,
        begin: impl FnOnce(&ServerFacts) -> String + Send,
    ) -> Result<Self, Halt> {
        let client = pool.get().await.map_err(Halt::Away)?;
        if client.facts().in_recovery {
            // It may lag behind: what is read there would be forgotten as if it were the truth.
            client.discard();
            let message = "the session is with a standby; name the primary's host, or set \
                target_session_attrs = read-write";
            let fault = SqlFault::new(FaultKind::Unavailable, Reason::ReconcileStandby, message);
            return Err(Halt::Away(fault.on(pool.side())));
        }
        let transaction = Self { client: Some(client), side: pool.side() };
        let begin = begin(transaction.client()?.facts());
        transaction.client()?.batch_execute(&begin).await?;
        Ok(transaction)
    }

    /// Opens one that only reads: one state for all tables.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open`].
    pub async fn open_reading(pool: &Pool, deadline: Duration) -> Result<Self, Halt> {
        Self::open_by(pool, |facts| begin_primary(facts, deadline)).await
    }

    /// Opens the one on the shadow, under that side's lock of copies: it does not become the
    /// primary before this has ended. The limits are those of a statement, and of the time without
    /// one.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open`], and where it has become the primary.
    // Modelled as `Action::LockShadow` in tests/model_cutover.
    pub async fn open_shadow(
        pool: &Pool,
        foreign_keys: ForeignKeys,
        limits: (Duration, Duration),
    ) -> Result<Self, Halt> {
        let begin = |facts: &ServerFacts| {
            let turn = format!("; {}", turn_lock::share(facts));
            begin_shadow(facts, foreign_keys, limits, &turn)
        };
        let transaction = Self::open_by(pool, begin).await?;
        check_follows(transaction.client()?).await.map_err(Halt::Away)?;
        Ok(transaction)
    }

    /// Opens the one on the shadow of whoever has the turn alone. The server ends it when nothing
    /// was heard of it for so long as the second limit says.
    ///
    /// # Errors
    ///
    /// As [`Transaction::open_shadow`], and [`Halt::Again`] where another has the turn.
    pub(super) async fn open_alone(
        pool: &Pool,
        foreign_keys: ForeignKeys,
        limits: (Duration, Duration),
    ) -> Result<Self, Halt> {
        let begin = |facts: &ServerFacts| {
            let turn = format!(
                "; SET LOCAL lock_timeout = {wait_ms}; {take}; SET LOCAL lock_timeout = {limit_ms}",
                wait_ms = turn_lock::TURN_WAIT.as_millis(),
                take = turn_lock::take(facts),
                limit_ms = limits.0.as_millis().max(1),
            );
            begin_shadow(facts, foreign_keys, limits, &turn)
        };
        let transaction = Self::open_by(pool, begin).await?;
        check_follows(transaction.client()?).await.map_err(Halt::Away)?;
        Ok(transaction)
    }

    /// The connection.
    ///
    /// # Errors
    ///
    /// Never while the transaction is open.
    pub fn client(&self) -> Result<&Lease, Halt> {
        self.client.as_ref().ok_or(Halt::Crash("transaction has ended"))
    }

    /// Its side.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Ends it by `COMMIT` or `ROLLBACK`, and gives the connection back to its pool.
    ///
    /// # Errors
    ///
    /// What the database reports; the connection is closed then.
    pub async fn end(mut self, how: &str) -> Result<(), Halt> {
        self.client()?.batch_execute(how).await?;
        drop(self.client.take());
        Ok(())
    }
}

/// A session that has carried a larger row is closed: its buffers keep the size of the largest
/// message.
const SESSION_ROW_BYTES: usize = 1 << 20;

impl Transaction {
    /// Ends it after a row of so many bytes at most has gone through the connection.
    ///
    /// # Errors
    ///
    /// As [`Transaction::end`].
    pub(in crate::postgres) async fn end_after(self, how: &str, bytes: usize) -> Result<(), Halt> {
        match bytes > SESSION_ROW_BYTES {
            true => self.close(how).await,
            false => self.end(how).await,
        }
    }

    /// Ends it and closes the connection.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub(in crate::postgres) async fn close(mut self, how: &str) -> Result<(), Halt> {
        self.client()?.batch_execute(how).await?;
        if let Some(client) = self.client.take() {
            client.close().await;
        }
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            client.discard();
        }
    }
}

/// How long a reading transaction waits for a lock that the application holds.
const GIVE_WAY: Duration = Duration::from_millis(200);

/// The same by the server that it is of: as long as it may where a plain read waits for writers.
fn give_way(facts: &ServerFacts, deadline: Duration) -> Duration {
    if facts.dialect.lock_timeout_spares_reads() { GIVE_WAY } else { deadline }
}

/// Begins the shadow's transaction. READ COMMITTED, so that what is read after the lock was
/// waited for is what its last holder committed. [`Transaction::open_shadow`] looks whether it
/// is a shadow still.
///
/// CockroachDB has no lock of copies: there its look is ordered against the change of the control
/// row, as long as the transaction is SERIALIZABLE.
fn begin_shadow(
    facts: &ServerFacts,
    foreign_keys: ForeignKeys,
    (deadline, idle): (Duration, Duration),
    turn: &str,
) -> String {
    let deadline_ms = deadline.as_millis().max(1);
    let role = match foreign_keys {
        ForeignKeys::Replica => "; SET LOCAL session_replication_role = replica",
        ForeignKeys::Active => "",
    };
    let isolation = facts.dialect.writers_isolation().unwrap_or(" ISOLATION LEVEL READ COMMITTED");
    format!(
        "BEGIN{isolation} READ WRITE{role}; \
         SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off; {KEY_TEXTS}; \
         SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = {deadline_ms}; \
         SET LOCAL lock_timeout = {deadline_ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle_ms}; {share}{turn}",
        idle_ms = idle.as_millis().max(1),
        share = share_copies(facts)
    )
}

/// Begins the primary's reading transaction: one state for all tables of the set.
///
/// It holds what it has read and asks for more, as a `TRUNCATE … CASCADE` of the application
/// does. PostgreSQL ends one of two that wait for each other after `deadlock_timeout`, a second
/// by default: long before that this one gives way, so that it is never the application's.
fn begin_primary(facts: &ServerFacts, deadline: Duration) -> String {
    begin_reading(facts, " ISOLATION LEVEL REPEATABLE READ", deadline)
}

/// Begins a transaction that lists keys. On CockroachDB it is ordered against those that write
/// what it did not find.
pub fn begin_listing(facts: &ServerFacts, deadline: Duration) -> String {
    let isolation = facts.dialect.writers_isolation().unwrap_or(" ISOLATION LEVEL REPEATABLE READ");
    begin_reading(facts, isolation, deadline)
}

fn begin_reading(facts: &ServerFacts, isolation: &str, deadline: Duration) -> String {
    let deadline_ms = deadline.as_millis().max(1);
    let give_way_ms = give_way(facts, deadline).as_millis().max(1);
    format!(
        "BEGIN{isolation} READ ONLY; \
         SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off; {KEY_TEXTS}; \
         SET LOCAL statement_timeout = {deadline_ms}; SET LOCAL lock_timeout = {give_way_ms}; \
         SET LOCAL idle_in_transaction_session_timeout = {idle_ms}",
        idle_ms = deadline_ms * 4
    )
}
