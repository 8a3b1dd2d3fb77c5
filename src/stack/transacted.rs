//! Sends calls that name a transaction into it, and all others on.
//!
//! Transactions run wholly on one side: the primary, unless their first statement needs what stays
//! on the other. Their reads are never sampled: they see what
//! nobody else can see yet.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;
use tracing::Instrument;

use crate::domain::call::{CallContext, Committed, TransactionId, TransactionOptions};
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::side::Sides;
use crate::ports::{ControlView, Entering, ReadRequest, ReconcileWaker, Transactions, WritePass};
use crate::stack::awaiting::Awaiting;
use crate::stack::call::{Read, ReadAnswer, TransactionAnswer, TransactionCall, Write, Written};
use crate::stack::dual_write::{ToItsEnd, WakeOnDrop};
use crate::stack::transaction_sides::{Found, TransactionSides};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::Purpose;

/// Open transactions of both sides; only those of the primary are used.
pub type OpenTransactions = Sides<Arc<dyn Transactions>>;

/// Calls of a transaction go into it, others to `outside`.
#[derive(Clone)]
pub struct Transacted<S> {
    sides: TransactionSides,
    outside: S,
    watch: Watch,
}

/// Begin, commit, rollback.
#[derive(Clone)]
pub struct TransactionControl {
    sides: TransactionSides,
    control: Arc<dyn ControlView>,
    write_ids: WriteIds,
    reconciler: Arc<dyn ReconcileWaker>,
    awaiting: Awaiting,
    watch: Watch,
}

/// Where write ids come from: 128 bits that nobody else has.
pub type WriteIds = Arc<dyn Fn() -> WriteId + Send + Sync>;

// === impl Transacted ===

impl<S> Transacted<S> {
    /// Chooses by the call's transaction id.
    pub fn new(sides: TransactionSides, outside: S, watch: Watch) -> Self {
        Self { sides, outside, watch }
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
        let (sides, watch) = (self.sides.clone(), self.watch.clone());
        Box::pin(async move {
            let found = sides.statement(id, read.route, read.control, &read.context).await?;
            let Found { side, id, transactions, .. } = found;
            let watched = watch.begin(side, Purpose::Read, &read.analysis.summary);
            let request = ReadRequest { statement: read.statement, context: read.context };
            let answer = async move { transactions.read(id, request).await };
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
        let (sides, watch) = (self.sides.clone(), self.watch.clone());
        Box::pin(async move {
            let pass = write.pass;
            let found = sides.statement(id, write.route, pass.control, &write.context).await?;
            let Found { side, id, transactions, .. } = found;
            let watched = watch.begin(side, Purpose::Write, &write.summary);
            let answer =
                async move { transactions.write(id, write.statements, write.context).await };
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
        sides: TransactionSides,
        control: Arc<dyn ControlView>,
        write_ids: WriteIds,
        reconciler: Arc<dyn ReconcileWaker>,
        awaiting: Awaiting,
        watch: Watch,
    ) -> Self {
        Self { sides, control, write_ids, reconciler, awaiting, watch }
    }

    async fn begin(
        self,
        options: TransactionOptions,
        context: CallContext,
    ) -> Result<TransactionAnswer, SqlFault> {
        let pass = if options.read_only {
            WritePass::free(self.control.admit_read()?.0)
        } else {
            self.control.admit_write(Entering::New, context.deadline).await?
        };
        let side = pass.control.phase.primary();
        let watched = self.watch.begin(side, Purpose::Write, "BEGIN");
        let begin = self.sides.of(side).begin(options, (self.write_ids)(), context);
        let begun = begin.instrument(watched.span()).await;
        let id = watched.note(begun)?;
        self.sides.begun(id, options);
        Ok(TransactionAnswer::Begun(id))
    }

    /// A commit that is refused leaves the transaction open: it can be tried again.
    async fn commit(
        self,
        id: TransactionId,
        context: CallContext,
    ) -> Result<TransactionAnswer, SqlFault> {
        let pass = self.control.admit_write(Entering::Continuing, context.deadline).await?;
        let (control, deadline) = (pass.control, context.deadline);
        let Found { side, id: at, transactions, of_primary } =
            self.sides.end(id, control.phase.primary()).await;
        let mut wake = WakeOnDrop::new(&self.reconciler, pass.control);
        if !of_primary {
            wake.disarm();
        }
        let watched = self.watch.begin(side, Purpose::Write, "COMMIT");
        let span = watched.span().clone();
        let commit = async move {
            let answer = transactions.commit(at, context).await;
            wake.disarm_if_nothing_was_written(&answer);
            drop(pass);
            (answer, wake)
        };
        let (answer, wake) = ToItsEnd::new(commit.instrument(span)).await;
        if answer.is_ok() {
            self.sides.ended(id);
        }
        let answer = answer.map_err(|fault| match fault.must_see.as_deref().copied() {
            Some(write) if of_primary => self.awaiting.in_doubt(control, write, fault),
            _ => fault,
        });
        let Committed { write_id, wrote } = watched.note(answer)?;
        if wake.is_armed() {
            self.watch.captured(&watched, write_id);
        }
        drop((watched, wake));
        let must_see = match wrote && of_primary {
            true => self.awaiting.token(control, write_id, false, deadline).await,
            false => None,
        };
        Ok(TransactionAnswer::Committed { write_id, must_see })
    }

    async fn rollback(self, id: TransactionId) -> Result<TransactionAnswer, SqlFault> {
        let primary = self.control.current().phase.primary();
        let Found { side, id: at, transactions, .. } = self.sides.end(id, primary).await;
        let watched = self.watch.begin(side, Purpose::Write, "ROLLBACK");
        let done = transactions.rollback(at).instrument(watched.span()).await;
        if done.is_ok() {
            self.sides.ended(id);
        }
        watched.note(done).map(|()| TransactionAnswer::RolledBack)
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
        let this = self.clone();
        match call {
            TransactionCall::Begin(options, context) => Box::pin(this.begin(options, context)),
            TransactionCall::Commit(id, context) => Box::pin(this.commit(id, context)),
            TransactionCall::Rollback(id) => Box::pin(this.rollback(id)),
        }
    }
}
