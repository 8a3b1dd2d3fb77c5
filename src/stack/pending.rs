//! A transaction that a call has begun or is to end.
//!
//! Until the call has its answer nobody else knows of it, or would end it: dropped before it is
//! kept or committed, it is rolled back. *If we crash here*, the server rolls it back.

use crate::domain::call::{CallContext, TransactionId};
use crate::domain::consistency::Token;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::reason::Reason;
use crate::ports::WritePass;
use crate::stack::transacted::TransactionControl;

/// Such a transaction.
#[derive(Debug)]
pub struct Pending {
    id: TransactionId,
    room: Option<TransactionControl>,
}

/// A transaction that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// What was announced to the database.
    pub write_id: WriteId,
    /// What a later read must bring to see it.
    pub must_see: Token,
}

/// What is to be done when the answer to a read has ended. Dropped before, the transaction is
/// rolled back.
#[derive(Debug)]
pub struct AfterRead {
    pub(super) pending: Pending,
    pub(super) commits: bool,
    pub(super) context: CallContext,
    pub(super) brought: Token,
}

// === impl Pending ===

impl Pending {
    pub(super) fn new(id: TransactionId, room: TransactionControl) -> Self {
        Self { id, room: Some(room) }
    }

    /// Its id.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// It stays open: its caller learns of it.
    pub fn keep(mut self) -> TransactionId {
        self.room = None;
        self.id
    }

    /// The call failed. Where another call is in the transaction, it is that one's.
    pub(super) async fn failed(mut self, fault: &SqlFault) {
        let Some(room) = self.room.take() else { return };
        if fault.reason != Reason::TransactionInUse {
            room.abandon(self.id).await;
        }
    }

    /// Commits, under a leave to write that the call has already, or one of its own.
    pub(super) async fn commit(
        mut self,
        pass: Option<WritePass>,
        context: CallContext,
    ) -> Result<Ended, SqlFault> {
        let Some(room) = &self.room else { return Err(gone()) };
        if context.cancelled.is_cancelled() {
            let fault = cancelled();
            self.failed(&fault).await;
            return Err(fault);
        }
        let committed = room.clone().commit(self.id, pass, context).await;
        match committed {
            Ok(ended) => {
                self.room = None;
                Ok(ended)
            }
            Err(fault) => {
                self.failed(&fault).await;
                Err(fault)
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Without a runtime everything ends anyway.
        if let (Some(room), Ok(runtime)) = (self.room.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(room.abandon(self.id));
        }
    }
}

fn gone() -> SqlFault {
    SqlFault::new(FaultKind::Internal, Reason::Internal, "the transaction was given up already")
}

fn cancelled() -> SqlFault {
    let message = "the call was cancelled before COMMIT was sent; the transaction was rolled back";
    SqlFault::new(FaultKind::Cancelled, Reason::Cancelled, message)
}

// === impl AfterRead ===

impl AfterRead {
    /// The transaction that the caller may go on with once the answer has ended.
    pub fn begun(&self) -> Option<TransactionId> {
        (!self.commits).then_some(self.pending.id())
    }

    /// The answer has ended: commits, or leaves the transaction to its caller.
    ///
    /// # Errors
    ///
    /// What kept it from being committed, with what is known of its effect.
    pub async fn finish(self) -> Result<Option<Ended>, SqlFault> {
        let Self { pending, commits, context, brought } = self;
        if !commits {
            pending.keep();
            return Ok(None);
        }
        let Some(room) = pending.room.clone() else { return Err(gone()) };
        let deadline = context.deadline;
        match pending.commit(None, context).await {
            Ok(Ended { write_id, must_see }) => {
                let must_see = room.covering(brought, must_see, deadline).await;
                Ok(Some(Ended { write_id, must_see }))
            }
            Err(fault) => Err(room.fault_with(fault, brought).await),
        }
    }
}
