//! Which side a transaction runs on: the one that its first statement needs.
//!
//! A transaction is opened on the primary. Where its first statement touches tables that stay on
//! the other side, one is opened there in its place, under the id that the caller has. From then
//! on a statement that needs another side is refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::call::{CallContext, TransactionId, TransactionOptions};
use crate::domain::control::ControlState;
use crate::domain::fault::SqlFault;
use crate::domain::reach::{Route, other_side};
use crate::domain::side::{Side, Sides};
use crate::ports::Transactions;
use crate::stack::transacted::{OpenTransactions, WriteIds};
use crate::telemetry::metrics::Metrics;

/// So many transactions more, and those are looked for that ended by themselves.
const SWEEP_EVERY: usize = 256;
/// How long a transaction is remembered past its limit of time: a call may still be in it.
const PAST_LIMIT: Duration = Duration::from_secs(60);

/// Where open transactions are. Clones share it.
#[derive(Clone)]
pub struct TransactionSides {
    primaries: OpenTransactions,
    owners: Sides<Arc<dyn Transactions>>,
    write_ids: WriteIds,
    metrics: Metrics,
    open: Arc<Mutex<HashMap<TransactionId, Arc<Open>>>>,
}

/// One transaction.
struct Open {
    options: TransactionOptions,
    forgotten_at: Instant,
    /// The search path may have been changed in it.
    has_own_path: AtomicBool,
    place: tokio::sync::Mutex<Place>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// No statement has run in it.
    Undecided,
    /// On the side that was the primary at its begin.
    Primary,
    /// On the other side, under another id.
    Owner(Side, TransactionId),
}

/// Where a call of a transaction goes.
pub(super) struct Found {
    pub(super) side: Side,
    pub(super) id: TransactionId,
    pub(super) transactions: Arc<dyn Transactions>,
    /// It is on the primary.
    pub(super) of_primary: bool,
}

// === impl TransactionSides ===

impl TransactionSides {
    /// Transactions of the primary, and of tables that are not migrated.
    pub fn new(
        primaries: OpenTransactions,
        owners: Sides<Arc<dyn Transactions>>,
        write_ids: WriteIds,
        metrics: Metrics,
    ) -> Self {
        Self { primaries, owners, write_ids, metrics, open: Arc::default() }
    }

    /// Those of a side as the primary.
    pub(super) fn of(&self, side: Side) -> &Arc<dyn Transactions> {
        self.primaries.of(side)
    }

    /// Notes one that was opened on the primary.
    pub(super) fn begun(&self, id: TransactionId, options: TransactionOptions) {
        let now = Instant::now();
        let mut open = self.open();
        if open.len() % SWEEP_EVERY == SWEEP_EVERY - 1 {
            open.retain(|_, it| it.forgotten_at > now);
        }
        let forgotten_at = now + options.total_max + PAST_LIMIT;
        let place = tokio::sync::Mutex::new(Place::Undecided);
        let has_own_path = AtomicBool::new(false);
        open.insert(id, Arc::new(Open { options, forgotten_at, has_own_path, place }));
    }

    /// From now on an unqualified name in it may mean another relation: a statement that may have
    /// changed the search path is sent. What is rolled back to a savepoint does not undo this.
    pub(super) fn path_may_change(&self, id: TransactionId) {
        if let Some(open) = self.known(id) {
            open.has_own_path.store(true, Ordering::Release);
        }
    }

    /// Whether that was said.
    pub(super) fn has_own_path(&self, id: TransactionId) -> bool {
        self.known(id).is_some_and(|open| open.has_own_path.load(Ordering::Acquire))
    }

    /// Where a statement of a transaction goes; the first one decides.
    ///
    /// # Errors
    ///
    /// A refusal where the transaction runs on another side, or what the side says to the begin.
    pub(super) async fn statement(
        &self,
        id: TransactionId,
        route: Route,
        control: ControlState,
        context: &CallContext,
    ) -> Result<Found, SqlFault> {
        let primary = control.phase.primary();
        let Some(open) = self.known(id) else { return Ok(self.on_primary(primary, id)) };
        let mut place = open.place.lock().await;
        if let Place::Undecided = *place {
            *place = match route.decides && route.side != primary {
                true => self.move_to(route.side, primary, id, open.options, context).await?,
                false => Place::Primary,
            };
        }
        let found = self.found(*place, primary, id);
        if route.decides && route.side != found.side {
            let refused = other_side(found.side, route.side);
            self.metrics.refused(refused.reason);
            return Err(refused);
        }
        Ok(found)
    }

    /// Where its end goes.
    pub(super) async fn end(&self, id: TransactionId, primary: Side) -> Found {
        let Some(open) = self.known(id) else { return self.on_primary(primary, id) };
        let place = *open.place.lock().await;
        self.found(place, primary, id)
    }

    /// Whether it is open.
    pub(super) fn knows(&self, id: TransactionId) -> bool {
        self.known(id).is_some()
    }

    /// It has ended.
    pub(super) fn ended(&self, id: TransactionId) {
        self.open().remove(&id);
    }

    /// *If we crash here*, the servers roll back what was open; nothing has run in either.
    async fn move_to(
        &self,
        side: Side,
        primary: Side,
        id: TransactionId,
        options: TransactionOptions,
        context: &CallContext,
    ) -> Result<Place, SqlFault> {
        let begin = self.owners.of(side).begin(options, (self.write_ids)(), context.clone());
        let moved = begin.await?;
        // Nothing has run in it; where it cannot be ended, its limits end it.
        if let Err(fault) = self.primaries.of(primary).rollback(id).await {
            tracing::debug!(%fault, "an empty transaction was not rolled back");
        }
        Ok(Place::Owner(side, moved))
    }

    fn found(&self, place: Place, primary: Side, id: TransactionId) -> Found {
        match place {
            Place::Undecided | Place::Primary => self.on_primary(primary, id),
            Place::Owner(side, id) => {
                let transactions = Arc::clone(self.owners.of(side));
                Found { side, id, transactions, of_primary: false }
            }
        }
    }

    fn on_primary(&self, side: Side, id: TransactionId) -> Found {
        let transactions = Arc::clone(self.primaries.of(side));
        Found { side, id, transactions, of_primary: true }
    }

    fn known(&self, id: TransactionId) -> Option<Arc<Open>> {
        self.open().get(&id).cloned()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<TransactionId, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for TransactionSides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransactionSides")
    }
}
