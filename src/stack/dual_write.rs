//! Writes on the primary; the shadow follows by the outbox.
//!
//! The primary records the touched keys in the transaction of the write itself. All that is
//! left to do here is to wake the reconciler. *If we crash before that, the outbox still has
//! the rows*, and whoever looks into it next finds them.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;
use tracing::Instrument;

use crate::domain::control::ControlState;
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::side::Sides;
use crate::ports::{Database, ReconcileWaker, WriteRequest};
use crate::stack::call::{Write, Written};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::Purpose;

/// Writes outside transactions.
#[derive(Clone)]
pub struct DualWrite {
    databases: Sides<Arc<dyn Database>>,
    reconciler: Arc<dyn ReconcileWaker>,
    watch: Watch,
}

/// Wakes the reconciler when it is dropped: after the answer, or when the caller has gone and
/// the write goes on without it. Waking it too often costs one look into the outbox.
pub(super) struct WakeOnDrop(Option<Arc<dyn ReconcileWaker>>);

// === impl DualWrite ===

impl DualWrite {
    /// Writes to these, and wakes that.
    pub fn new(
        databases: Sides<Arc<dyn Database>>,
        reconciler: Arc<dyn ReconcileWaker>,
        watch: Watch,
    ) -> Self {
        Self { databases, reconciler, watch }
    }
}

impl std::fmt::Debug for DualWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DualWrite")
    }
}

impl Service<Write> for DualWrite {
    type Response = Written;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<Written, SqlFault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, write: Write) -> Self::Future {
        let side = write.control.phase.primary();
        let database = Arc::clone(self.databases.of(side));
        let watched = self.watch.begin(side, Purpose::Write, &write.summary);
        let watch = self.watch.clone();
        let wake = WakeOnDrop::new(&self.reconciler, write.control, write.writes);
        let request = WriteRequest {
            statements: write.statements,
            write_id: write.write_id,
            idempotency: write.idempotency,
            context: write.context,
        };
        let answer = async move { database.write(request).await };
        Box::pin(async move {
            let (answer, wake) = to_its_end(answer.instrument(watched.span()), wake).await;
            let answer = watched.note(answer)?;
            if wake.is_armed() {
                watch.captured(&watched, answer.write_id);
            }
            Ok(Written { answer, must_see: None })
        })
    }
}

/// Runs what may commit in a task of its own: a caller that goes away must not take the wake
/// with it before the commit.
pub(super) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, SqlFault>> + Send + 'static,
    mut wake: WakeOnDrop,
) -> (Result<T, SqlFault>, WakeOnDrop) {
    let done = tokio::spawn(async move {
        let answer = work.await;
        wake.disarm_if_nothing_was_written(&answer);
        (answer, wake)
    });
    match done.await {
        Ok(done) => done,
        Err(error) => {
            let message = format!("a write broke off: {error}");
            let fault = SqlFault::new(FaultKind::Internal, "internal", message);
            (Err(fault.with_outcome(Outcome::Unknown)), WakeOnDrop(None))
        }
    }
}

// === impl WakeOnDrop ===

impl WakeOnDrop {
    /// Armed where something may be written that is captured.
    pub(super) fn new(
        reconciler: &Arc<dyn ReconcileWaker>,
        control: ControlState,
        writes: bool,
    ) -> Self {
        Self((writes && control.phase.captures()).then(|| Arc::clone(reconciler)))
    }

    pub(super) fn is_armed(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn disarm_if_nothing_was_written<T>(&mut self, answer: &Result<T, SqlFault>) {
        if answer.as_ref().is_err_and(|fault| fault.outcome == Outcome::NotApplied) {
            self.0 = None;
        }
    }
}

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        if let Some(reconciler) = &self.0 {
            reconciler.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::domain::control::Phase;

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl ReconcileWaker for Wakes {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_does_not_wake_before_the_commit() {
        let wakes = Arc::new(Wakes::default());
        let waker: Arc<dyn ReconcileWaker> = wakes.clone();
        let control = ControlState { epoch: 1, phase: Phase::DualWrite };
        let (commit, committed) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _ = committed.await;
            Ok(())
        };
        let caller = tokio::spawn(to_its_end(work, WakeOnDrop::new(&waker, control, true)));
        tokio::task::yield_now().await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        tokio::task::yield_now().await;
        assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "woken before the commit");
        commit.send(()).unwrap();
        while wakes.0.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }
}
