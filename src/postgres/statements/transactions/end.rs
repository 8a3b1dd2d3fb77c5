//! COMMIT and ROLLBACK of a transaction that spanned calls.

use tokio::sync::watch;

use super::Held;
use crate::domain::call::{CallContext, Committed};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::reason::Reason;
use crate::failpoint::FailPoint;
use crate::postgres::pool::Pool;
use crate::postgres::statements::commit_outcome;
use crate::postgres::statements::pipeline::{self, Progress, Ran, StepKind};
use crate::postgres::statements::transactions::held::{leave, roll_back};

/// Commits, or says truthfully why not.
// Modelled as `Action::Commit` in tests/model.
pub(super) async fn commit(
    pool: &Pool,
    mut held: Held,
    context: &CallContext,
) -> Result<Committed, SqlFault> {
    let side = pool.side();
    if let Some(reason) = held.failed() {
        roll_back(held).await;
        let message = format!("the transaction had failed and was rolled back: {reason}");
        return Err(SqlFault::new(FaultKind::Precondition, Reason::TransactionFailed, message)
            .with_hint("run the transaction again from its beginning")
            .on(side));
    }
    if held.xid().is_none() {
        // A read in the transaction may have written by a function: ask once more, and
        // before COMMIT is sent.
        let ran = run(&held, false).await;
        if let Some((_, fault)) = ran.failed {
            return Err(not_committed(held, fault).await);
        }
        held.set_xid(ran.xid);
    }
    // If we crash here, the server rolls back, keys and all.
    pool.failpoints().reach(FailPoint::BeforeCommit).await;
    let ran = run(&held, true).await;
    let Some((kind, mut fault)) = ran.failed else {
        // If we crash here, the caller is not told of what is done. It is in the outbox.
        pool.failpoints().reach(FailPoint::BeforeAnswer).await;
        let knows_xid = pipeline::xid(held.session(), held.session().facts()).is_some();
        let wrote = !knows_xid || held.xid().is_some() || ran.xid.is_some();
        let write_id = held.open().write_id;
        leave(held);
        return Ok(Committed { write_id, wrote });
    };
    if fault.kind != FaultKind::ConnectionLost {
        // After a failed step the server takes COMMIT as ROLLBACK.
        if kind == StepKind::Commit || !fault.sqlstate.is_empty() {
            return Err(not_committed(held, fault).await);
        }
    }
    let (facts, xid) = (held.session().facts().as_ref().clone(), held.xid());
    let knows_xid = pipeline::xid(held.session(), &facts).is_some();
    let write_id = held.open().write_id;
    held.session().poison();
    drop(held);
    fault.outcome = if knows_xid && xid.is_none() {
        // Without an id nothing was written.
        Outcome::NotApplied
    } else {
        commit_outcome::outcome_of(pool.connector(), &facts, xid.as_deref(), write_id, context)
            .await
    };
    fault.retryable = fault.outcome == Outcome::NotApplied;
    Err(fault)
}

async fn run(held: &Held, with_commit: bool) -> Ran {
    let session = held.session();
    let mut steps: Vec<_> = pipeline::xid(session, session.facts()).into_iter().collect();
    if with_commit {
        steps.push(pipeline::commit(session));
    }
    let (progress, _watched) = watch::channel(Progress::Ending);
    pipeline::run(steps, &progress).await
}

async fn not_committed(held: Held, mut fault: SqlFault) -> SqlFault {
    fault.outcome = Outcome::NotApplied;
    if fault.kind == FaultKind::ConnectionLost {
        fault.retryable = true;
        held.session().poison();
    } else {
        roll_back(held).await;
    }
    fault
}
