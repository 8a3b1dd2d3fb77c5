//! Admits calls: a name becomes SQL, the SQL is analysed, what is refused is refused here,
//! and the phase is read once. Behind this room nobody asks again what a statement is.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tower::{Service, ServiceExt};

use crate::domain::call::{BoundStatement, CallContext, Idempotency, InTransaction, Which};
use crate::domain::control::{ControlState, Percentage, Phase};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::reach::Route;
use crate::domain::reason::Reason;
use crate::ports::{ControlView, Entering, WritePass};
use crate::stack::call::{Read, ReadAnswer, ReadCall, Write, WriteCall, Written};
use crate::stack::content;
use crate::stack::moved_on::has_moved_on;
use crate::stack::statements::Scope;
use crate::stack::transacted::WriteIds;
use crate::statement::Analysis;

pub use crate::stack::statements::{Params, Statements};

/// Times that a call is sent where the primary was looked for on the wrong side.
const ATTEMPTS_MAX: u32 = 3;

/// Admits calls to `inner`.
#[derive(Clone)]
pub struct Admission<S> {
    inner: S,
    statements: Arc<Statements>,
    control: Arc<dyn ControlView>,
    write_ids: WriteIds,
}

// === impl Admission ===

impl<S> Admission<S> {
    /// Puts admission before a service.
    pub fn new(
        inner: S,
        statements: Arc<Statements>,
        control: Arc<dyn ControlView>,
        write_ids: WriteIds,
    ) -> Self {
        Self { inner, statements, control, write_ids }
    }

    fn admit_read(&self, call: ReadCall) -> Result<Read, SqlFault> {
        not_over(&call.context)?;
        let (statement, analysis) = self.statements.resolve(call.statement)?;
        let scope = if call.transaction.is_some() { Scope::InTransaction } else { Scope::Alone };
        self.statements.check(&analysis, scope)?;
        self.statements.check_read(&analysis)?;
        let (control, shifted) = self.control.admit_read()?;
        Ok(Read {
            statement,
            analysis,
            control,
            pass: None,
            shifted,
            route: Route::to_primary(control),
            transaction: call.transaction,
            must_see: call.must_see,
            trace_id: call.trace_id,
            context: CallContext { admitted: Some(control), ..call.context },
        })
    }

    /// What is refused is refused before anything waits.
    fn judge_write(&self, call: WriteCall) -> Result<Judged, SqlFault> {
        not_over(&call.context)?;
        self.check_count(call.statements.len())?;
        if call.transaction.is_some() && call.idempotency_key.is_some() {
            return Err(SqlFault::new(
                FaultKind::InvalidArgument,
                Reason::InvalidIdempotencyKey,
                "an idempotency key cannot be given inside a transaction",
            )
            .with_hint("leave it out; Commit tells whether the transaction took effect"));
        }
        let scope = match (call.transaction, call.statements.len()) {
            (Some(_), _) => Scope::InTransaction,
            (None, 1) => Scope::Alone,
            (None, _) => Scope::InBatch,
        };
        let alone = scope == Scope::Alone;
        let mut writes = false;
        let mut summary: Option<Arc<str>> = None;
        let mut statements = Vec::with_capacity(call.statements.len());
        let mut analyses = Vec::with_capacity(call.statements.len());
        for (index, called) in call.statements.into_iter().enumerate() {
            let admitted = self.statements.resolve(called).and_then(|(statement, analysis)| {
                self.statements.check(&analysis, scope)?;
                Ok((statement, analysis))
            });
            let (statement, analysis) =
                if alone { admitted? } else { admitted.map_err(|fault| at(index, fault))? };
            writes |= analysis.writes;
            summary = Some(match summary {
                None => analysis.summary.as_str().into(),
                Some(_) => "BATCH".into(),
            });
            statements.push(statement);
            analyses.push(analysis);
        }
        let idempotency = call
            .idempotency_key
            .map(|key| Idempotency { key, content: content::hash(&statements) });
        Ok(Judged {
            statements,
            analyses,
            writes,
            summary: summary.unwrap_or_default(),
            transaction: call.transaction,
            idempotency,
            write_id: (self.write_ids)(),
            context: call.context,
        })
    }

    fn check_count(&self, count: usize) -> Result<(), SqlFault> {
        let max = self.statements.params().batch_statements_max.max(1);
        if count == 0 {
            let message = "there is no statement to run";
            return Err(SqlFault::new(
                FaultKind::InvalidArgument,
                Reason::InvalidStatement,
                message,
            ));
        }
        if count > max {
            return Err(SqlFault::new(
                FaultKind::LimitExceeded,
                Reason::LimitBatchStatements,
                format!("{count} statements are more than the {max} that a batch may have"),
            )
            .with_hint("split the batch, or raise limits.batch_statements_max"));
        }
        Ok(())
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for Admission<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Service<ReadCall> for Admission<S>
where
    S: Service<Read, Response = ReadAnswer, Error = SqlFault> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = ReadAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: ReadCall) -> Self::Future {
        let mut read = match self.admit_read(call) {
            Ok(read) => read,
            Err(fault) => return Box::pin(async move { Err(fault) }),
        };
        if begins_to_write(&read) {
            let clone = self.inner.clone();
            let inner = std::mem::replace(&mut self.inner, clone);
            return Box::pin(begun_by_read(inner, Arc::clone(&self.control), read));
        }
        if read.transaction.is_some() || !may_lose_its_primary(read.control) {
            return Box::pin(self.inner.call(read));
        }
        // The ready one is taken along, since the read may have to be admitted again.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let control = Arc::clone(&self.control);
        Box::pin(async move {
            let mut attempt = 1;
            loop {
                let answered = inner.call(read.clone()).await;
                let Err(fault) = &answered else { return answered };
                // Its session has found another primary: nothing was sent.
                if fault.reason != Reason::FenceNotPrimary || attempt == ATTEMPTS_MAX {
                    return answered;
                }
                if !has_moved_on(&*control, read.control.epoch, read.context.deadline).await {
                    return answered;
                }
                attempt += 1;
                read = admitted(read, control.admit_read()?);
                inner.ready().await?;
            }
        })
    }
}

impl<S> Service<WriteCall> for Admission<S>
where
    S: Service<Write, Response = Written, Error = SqlFault> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Written;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<Written, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: WriteCall) -> Self::Future {
        let judged = match self.judge_write(call) {
            Ok(judged) => judged,
            Err(fault) => return Box::pin(async move { Err(fault) }),
        };
        // The ready one is taken along, since the leave to write may have to be waited for.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let control = Arc::clone(&self.control);
        Box::pin(async move {
            // A statement that was sent as a write and only reads may as well wait.
            let entering = match judged.transaction {
                Some(InTransaction { which: Which::Open(_), .. }) => Entering::Continuing,
                Some(_) | None => Entering::New,
            };
            let mut attempt = 1;
            loop {
                let pass = control.admit_write(entering, judged.context.deadline).await?;
                let epoch = pass.control.epoch;
                let written = inner.call(judged.clone().with(pass)).await;
                let Err(fault) = &written else { return written };
                // In a transaction what came before is lost with the primary.
                let moved = fault.says_look_again() && entering == Entering::New;
                if !moved || attempt == ATTEMPTS_MAX {
                    return written;
                }
                if !has_moved_on(&*control, epoch, judged.context.deadline).await {
                    return written;
                }
                attempt += 1;
                inner.ready().await?;
            }
        })
    }
}

/// A write that nothing stands against but that it has no leave yet.
#[derive(Clone)]
struct Judged {
    statements: Vec<BoundStatement>,
    analyses: Vec<Arc<Analysis>>,
    writes: bool,
    summary: Arc<str>,
    transaction: Option<InTransaction>,
    idempotency: Option<Idempotency>,
    write_id: WriteId,
    context: CallContext,
}

impl Judged {
    fn with(self, pass: WritePass) -> Write {
        Write {
            statements: self.statements,
            analyses: self.analyses,
            route: Route::to_primary(pass.control),
            writes: self.writes,
            summary: self.summary,
            pass,
            transaction: self.transaction,
            idempotency: self.idempotency,
            write_id: self.write_id,
            context: self.context,
        }
    }
}

/// Whether a read begins a transaction in which writes may follow.
fn begins_to_write(read: &Read) -> bool {
    let begins = read.transaction.map(|within| within.which);
    matches!(begins, Some(Which::New(options)) if !options.read_only)
}

/// Such a read waits for leave as a write does, and goes where the primary is when it has it.
async fn begun_by_read<S>(
    mut inner: S,
    control: Arc<dyn ControlView>,
    read: Read,
) -> Result<ReadAnswer, SqlFault>
where
    S: Service<Read, Response = ReadAnswer, Error = SqlFault>,
{
    let mut attempt = 1;
    loop {
        let pass = control.admit_write(Entering::New, read.context.deadline).await?;
        let under = pass.control;
        let begun = admitted(read.clone(), (under, read.shifted));
        let answered = inner.call(Read { pass: Some(pass), ..begun }).await;
        let Err(fault) = &answered else { return answered };
        if !fault.says_look_again()
            || attempt == ATTEMPTS_MAX
            || !has_moved_on(&*control, under.epoch, read.context.deadline).await
        {
            return answered;
        }
        attempt += 1;
        inner.ready().await?;
    }
}

/// The same read, admitted under what the member knows now.
fn admitted(read: Read, (control, shifted): (ControlState, Percentage)) -> Read {
    let context = CallContext { admitted: Some(control), ..read.context };
    Read { control, shifted, route: Route::to_primary(control), context, ..read }
}

/// Whether the next change of the phase may be one of the primary.
fn may_lose_its_primary(control: ControlState) -> bool {
    matches!(control.phase, Phase::Shift | Phase::Reversed)
}

fn not_over(context: &CallContext) -> Result<(), SqlFault> {
    if context.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        let message = "the deadline had passed before the statement was sent";
        return Err(SqlFault::new(FaultKind::DeadlineExceeded, Reason::Deadline, message));
    }
    Ok(())
}

fn at(index: usize, mut fault: SqlFault) -> SqlFault {
    fault.message = format!("statement {}: {}", index + 1, fault.message);
    fault
}
