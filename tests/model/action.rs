//! What can happen. Each action names the function that it stands for.
//!
//! Nothing counts attempts or crashes, so that any number of them is explored. Time is not
//! modelled: what waits may become due, and what is slow may time out, at any moment.

use crate::state::KeySet;

/// A writer's or a member's place in the state that the action is taken in.
pub(crate) type Who = usize;

/// Which outbox rows a claim takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Due {
    /// All that are due and not locked by others.
    All,
    /// This one: the limit was reached, or the others were not due yet.
    One(u8),
}

/// One step of one party.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The application begins a transaction of the menu, and runs its statements; capture's
    /// triggers (`postgres::capture::form::Form::body`) write the outbox rows in it.
    Write(Who, u8),
    /// It commits, rows and outbox rows together. For a write of one statement it is
    /// `postgres::write::committing_itself`, for more `postgres::batch::run`, else
    /// `postgres::transactions::end::commit`, or a program that knows nothing of segue.
    Commit(Who),
    /// It rolls back (`postgres::transactions::end::roll_back`), or it or its connection is
    /// lost.
    Rollback(Who),
    /// Only with [`Flaw::CaptureApart`]: the outbox rows are committed after the write.
    Capture(Who),
    /// `postgres::outbox::claim::claim`: locks outbox rows in a transaction on the primary,
    /// passes over what others hold, and gathers them by key.
    Claim(Who, Due),
    /// `postgres::outbox::fold::fold_window`: rows of keys that nobody has claimed are taken out,
    /// and rows come that stand for their ranges, or for their table, in one transaction. A crash
    /// in it is none of it.
    Fold,
    /// `postgres::outbox::fold::fold_ranges`: the same with rows that stand for ranges, in whose
    /// place one comes for the whole table.
    Coarsen,
    /// Only with [`Flaw::FoldApart`]: what stands for the table is committed after the rows are
    /// taken out.
    FoldEnd,
    /// `postgres::reconcile::halve`: a set that failed is cut until the culprit stands
    /// alone. One key goes on, the others are given back.
    Halve(Who, KeySet),
    /// `postgres::reconcile::attempt::lock`: the next key's row of `segue.key_lock`, in
    /// order, if nobody else holds it.
    Lock(Who),
    /// `Reconciler::read_both` in `postgres::reconcile::attempt`: the primary in a
    /// transaction that is opened here, and the shadow.
    Read(Who),
    /// `Reconciler::plan_all` in `postgres::reconcile::attempt`, where foreign keys are
    /// active: children of what goes out are taken out with it, or join the set, which
    /// begins again. Without foreign keys planning asks nobody and is a part of `Apply`.
    Plan(Who),
    /// `postgres::reconcile::apply::apply`: writes what differs on the shadow, or runs into
    /// a constraint. It is not to be had while it would wait for another's transaction.
    Apply(Who),
    /// `Reconciler::learn` in `postgres::reconcile::attempt`: after the rollback, looks for
    /// the rows that stood in the way; they join the set, which begins again.
    Learn(Who),
    /// `Transaction::end("COMMIT")` of the shadow, at the end of `Reconciler::attempt`.
    ShadowCommit(Who),
    /// `OutboxWorker::settle` in `postgres::reconcile::batch`, with
    /// `postgres::outbox::settle::forget`, and its commit: exactly the claimed rows of the
    /// keys that are done are forgotten, the others given back.
    Forget(Who),
    /// `OutboxWorker::settle` with `postgres::outbox::settle::fail`: the attempt is rolled
    /// back, its keys are given back with the reason, and wait. A side that is away
    /// (`Halt::Away`) ends here as well, and so does a shadow that has lost the transaction.
    Fail(Who),
    /// `Reconciler::settle` in `postgres::reconcile`: the attempt is rolled back and made
    /// again with what was learned, after a deadlock, a timeout or a serialization failure.
    Again(Who),
    /// The member's process ends (`failpoint::FailPoints::pass`), or both
    /// its connections do: open transactions are rolled back, locks and claims released. A
    /// commit that was under way is a crash before or after it. The next batch is that of
    /// `jobs::outbox_worker::Shared::batch`, in this process or another.
    Crash(Who),
    /// The claim's connection alone is lost, or its time is up (`BEGIN` of
    /// `postgres::reconcile::batch`): others may claim the rows, while this member's
    /// transaction on the shadow goes on.
    LoseClaim(Who),
}

// === impl Action ===

impl Action {
    /// Neither a new write nor a fault.
    pub(crate) fn goes_forward(&self) -> bool {
        match self {
            Self::Commit(_)
            | Self::Capture(_)
            | Self::Claim(..)
            | Self::Lock(_)
            | Self::Read(_)
            | Self::Plan(_)
            | Self::Apply(_)
            | Self::Learn(_)
            | Self::ShadowCommit(_)
            | Self::Forget(_) => true,
            Self::Write(..)
            | Self::Fold
            | Self::Coarsen
            | Self::FoldEnd
            | Self::Rollback(_)
            | Self::Halve(..)
            | Self::Fail(_)
            | Self::Again(_)
            | Self::Crash(_)
            | Self::LoseClaim(_) => false,
        }
    }
}
