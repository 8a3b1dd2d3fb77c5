//! Sends calls that name a transaction into it, and all others on.
//!
//! Transactions run wholly on the primary. Their reads are never sampled: they see what
//! nobody else can see yet.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;
use tracing::Instrument;

use crate::domain::control::ControlState;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::side::Sides;
use crate::ports::ControlView;
use crate::ports::{ReadRequest, ReconcileWaker, Transactions};
use crate::stack::call::{Read, ReadAnswer, TransactionAnswer, TransactionCall, Write, Written};
use crate::stack::dual_write::{ToItsEnd, WakeOnDrop};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::Purpose;

/// Open transactions of both sides; only those of the primary are used.
pub type OpenTransactions = Sides<Arc<dyn Transactions>>;

/// Calls of a transaction go into it, others to `outside`.
#[derive(Clone)]
pub struct Transacted<S> {
    transactions: OpenTransactions,
    outside: S,
    watch: Watch,
}

/// Begin, commit, rollback.
#[derive(Clone)]
pub struct TransactionControl {
    transactions: OpenTransactions,
    control: Arc<dyn ControlView>,
    write_ids: WriteIds,
    reconciler: Arc<dyn ReconcileWaker>,
    watch: Watch,
}

/// Where write ids come from: 128 bits that nobody else has.
pub type WriteIds = Arc<dyn Fn() -> WriteId + Send + Sync>;

// === impl Transacted ===

impl<S> Transacted<S> {
    /// Chooses by the call's transaction id.
    pub fn new(transactions: OpenTransactions, outside: S, watch: Watch) -> Self {
        Self { transactions, outside, watch }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for Transacted<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transacted").field("outside", &self.outside).finish_non_exhaustive()
    }
}

impl<S> Service<Read> for Transacted<S>
where
    S: Service<Read, Response = ReadAnswer, Error = SqlFault>,
    S::Future: Send + 'static,
{
    type Response = ReadAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.outside.poll_ready(cx)
    }

    fn call(&mut self, read: Read) -> Self::Future {
        let Some(id) = read.transaction else {
            return Box::pin(self.outside.call(read));
        };
        let side = read.control.phase.primary();
        let transactions = Arc::clone(self.transactions.of(side));
        let watched = self.watch.begin(side, Purpose::Read, &read.analysis.summary);
        let request = ReadRequest { statement: read.statement, context: read.context };
        let answer = async move { transactions.read(id, request).await };
        Box::pin(async move {
            let answer = answer.instrument(watched.span()).await;
            let stream = watched.note(answer)?;
            Ok(ReadAnswer { side, stream: watched.follow(stream) })
        })
    }
}

impl<S> Service<Write> for Transacted<S>
where
    S: Service<Write, Response = Written, Error = SqlFault>,
    S::Future: Send + 'static,
{
    type Response = Written;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<Written, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.outside.poll_ready(cx)
    }

    fn call(&mut self, write: Write) -> Self::Future {
        let Some(id) = write.transaction else {
            return Box::pin(self.outside.call(write));
        };
        let side = write.control.phase.primary();
        let transactions = Arc::clone(self.transactions.of(side));
        let watched = self.watch.begin(side, Purpose::Write, &write.summary);
        let answer = async move { transactions.write(id, write.statements, write.context).await };
        Box::pin(async move {
            let answer = answer.instrument(watched.span()).await;
            let answer = watched.note(answer)?;
            Ok(Written { answer, must_see: None })
        })
    }
}

// === impl TransactionControl ===

impl TransactionControl {
    /// Opens and ends transactions of the primary.
    pub fn new(
        transactions: OpenTransactions,
        control: Arc<dyn ControlView>,
        write_ids: WriteIds,
        reconciler: Arc<dyn ReconcileWaker>,
        watch: Watch,
    ) -> Self {
        Self { transactions, control, write_ids, reconciler, watch }
    }

    fn primary(&self, control: ControlState) -> Arc<dyn Transactions> {
        Arc::clone(self.transactions.of(control.phase.primary()))
    }
}

impl std::fmt::Debug for TransactionControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransactionControl")
    }
}

impl Service<TransactionCall> for TransactionControl {
    type Response = TransactionAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<TransactionAnswer, SqlFault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: TransactionCall) -> Self::Future {
        let control = self.control.current();
        let side = control.phase.primary();
        let transactions = self.primary(control);
        let watch = self.watch.clone();
        match call {
            TransactionCall::Begin(options, context) => {
                let write_id = (self.write_ids)();
                let watched = watch.begin(side, Purpose::Write, "BEGIN");
                let begin = async move { transactions.begin(options, write_id, context).await };
                Box::pin(async move {
                    let begun = begin.instrument(watched.span()).await;
                    watched.note(begun).map(TransactionAnswer::Begun)
                })
            }
            TransactionCall::Commit(id, context) => {
                // Whether it wrote is known to the database alone.
                let mut wake = WakeOnDrop::new(&self.reconciler, control, true);
                let watched = watch.begin(side, Purpose::Write, "COMMIT");
                let span = watched.span().clone();
                let commit = async move {
                    let answer = transactions.commit(id, context).await;
                    wake.disarm_if_nothing_was_written(&answer);
                    (answer, wake)
                };
                let commit = ToItsEnd::new(commit.instrument(span));
                Box::pin(async move {
                    let (answer, wake) = commit.await;
                    let write_id = watched.note(answer)?;
                    if wake.is_armed() {
                        watch.captured(&watched, write_id);
                    }
                    Ok(TransactionAnswer::Committed { write_id, must_see: None })
                })
            }
            TransactionCall::Rollback(id) => {
                let watched = watch.begin(side, Purpose::Write, "ROLLBACK");
                let rollback = async move { transactions.rollback(id).await };
                Box::pin(async move {
                    let done = rollback.instrument(watched.span()).await;
                    watched.note(done).map(|()| TransactionAnswer::RolledBack)
                })
            }
        }
    }
}
