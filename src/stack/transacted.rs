//! Sends calls that name a transaction into it, and all others on.
//!
//! Transactions run wholly on one side: the primary, unless their first statement needs what stays
//! on the other. Their reads are never sampled: they see what nobody else can see yet. A call may
//! begin its transaction, and may commit it: then it leaves none open unless it succeeds.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Service, service_fn};
use tracing::Instrument;

use crate::domain::call::{
    CallContext, Committed, InTransaction, TransactionId, TransactionOptions, Which,
};
use crate::domain::consistency::Token;
use crate::domain::control::ControlState;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::side::Sides;
use crate::ports::WritePass;
use crate::ports::{ControlView, Entering, ReadRequest, ReconcileWaker, Transactions};
use crate::stack::awaiting::Awaiting;
use crate::stack::call::{Read, ReadAnswer, TransactionAnswer, TransactionCall, Write, Written};
use crate::stack::consistency::Consistency;
use crate::stack::dual_write::{ToItsEnd, WakeOnDrop};
use crate::stack::pending::{AfterRead, Ended, Pending};
use crate::stack::transaction_sides::{Found, TransactionSides};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::Purpose;

/// Open transactions of both sides; only those of the primary are used.
pub type OpenTransactions = Sides<Arc<dyn Transactions>>;

/// Where write ids come from: 128 bits that nobody else has.
pub type WriteIds = Arc<dyn Fn() -> WriteId + Send + Sync>;

/// Calls of a transaction go into it, others to `outside`.
#[derive(Clone)]
pub struct Transacted<S> {
    outside: S,
    inside: TransactionControl,
}

/// Begin, commit, rollback, and the statements between.
#[derive(Clone)]
pub struct TransactionControl {
    parts: Arc<TransactionParts>,
}

/// What transactions need.
pub struct TransactionParts {
    /// Where they are.
    pub sides: TransactionSides,
    /// Where the migration stands.
    pub control: Arc<dyn ControlView>,
    /// Names of what they write.
    pub write_ids: WriteIds,
    /// Told of what was committed.
    pub reconciler: Arc<dyn ReconcileWaker>,
    /// Waits for the shadow while reads are shifted.
    pub awaiting: Awaiting,
    /// Makes the tokens of answers.
    pub consistency: Consistency,
    /// Shows each statement to operators.
    pub watch: Watch,
}

// === impl Transacted ===

impl<S> Transacted<S> {
    /// Chooses by the call's transaction.
    pub fn new(inside: TransactionControl, outside: S) -> Self {
        Self { outside, inside }
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
        let inside = self.inside.clone();
        match read.transaction {
            None => Box::pin(self.outside.call(read)),
            Some(InTransaction { which: Which::Open(id), commits: false }) => {
                let control = read.control;
                Box::pin(inside.read(id, control, read))
            }
            Some(within) => Box::pin(inside.read_pending(within, read)),
        }
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
        let inside = self.inside.clone();
        match write.transaction {
            None => Box::pin(self.outside.call(write)),
            Some(InTransaction { which: Which::Open(id), commits: false }) => {
                Box::pin(inside.write(id, write))
            }
            // To its end, so that no transaction stays open of which nobody knows.
            Some(within) => Box::pin(ToItsEnd::new(inside.write_pending(within, write))),
        }
    }
}

// === impl TransactionControl ===

impl TransactionControl {
    /// Opens and ends transactions.
    pub fn new(parts: TransactionParts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    async fn read(
        self,
        id: TransactionId,
        control: ControlState,
        read: Read,
    ) -> Result<ReadAnswer, SqlFault> {
        let TransactionParts { sides, watch, .. } = &*self.parts;
        let found = sides.statement(id, read.route, control, &read.context).await?;
        let Found { side, id, transactions, .. } = found;
        let watched = watch.begin(side, Purpose::Read, &read.analysis.summary);
        let request = ReadRequest { statement: read.statement, context: read.context };
        let answer = async move { transactions.read(id, request).await };
        let answer = answer.instrument(watched.span()).await;
        let stream = watched.note(answer)?;
        Ok(ReadAnswer::new(side, watched.follow(stream)))
    }

    /// A read that begins its transaction, or commits it when its answer has ended.
    async fn read_pending(
        self,
        within: InTransaction,
        mut read: Read,
    ) -> Result<ReadAnswer, SqlFault> {
        let (context, brought) = (read.context.clone(), read.must_see.clone());
        let pending = match within.which {
            Which::Open(id) => Pending::new(id, self.clone()),
            Which::New(options) => {
                // The state that its route is of; given back when the transaction is open.
                let pass = read.pass.take().unwrap_or_else(|| WritePass::free(read.control));
                self.open(&pass, options, &context).await?
            }
        };
        if read.route.sets_path {
            self.parts.sides.path_may_change(pending.id());
        }
        match self.read(pending.id(), read.control, read).await {
            Ok(answer) => {
                let commits = within.commits;
                let after = Some(AfterRead { pending, commits, context, brought });
                Ok(ReadAnswer { after, ..answer })
            }
            Err(fault) => {
                pending.failed(&fault).await;
                Err(fault)
            }
        }
    }

    async fn write(self, id: TransactionId, write: Write) -> Result<Written, SqlFault> {
        let TransactionParts { sides, watch, .. } = &*self.parts;
        let pass = write.pass;
        let found = sides.statement(id, write.route, pass.control, &write.context).await?;
        let Found { side, id, transactions, .. } = found;
        let watched = watch.begin(side, Purpose::Write, &write.summary);
        let answer = async move { transactions.write(id, write.statements, write.context).await };
        let answer = answer.instrument(watched.span()).await;
        watched.note(answer).map(Written::open)
    }

    /// A write that begins its transaction, or commits it.
    async fn write_pending(self, within: InTransaction, write: Write) -> Result<Written, SqlFault> {
        let (pass, context) = (write.pass.clone(), write.context.clone());
        let pending = match within.which {
            Which::Open(id) => Pending::new(id, self.clone()),
            Which::New(options) => self.open(&pass, options, &context).await?,
        };
        if write.route.sets_path {
            self.parts.sides.path_may_change(pending.id());
        }
        let written = match self.write(pending.id(), write).await {
            Ok(written) => written,
            Err(fault) => {
                pending.failed(&fault).await;
                return Err(fault);
            }
        };
        if !within.commits {
            return Ok(Written { begun: Some(pending), ..written });
        }
        let Ended { write_id, must_see } = pending.commit(Some(pass), context).await?;
        Ok(Written { must_see, committed: Some(write_id), ..written })
    }

    /// The leave to begin.
    async fn enter(
        &self,
        options: TransactionOptions,
        context: &CallContext,
    ) -> Result<WritePass, SqlFault> {
        let control = &self.parts.control;
        if options.read_only {
            return Ok(WritePass::free(control.admit_read()?.0));
        }
        control.admit_write(Entering::New, context.deadline).await
    }

    async fn open(
        &self,
        pass: &WritePass,
        options: TransactionOptions,
        context: &CallContext,
    ) -> Result<Pending, SqlFault> {
        let TransactionParts { sides, watch, write_ids, .. } = &*self.parts;
        let side = pass.control.phase.primary();
        let watched = watch.begin(side, Purpose::Write, "BEGIN");
        let begin = sides.of(side).begin(options, write_ids(), context.clone());
        let begun = begin.instrument(watched.span()).await;
        let id = watched.note(begun)?;
        sides.begun(id, options);
        Ok(Pending::new(id, self.clone()))
    }

    async fn begin(
        self,
        options: TransactionOptions,
        context: CallContext,
    ) -> Result<TransactionAnswer, SqlFault> {
        let pass = self.enter(options, &context).await?;
        let pending = self.open(&pass, options, &context).await?;
        Ok(TransactionAnswer::Begun(pending.keep()))
    }

    /// A commit that is refused leaves the transaction open: it can be tried again.
    pub(super) async fn commit(
        self,
        id: TransactionId,
        pass: Option<WritePass>,
        context: CallContext,
    ) -> Result<Ended, SqlFault> {
        let TransactionParts { sides, control, reconciler, awaiting, watch, .. } = &*self.parts;
        let pass = match pass {
            Some(pass) => pass,
            None => control.admit_write(Entering::Continuing, context.deadline).await?,
        };
        let (control, deadline) = (pass.control, context.deadline);
        let Found { side, id: at, transactions, of_primary } =
            sides.end(id, control.phase.primary()).await;
        let mut wake = WakeOnDrop::new(reconciler, pass.control);
        if !of_primary {
            wake.disarm();
        }
        let watched = watch.begin(side, Purpose::Write, "COMMIT");
        let span = watched.span().clone();
        let commit = async move {
            let answer = transactions.commit(at, context).await;
            wake.disarm_if_nothing_was_written(&answer);
            drop(pass);
            (answer, wake)
        };
        let (answer, wake) = ToItsEnd::new(commit.instrument(span)).await;
        if answer.is_ok() {
            sides.ended(id);
        }
        let answer = answer.map_err(|fault| {
            let named = fault.must_see.as_deref().and_then(|token| token.writes().next());
            match named {
                Some(write) if of_primary => awaiting.in_doubt(control, write, fault),
                _ => fault,
            }
        });
        let Committed { write_id, wrote } = watched.note(answer)?;
        if wake.is_armed() {
            watch.captured(&watched, write_id);
        }
        drop((watched, wake));
        let must_see = match wrote && of_primary {
            true => awaiting.token(control, write_id, false, deadline).await,
            false => None,
        };
        Ok(Ended { write_id, must_see: must_see.into() })
    }

    async fn rollback(self, id: TransactionId) -> Result<TransactionAnswer, SqlFault> {
        let TransactionParts { sides, control, watch, .. } = &*self.parts;
        let primary = control.current().phase.primary();
        let Found { side, id: at, transactions, .. } = sides.end(id, primary).await;
        let watched = watch.begin(side, Purpose::Write, "ROLLBACK");
        let done = transactions.rollback(at).instrument(watched.span()).await;
        if done.is_ok() {
            sides.ended(id);
        }
        watched.note(done).map(|()| TransactionAnswer::RolledBack)
    }

    /// Rolls back what nobody goes on with.
    pub(super) async fn abandon(self, id: TransactionId) {
        let TransactionParts { sides, control, watch, .. } = &*self.parts;
        let primary = control.current().phase.primary();
        let Found { side, id: at, transactions, .. } = sides.end(id, primary).await;
        let watched = watch.begin(side, Purpose::Write, "ROLLBACK");
        transactions.abandon(at).instrument(watched.span()).await;
        // It is told at the statement's end; this one cannot fail.
        let _ = watched.note(Ok(()));
        sides.ended(id);
    }

    /// Whether it was begun here, and has not ended.
    pub(super) fn knows(&self, id: TransactionId) -> bool {
        self.parts.sides.knows(id)
    }

    /// What an answer's token covers.
    pub(super) async fn covering(
        &self,
        brought: Token,
        own: Token,
        deadline: Option<std::time::Instant>,
    ) -> Token {
        let control = self.parts.control.current();
        self.parts.consistency.after(control, brought, own, deadline).await
    }

    /// What the token of a fault covers.
    pub(super) async fn fault_with(&self, fault: SqlFault, brought: Token) -> SqlFault {
        let control = self.parts.control.current();
        self.parts.consistency.with(fault, control, brought).await
    }
}

impl std::fmt::Debug for TransactionControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransactionControl")
    }
}

impl std::fmt::Debug for TransactionParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TransactionParts")
    }
}

impl TransactionControl {
    /// The service of calls that begin or end a transaction, which is always ready.
    pub fn into_service(
        self,
    ) -> impl Service<
        TransactionCall,
        Response = TransactionAnswer,
        Error = SqlFault,
        Future = BoxFuture<'static, Result<TransactionAnswer, SqlFault>>,
    > + Clone {
        service_fn(move |call| self.clone().run(call))
    }

    fn run(self, call: TransactionCall) -> BoxFuture<'static, Result<TransactionAnswer, SqlFault>> {
        match call {
            TransactionCall::Begin(options, context) => Box::pin(self.begin(options, context)),
            TransactionCall::Commit(id, context) => Box::pin(async move {
                self.commit(id, None, context).await.map(TransactionAnswer::Committed)
            }),
            TransactionCall::Rollback(id) => Box::pin(self.rollback(id)),
        }
    }
}
