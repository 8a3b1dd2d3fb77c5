//! One session with a server: the driver's client and what segue knows about it.

pub(in crate::postgres) mod admission;
mod admitted;
pub mod asked;
pub mod cancel;
pub mod cell;
pub mod connect;
mod driver;
pub mod expected;
pub mod fault;
pub(in crate::postgres) mod first_settings;
pub(in crate::postgres) mod guard;
pub mod param;
pub mod password;
mod pooler;
pub mod settings;
pub mod silence;
mod socket;
mod statement_cache;
pub(in crate::postgres) mod sync_batching;
pub mod tls;
pub mod types;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::dialect::Dialect;
use crate::domain::budget::ByteBudget;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::side::Side;
use crate::domain::sqlstate;
use admission::{Found, Share};
use cancel::Canceller;
use driver::Watch;
use first_settings::FirstSettings;
use settings::Purpose;
use statement_cache::StatementCache;
use sync_batching::{Apart, MERGED_MAX, Switch, Together};

pub use statement_cache::Prepared;

/// Longer texts are prepared each time: a cache of them would not be bounded in bytes.
const CACHED_SQL_BYTES_MAX: usize = 32 * 1024;

/// What a server said of itself when the session was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Which database of the migration.
    pub side: Side,
    /// The process that serves the session.
    pub backend_pid: i32,
    /// What it speaks.
    pub dialect: Dialect,
    /// A standby.
    pub in_recovery: bool,
    /// Whether transactions begin read-only.
    pub read_only: bool,
    /// `money` reads as in `$1,234.50`.
    pub money_in_dollars: bool,
    /// Changes when the server has been restarted or another one has taken its place.
    pub incarnation: String,
    /// When the process was started, in seconds: tells it from a later one of the same number.
    pub backend_start: String,
}

// === impl ServerFacts ===

impl ServerFacts {
    /// Whether the session's role may not see the processes of the server itself, by which a crash
    /// that the server recovered from by itself changes the incarnation.
    pub(super) fn is_blind_to_crashes(&self) -> bool {
        self.incarnation.ends_with('/')
    }
}

/// A session. What it is asked is in `asked`.
pub struct Session {
    client: Client,
    facts: Arc<ServerFacts>,
    canceller: Canceller,
    statements: Mutex<StatementCache>,
    watch: Arc<Watch>,
    merging: Option<Switch>,
    busy: AtomicBool,
    guarded: AtomicBool,
    announced: Mutex<Option<WriteId>>,
    share: Mutex<Option<Share>>,
    found: OnceLock<Found>,
    named: OnceLock<i32>,
    answers: OnceLock<ByteBudget>,
    first: FirstSettings,
    touched: AtomicBool,
    task: JoinHandle<()>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("side", &self.facts.side)
            .field("backend_pid", &self.facts.backend_pid)
            .finish_non_exhaustive()
    }
}

/// How long the end of a connection's task is waited for, and between two looks.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
const CLOSE_LOOK: Duration = Duration::from_millis(1);

// === impl Session ===

impl Session {
    /// Closes it, and waits until its buffers are gone: they keep the size of the largest message.
    pub(super) async fn close(self: Box<Self>) {
        let task = self.task.abort_handle();
        self.set_busy(true);
        drop(self);
        let waited = async {
            while !task.is_finished() {
                tokio::time::sleep(CLOSE_LOOK).await;
            }
        };
        // A task that takes longer frees them later.
        let _ = tokio::time::timeout(CLOSE_LIMIT, waited).await;
    }

    fn new(
        client: Client,
        facts: ServerFacts,
        canceller: Canceller,
        watch: Arc<Watch>,
        merging: Option<Switch>,
        task: JoinHandle<()>,
        purpose: Purpose,
    ) -> Self {
        // There segue changes this one setting itself.
        watch.mode_changes.store(purpose == Purpose::Write, Ordering::Release);
        watch.armed.store(true, Ordering::Release);
        Self {
            client,
            facts: Arc::new(facts),
            canceller,
            statements: Mutex::default(),
            watch,
            merging,
            busy: AtomicBool::new(false),
            guarded: AtomicBool::new(false),
            announced: Mutex::default(),
            share: Mutex::default(),
            found: OnceLock::new(),
            named: OnceLock::new(),
            answers: OnceLock::new(),
            first: FirstSettings::default(),
            touched: AtomicBool::new(false),
            task,
        }
    }

    /// With what a reset sets again.
    pub(super) fn with_first_settings(mut self, first: FirstSettings) -> Self {
        self.first = first;
        self
    }

    /// The driver's client, for rows that are taken one by one, transactions that it keeps, and
    /// what sets segue up: who uses it brings its errors to segue's terms.
    pub fn driver(&self) -> &Client {
        &self.client
    }

    /// The same, for a transaction that the driver keeps.
    pub fn driver_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// What the server said of itself.
    pub fn facts(&self) -> &Arc<ServerFacts> {
        &self.facts
    }

    /// Which database of the migration.
    pub fn side(&self) -> Side {
        self.facts.side
    }

    /// Cancels what the session runs.
    pub fn canceller(&self) -> &Canceller {
        &self.canceller
    }

    /// Says that the session has begun something that must end before another may have it.
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Release);
    }

    /// Says whether it may have run something that leaves more behind than its answer: then it is
    /// reset before another may have it.
    pub fn set_touched(&self, touched: bool) {
        self.touched.store(touched, Ordering::Release);
    }

    /// Whether it must be reset before another may have it.
    pub(super) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Acquire)
    }

    /// The settings that it was opened with.
    pub(super) fn first_settings(&self) -> &FirstSettings {
        &self.first
    }

    /// Counts a call that is about to send something.
    pub(super) fn count_unsent(&self) {
        self.watch.unsent.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether some are about to, and one piece has room for more.
    pub(super) fn is_filling(&self) -> bool {
        let unsent = self.watch.unsent.load(Ordering::Relaxed);
        self.merging.is_some() && (1..MERGED_MAX).contains(&unsent)
    }

    /// Says whether many calls use the session at once.
    pub(super) fn set_shared(&self, shared: bool) {
        self.watch.shared.store(shared, Ordering::Relaxed);
        if let Some(switch) = &self.merging {
            switch.set(shared);
        }
    }

    /// Keeps what calls send apart, until what comes back is dropped.
    pub(super) fn apart(&self) -> Option<Apart> {
        self.merging.as_ref().map(Switch::apart)
    }

    /// Lets what its one caller sends at once be one piece, until what comes back is dropped;
    /// nothing where the server would see something else than two requests.
    pub(super) fn together(&self) -> Option<Together> {
        self.merging.as_ref().map(Switch::together)
    }

    /// Says that the session is of no more use, whatever becomes of what runs in it.
    pub(super) fn poison(&self) {
        self.watch.poisoned.store(true, Ordering::Release);
    }

    /// Whether transactions of the session begin read-only, by segue's own doing.
    pub(super) fn is_guarded(&self) -> bool {
        self.guarded.load(Ordering::Acquire)
    }

    /// Remembers what was done about that.
    pub(super) fn set_guarded(&self, guarded: bool) {
        self.guarded.store(guarded, Ordering::Release);
    }

    /// The write that the session announced last, by which capture names rows until the next.
    pub(super) fn announced(&self) -> Option<WriteId> {
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what was announced; nothing where that is not known.
    pub(super) fn set_announced(&self, write_id: Option<WriteId>) {
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) = write_id;
    }

    /// Waits for a notification, of one caller. False when the connection has ended.
    pub(super) async fn notified(&self) -> bool {
        self.watch.notified.notified().await;
        !self.watch.ended.load(Ordering::Acquire)
    }

    /// Whether another caller may have the session: nothing runs in it, and none of the
    /// settings that the server reports has changed since it was opened.
    pub(super) fn is_clean(&self) -> bool {
        !self.busy.load(Ordering::Acquire) && self.is_fit()
    }

    /// The same of a session in which something may run.
    pub(super) fn is_fit(&self) -> bool {
        !self.client.is_closed()
            && !self.watch.tainted.load(Ordering::Acquire)
            && !self.watch.poisoned.load(Ordering::Acquire)
    }

    /// What the server speaks.
    pub fn dialect(&self) -> Dialect {
        self.facts.dialect
    }

    /// A fault from the driver's error, with the server's last words where it has ended
    /// the session.
    pub fn fault(&self, error: tokio_postgres::Error, sent: bool) -> SqlFault {
        let mut fault = fault::from_error(error, self.facts.side, sent);
        if fault::ends_session(&fault)
            && let Some(last_words) = self.watch.last_words.get()
        {
            fault.message = format!("{}: {last_words}", fault.message);
        }
        if self.facts.dialect.fences_by_mark()
            && fault.sqlstate == sqlstate::READ_ONLY_SQL_TRANSACTION
        {
            // Its look has failed: it asks again before it is used.
            self.set_share(None);
        }
        fault
    }

    /// Prepares a statement, or finds it prepared.
    ///
    /// # Errors
    ///
    /// The server's fault; nothing has been executed.
    pub async fn prepared(&self, sql: &str) -> Result<Arc<Prepared>, SqlFault> {
        match self.known(sql) {
            Some(found) => Ok(found),
            None => self.prepare_anew(sql).await,
        }
    }

    /// A statement that was prepared before.
    pub(super) fn known(&self, sql: &str) -> Option<Arc<Prepared>> {
        self.statements().get(sql)
    }

    /// Prepares a statement, whether it was prepared before or not.
    pub(super) async fn prepare_anew(&self, sql: &str) -> Result<Arc<Prepared>, SqlFault> {
        let statement = self.client.prepare(sql).await.map_err(|error| {
            let mut fault = self.fault(error, false);
            // Preparing executes nothing, so a lost connection leaves nothing in doubt.
            fault.outcome = crate::domain::fault::Outcome::NotApplied;
            fault
        })?;
        let dollars = self.facts.money_in_dollars;
        let prepared = Arc::new(Prepared {
            parameters: statement
                .params()
                .iter()
                .map(|ty| types::pg_type_on(ty, dollars))
                .collect(),
            columns: types::columns_on(statement.columns(), dollars),
            statement,
        });
        if sql.len() <= CACHED_SQL_BYTES_MAX {
            self.statements().insert(sql, &prepared);
        }
        Ok(prepared)
    }

    /// Forgets all prepared statements and types: the schema has changed.
    pub fn forget_prepared(&self) {
        self.statements().clear();
        self.client.clear_type_cache();
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, StatementCache> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The driver would wait for the statement's end before it closes the connection.
        if self.busy.load(Ordering::Acquire) || self.watch.poisoned.load(Ordering::Acquire) {
            self.task.abort();
        }
    }
}
