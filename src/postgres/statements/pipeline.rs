//! Several requests on one session in one round trip.
//!
//! The driver sends a request when its future is first polled, and answers come in the order
//! of the requests; so all are polled once, in order, and then awaited one after the other.
//! Each request ends with its own `Sync`: within a transaction a failed one makes all later
//! ones fail, COMMIT included, which the server then takes as ROLLBACK. That is why any
//! error before it is fatal here, whatever COMMIT itself says.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_postgres::SimpleQueryMessage;

use super::collect::Collector;
use super::execute::Ready;
use super::stop::{Stop, stopped, supervised};
use crate::domain::answer::RowBatch;
use crate::domain::call::{BoundStatement, CallContext, ResultLimits, WriteItem};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::pg_type::Column;
use crate::domain::reason::Reason;
use crate::domain::sqlstate;
use crate::postgres::fence::mark;
use crate::postgres::session::guard::{self, access_of};
use crate::postgres::session::{ServerFacts, Session};

/// For the answer to COMMIT, which is never cancelled.
const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// Prepares and binds all statements before any is sent.
pub(super) async fn make_ready(
    session: &Session,
    statements: &[BoundStatement],
) -> Result<Vec<Ready>, SqlFault> {
    let mut ready = Vec::with_capacity(statements.len());
    for statement in statements {
        ready.push(Ready::make(session, statement).await?);
    }
    Ok(ready)
}

/// How far a pipeline has come, for deciding whether it may be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// A cancelled BEGIN would let the statements after it commit one by one.
    Beginning,
    /// The statements run.
    Running,
    /// A cancelled COMMIT may have been half done.
    Ending,
}

/// What one step of a pipeline came to.
#[derive(Debug)]
pub(super) enum Done {
    /// It has nothing to tell.
    Nothing,
    /// A statement's answer.
    Item(WriteItem),
    /// The transaction's id, where it has one.
    Xid(Option<String>),
}

/// Which step of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepKind {
    /// The guard, which goes on before BEGIN.
    Guard,
    /// BEGIN with the write announced.
    Begin,
    /// The idempotency key.
    Key,
    /// One of the caller's statements.
    Statement,
    /// The first answer, kept with its key.
    Response,
    /// The transaction's id.
    Xid,
    /// COMMIT.
    Commit,
}

/// A request to be sent.
pub(super) struct Step<'a> {
    pub(super) kind: StepKind,
    pub(super) work: BoxFuture<'a, Result<Done, SqlFault>>,
}

/// What a pipeline came to: the step that failed first, and what the others answered.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) items: Vec<WriteItem>,
    pub(super) xid: Option<String>,
    pub(super) failed: Option<(StepKind, SqlFault)>,
    /// A statement succeeded after a failed one.
    pub(super) succeeded_after_failure: bool,
}

/// Sends all steps and collects what they come to, in order.
pub(super) async fn run(mut steps: Vec<Step<'_>>, progress: &watch::Sender<Progress>) -> Ran {
    let mut results: Vec<Option<Result<Done, SqlFault>>> = Vec::new();
    poll_fn(|cx| {
        for step in &mut steps {
            results.push(match step.work.as_mut().poll(cx) {
                Poll::Ready(result) => Some(result),
                Poll::Pending => None,
            });
        }
        Poll::Ready(())
    })
    .await;
    let statements_last =
        steps.iter().rposition(|step| matches!(step.kind, StepKind::Statement | StepKind::Key));
    let mut ran = Ran::default();
    for (index, (mut step, early)) in steps.into_iter().zip(results).enumerate() {
        let result = match early {
            Some(result) => result,
            None => step.work.as_mut().await,
        };
        if step.kind == StepKind::Begin {
            progress.send_replace(Progress::Running);
        }
        if statements_last == Some(index) {
            progress.send_replace(Progress::Ending);
        }
        ran.take(step.kind, result);
    }
    ran
}

impl Ran {
    fn take(&mut self, kind: StepKind, result: Result<Done, SqlFault>) {
        match result {
            Ok(done) => {
                self.succeeded_after_failure |=
                    self.failed.is_some() && kind == StepKind::Statement;
                match done {
                    Done::Nothing => {}
                    Done::Item(item) => self.items.push(item),
                    Done::Xid(xid) => self.xid = xid,
                }
            }
            Err(fault) => {
                // The first error is the cause; those after it only say that there was one.
                if self.failed.is_none() {
                    self.failed = Some((kind, fault));
                }
            }
        }
    }
}

/// Runs a pipeline; a stop cancels it while that is safe, and then is its fault.
pub(super) async fn supervised_run(
    session: &Session,
    work: impl Future<Output = Result<Ran, SqlFault>>,
    context: &CallContext,
    progress: watch::Receiver<Progress>,
) -> Result<Ran, SqlFault> {
    let stopped_by = OnceLock::new();
    let stop = async {
        let stop = stopped_while_running(context, progress).await;
        *stopped_by.get_or_init(|| stop)
    };
    let mut ran = supervised(session, work, stop).await?;
    if let (Some(by), Some((_, fault))) = (stopped_by.get(), &mut ran.failed)
        && fault.sqlstate == sqlstate::QUERY_CANCELED
    {
        let sqlstate = std::mem::take(&mut fault.sqlstate);
        *fault = SqlFault { sqlstate, ..by.fault(session.side()) };
    }
    Ok(ran)
}

/// Waits until a pipeline should be cancelled, and may be.
async fn stopped_while_running(
    context: &CallContext,
    mut progress: watch::Receiver<Progress>,
) -> Stop {
    // The sender outlives the pipeline, so waiting does not fail.
    let _ = progress.wait_for(|progress| *progress != Progress::Beginning).await;
    let ending = async {
        let _ = progress.wait_for(|progress| *progress == Progress::Ending).await;
        std::future::pending::<Stop>().await
    };
    tokio::select! {
        biased;
        stop = ending => stop,
        stop = stopped(context) => stop,
    }
}

// Steps.

/// Puts the guard on, where it is not, in the round trip of what stands behind it. Should that
/// fail, BEGIN has not: nobody cancels both. Should it be so all the same, the outcome is said
/// to be unknown.
pub(super) fn guard(session: &Session) -> Option<Step<'_>> {
    if !guard::is_wanted(session) {
        return None;
    }
    let work = Box::pin(async move {
        if let Err(fault) = guard::put_on(session).await {
            tracing::debug!(%fault, "a session goes without its guard");
        }
        Ok(Done::Nothing)
    });
    Some(Step { kind: StepKind::Guard, work })
}

/// BEGIN of a transaction that will write, with the write announced. It takes the
/// transaction's id at once: its answer is on the way before COMMIT is executed, so that the
/// outcome can be looked up should that answer be lost.
pub(super) fn begin(session: &Session, write_id: WriteId) -> Step<'_> {
    let facts = session.facts();
    begin_by(session, write_id, tells_xid(facts) && !facts.read_only)
}

/// The same without an id: that it has one at its end says that it wrote.
pub(super) fn begin_without_xid(session: &Session, write_id: WriteId) -> Step<'_> {
    begin_by(session, write_id, false)
}

fn begin_by(session: &Session, write_id: WriteId, with_xid: bool) -> Step<'_> {
    let facts = session.facts();
    let xid = if with_xid { ", pg_catalog.pg_current_xact_id()" } else { "" };
    let look = mark::look(session).map(|look| format!("; {look}")).unwrap_or_default();
    let modes =
        format!("{}{}", facts.dialect.writers_isolation().unwrap_or_default(), access_of(facts));
    let sql = format!("{}{xid}{look}", begin_sql(&modes, write_id));
    let work = Box::pin(async move {
        let answer = session.simple_query(&sql).await?;
        let xid = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.len() > 1 => row.get(1).map(str::to_owned),
            _ => None,
        });
        Ok(Done::Xid(xid))
    });
    Step { kind: StepKind::Begin, work }
}

/// Whether the server can tell a transaction's id.
pub(super) fn tells_xid(facts: &ServerFacts) -> bool {
    facts.dialect.tells_transaction_ids()
}

/// COMMIT, the answer to which is awaited for a time only.
pub(super) fn commit(session: &Session) -> Step<'_> {
    let work = Box::pin(async move {
        let mut answer = pin!(session.batch_execute("COMMIT"));
        match tokio::time::timeout(COMMIT_LIMIT, &mut answer).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(SqlFault::new(
                    FaultKind::ConnectionLost,
                    Reason::ConnectionLost,
                    format!("no answer to COMMIT within {} s", COMMIT_LIMIT.as_secs()),
                )
                .with_outcome(Outcome::Unknown)
                .on(session.side()));
            }
        }
        Ok(Done::Nothing)
    });
    Step { kind: StepKind::Commit, work }
}

/// The transaction's id, where the server can tell. It fails in a failed transaction, and
/// so guards the COMMIT after it.
pub(super) fn xid<'a>(session: &'a Session, facts: &ServerFacts) -> Option<Step<'a>> {
    if !tells_xid(facts) {
        return None;
    }
    let work = Box::pin(async move {
        let answer =
            session.simple_query("SELECT pg_catalog.pg_current_xact_id_if_assigned()").await?;
        let xid = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(Done::Xid(xid))
    });
    Some(Step { kind: StepKind::Xid, work })
}

/// One of the caller's statements.
pub(super) fn statement(session: &Session, ready: Ready, limits: ResultLimits) -> Step<'_> {
    let work = Box::pin(async move { execute(session, ready, limits).await.map(Done::Item) });
    Step { kind: StepKind::Statement, work }
}

/// Executes one statement and collects what it returns.
pub(super) async fn execute(
    session: &Session,
    ready: Ready,
    limits: ResultLimits,
) -> Result<WriteItem, SqlFault> {
    let Ready { prepared, params, .. } = ready;
    let lost = |error| session.fault(error, true);
    let statement = &prepared.statement;
    if prepared.columns.is_empty() {
        let affected_rows = session.execute_raw(statement, params).await?;
        let columns: Arc<[Column]> = Arc::clone(&prepared.columns);
        return Ok(WriteItem { affected_rows, columns, rows: RowBatch::default() });
    }
    let mut rows = pin!(session.driver().query_raw(statement, params).await.map_err(lost)?);
    let (width, share) = (prepared.columns.len(), (session.side(), session.answers()));
    let mut collector = Collector::of_whole(width, limits, share);
    while let Some(row) = rows.try_next().await.map_err(lost)? {
        collector.push(&row)?;
    }
    let affected_rows = rows.rows_affected().unwrap_or_default();
    Ok(WriteItem { affected_rows, columns: Arc::clone(&prepared.columns), rows: collector.take() })
}

/// BEGIN and the announcement, for this transaction only.
pub(super) fn begin_sql(modes: &str, write_id: WriteId) -> String {
    // A write id prints as a UUID, so it needs no quoting.
    format!("BEGIN{modes}; SELECT pg_catalog.set_config('segue.write_id', '{write_id}', true)")
}
