//! The data path, one room a concern, assembled in [`Stack::new`].

pub mod admission;
pub mod awaiting;
pub mod breaker;
pub mod call;
pub mod consistency;
mod content;
pub mod describe;
pub mod dual_write;
pub mod limit;
mod moved_on;
pub mod owner_write;
pub mod pending;
pub mod queries;
mod read;
pub mod routed;
pub mod shadow_read;
pub mod shift;
pub mod statements;
pub mod transacted;
pub mod transaction_sides;
pub mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::domain::call::{CallContext, InTransaction, TransactionId, Which};
use crate::domain::consistency::Token;
use crate::domain::control::ControlState;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Sides;
use crate::ports::relations::{AllMigrated, Relations};
use crate::ports::settled::SettledWrites;
use crate::ports::{ControlView, Database, ReconcileWaker, ShadowReads};
use crate::telemetry::metrics::Metrics;

use admission::{Admission, Statements};
use awaiting::Awaiting;
use call::{
    CalledStatement, Described, ReadAnswer, ReadCall, TransactionAnswer, TransactionCall,
    WriteCall, Written,
};
use consistency::Consistency;
use describe::Describe;
use dual_write::DualWrite;
use limit::{Limit, Permits};
use owner_write::OwnerWrite;
use pending::Ended;
use queries::NamedStatements;
use routed::Routed;
use shadow_read::ShadowRead;
use shift::Shift;
use transacted::{OpenTransactions, Transacted, TransactionControl, TransactionParts, WriteIds};
use transaction_sides::TransactionSides;
use watch::Watch;

/// Limits of the data path.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// Calls in progress outside transactions.
    pub calls_max: usize,
    /// What is admitted.
    pub admission: admission::Params,
    /// How writes wait for the shadow while reads are shifted.
    pub awaiting: awaiting::Params,
    /// How the target is dealt with then.
    pub shift: shift::Params,
}

/// What the data path asks of the world.
#[derive(Clone)]
pub struct Parts {
    /// Statements outside transactions.
    pub databases: Sides<Arc<dyn Database>>,
    /// Transactions that span calls.
    pub transactions: OpenTransactions,
    /// Where the migration stands.
    pub control: Arc<dyn ControlView>,
    /// Tells whether the shadow has what a write did.
    pub settled: Arc<dyn SettledWrites>,
    /// Sides of reads that belong to no caller and no trace.
    pub dice: shift::Dice,
    /// Told of every write that is captured.
    pub reconciler: Arc<dyn ReconcileWaker>,
    /// Takes the samples.
    pub samples: Arc<dyn ShadowReads>,
    /// Source of write ids.
    pub write_ids: WriteIds,
    /// Statements from the query files.
    pub named: NamedStatements,
    /// Counts what is refused.
    pub metrics: Metrics,
    /// Shows each statement to operators.
    pub watch: Watch,
}

/// What statements touch, and what runs those on a side that is not the primary.
#[derive(Clone)]
pub struct Owners {
    /// What statements touch.
    pub relations: Arc<dyn Relations>,
    /// Statements outside transactions.
    pub databases: Sides<Arc<dyn Database>>,
    /// Transactions that span calls.
    pub transactions: OpenTransactions,
}

/// The data path. Cloning shares it.
#[derive(Clone)]
pub struct Stack {
    reads: BoxCloneSyncService<ReadCall, ReadAnswer, SqlFault>,
    writes: BoxCloneSyncService<WriteCall, Written, SqlFault>,
    transactions: BoxCloneSyncService<TransactionCall, TransactionAnswer, SqlFault>,
    describe: Describe,
    control: Arc<dyn ControlView>,
    consistency: Consistency,
    inside: TransactionControl,
}

impl Stack {
    /// A data path for which every table is migrated.
    pub fn new(params: &Params, parts: Parts) -> Self {
        let owners = Owners {
            relations: Arc::new(AllMigrated),
            databases: parts.databases.clone(),
            transactions: parts.transactions.clone(),
        };
        Self::routed(params, parts, owners)
    }

    /// Puts the rooms together, innermost first.
    pub fn routed(params: &Params, parts: Parts, owners: Owners) -> Self {
        let Parts { databases, transactions, control, reconciler, samples, .. } = parts;
        let Parts { write_ids, watch, settled, dice, metrics, .. } = parts;
        let relations = owners.relations;
        let statements = Statements::new(params.admission, parts.named, metrics.clone());
        let statements = Arc::new(statements);
        let permits = Permits::new(params.calls_max);

        // A read is answered by the primary, and a share of them by the side that follows.
        let primary = read::reads(databases.clone(), watch.clone(), read::routed);
        let target = read::reads(databases.clone(), watch.clone(), read::following);
        let consistency = Consistency::new(Arc::clone(&settled));
        let known = (Arc::clone(&control), Arc::clone(&settled));
        let reads = Shift::new(primary, target, known, params.shift, dice, metrics.clone());
        // A share of the answers is offered for comparing while it streams to the caller.
        let reads = ShadowRead::new(reads, samples);
        // Reads of a transaction go into it: what they see is not for comparing.
        let sides = TransactionSides::new(
            transactions,
            owners.transactions,
            Arc::clone(&write_ids),
            metrics.clone(),
        );
        let awaiting = Awaiting::new(settled, params.awaiting, metrics.clone());
        let inside = TransactionControl::new(TransactionParts {
            sides: sides.clone(),
            control: Arc::clone(&control),
            write_ids: Arc::clone(&write_ids),
            reconciler: Arc::clone(&reconciler),
            awaiting: awaiting.clone(),
            consistency: consistency.clone(),
            watch: watch.clone(),
        });
        let reads = Transacted::new(inside.clone(), reads);
        // What is not migrated stays on the side that owns it.
        let reads = Routed::new(reads, sides.clone(), Arc::clone(&relations), metrics.clone());
        // What is refused never gets further, and the phase is read once, here.
        let reads =
            Admission::new(reads, Arc::clone(&statements), Arc::clone(&control), write_ids.clone());
        // Outermost, so that a call there is no room for costs nothing.
        let reads = Limit::new(reads, permits.clone());

        // A write is made on the primary, and the reconciler is told that its keys wait.
        // While reads are shifted, its answer waits for that.
        let writes = DualWrite::new(databases.clone(), reconciler, awaiting, watch.clone());
        let writes = writes.into_service();
        // Writes to what is not migrated go to its owner, and nothing of them is reconciled.
        let writes = OwnerWrite::new(writes, owners.databases, watch, metrics.clone());
        // Writes of a transaction go into it: their keys wait only once it is committed.
        let writes = Transacted::new(inside.clone(), writes);
        // As for reads.
        let writes = Routed::new(writes, sides, relations, metrics);
        // As for reads, and here the write gets its id.
        let writes =
            Admission::new(writes, Arc::clone(&statements), Arc::clone(&control), write_ids);
        // Reads and writes share the room.
        let writes = Limit::new(writes, permits.clone());

        // A begin may wait for its place: so may only as many as there is room for.
        let transactions = Limit::new(inside.clone().into_service(), permits.clone());

        Self {
            reads: BoxCloneSyncService::new(reads),
            writes: BoxCloneSyncService::new(writes),
            transactions: BoxCloneSyncService::new(transactions),
            describe: Describe::new(databases, statements, permits),
            control,
            consistency,
            inside,
        }
    }

    /// Runs a read.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being answered; later faults come in the answer's stream.
    pub async fn read(&self, call: ReadCall) -> Result<ReadAnswer, SqlFault> {
        let brought = call.must_see.clone();
        let mut answer = self.reads.clone().oneshot(call).await?;
        if !answer.settled {
            answer.must_see = self.carried(brought).await;
        }
        Ok(answer)
    }

    /// Runs a write.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, with what is known of its effect.
    pub async fn write(&self, call: WriteCall) -> Result<Written, SqlFault> {
        let brought = call.must_see.clone();
        let (in_transaction, deadline) = (call.transaction.is_some(), call.context.deadline);
        match self.writes.clone().oneshot(call).await {
            Ok(mut written) => {
                let own = std::mem::take(&mut written.must_see);
                written.must_see = match in_transaction && written.committed.is_none() {
                    true => self.carried(brought).await,
                    false => self.inside.covering(brought, own, deadline).await,
                };
                Ok(written)
            }
            Err(fault) => Err(self.inside.fault_with(fault, brought).await),
        }
    }

    /// Begins, commits or rolls back.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, with what is known of its effect.
    pub async fn transaction(&self, call: TransactionCall) -> Result<TransactionAnswer, SqlFault> {
        self.transactions.clone().oneshot(call).await
    }

    /// Commits, and answers what a later read must bring to see that and what was brought.
    ///
    /// # Errors
    ///
    /// As above.
    pub async fn commit(
        &self,
        id: TransactionId,
        context: CallContext,
        brought: Token,
    ) -> Result<Ended, SqlFault> {
        let deadline = context.deadline;
        match self.transaction(TransactionCall::Commit(id, context)).await {
            Ok(TransactionAnswer::Committed(Ended { write_id, must_see })) => {
                let must_see = self.inside.covering(brought, must_see, deadline).await;
                Ok(Ended { write_id, must_see })
            }
            Ok(_) => Err(SqlFault::new(
                FaultKind::Internal,
                Reason::Internal,
                "a commit's answer is not one",
            )),
            Err(fault) => Err(self.inside.fault_with(fault, brought).await),
        }
    }

    /// The token of an answer to a call that wrote nothing.
    pub async fn carried(&self, brought: Token) -> Token {
        self.consistency.carried(self.control.current(), brought).await
    }

    /// A call that was to commit a transaction failed before it came to that: rolls back, unless
    /// another call is in the transaction.
    pub async fn give_up(&self, within: Option<InTransaction>, fault: &SqlFault) {
        if let Some(InTransaction { which: Which::Open(id), commits: true }) = within
            && fault.reason != Reason::TransactionInUse
            && self.inside.knows(id)
        {
            self.inside.clone().abandon(id).await;
        }
    }

    /// Asks both sides how they prepare a statement.
    ///
    /// # Errors
    ///
    /// A fault where there is no statement to ask about, or no room for another call.
    pub async fn describe(&self, called: CalledStatement) -> Result<Described, SqlFault> {
        self.describe.describe(called).await
    }

    /// Where the migration stands.
    pub fn control(&self) -> ControlState {
        self.control.current()
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl std::fmt::Debug for Owners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Owners")
    }
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stack")
    }
}
