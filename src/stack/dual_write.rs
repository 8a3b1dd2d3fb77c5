//! Writes on the primary; the shadow follows by the outbox.
//!
//! The primary records the touched keys in the transaction of the write itself. All that is
//! left to do here is to wake the reconciler. *If we crash before that, the outbox still has
//! the rows*, and whoever looks into it next finds them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tower::{Service, service_fn};
use tracing::Instrument;

use crate::domain::control::ControlState;
use crate::domain::fault::{Outcome, SqlFault};
use crate::domain::side::Sides;
use crate::ports::{Database, ReconcileWaker, WriteRequest};
use crate::stack::awaiting::Awaiting;
use crate::stack::call::{Write, Written};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::Purpose;

/// Writes outside transactions.
#[derive(Clone)]
pub struct DualWrite {
    databases: Sides<Arc<dyn Database>>,
    reconciler: Arc<dyn ReconcileWaker>,
    awaiting: Awaiting,
    watch: Watch,
}

/// Wakes the reconciler when it is dropped. Waking it too often costs one look into the outbox.
pub(super) struct WakeOnDrop(Option<Arc<dyn ReconcileWaker>>);

/// Work that goes on in a task of its own when whoever waits for it goes away: the reconciler
/// is to be woken when the write has ended, and not when its caller has gone.
pub(super) struct ToItsEnd<T: Send + 'static> {
    work: Option<BoxFuture<'static, T>>,
    begun: bool,
}

// === impl DualWrite ===

impl DualWrite {
    /// Writes to these, and wakes that.
    pub fn new(
        databases: Sides<Arc<dyn Database>>,
        reconciler: Arc<dyn ReconcileWaker>,
        awaiting: Awaiting,
        watch: Watch,
    ) -> Self {
        Self { databases, reconciler, awaiting, watch }
    }
}

impl std::fmt::Debug for DualWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DualWrite")
    }
}

impl DualWrite {
    /// The service, which is always ready: whoever there is no room for waits for a session.
    pub fn into_service(
        self,
    ) -> impl Service<
        Write,
        Response = Written,
        Error = SqlFault,
        Future = BoxFuture<'static, Result<Written, SqlFault>>,
    > + Clone {
        service_fn(move |write| self.write(write))
    }

    fn write(&self, write: Write) -> BoxFuture<'static, Result<Written, SqlFault>> {
        // Held to the write's end, whatever becomes of its caller.
        let pass = write.pass;
        let control = pass.control;
        let side = control.phase.primary();
        let (write_id, deadline) = (write.write_id, write.context.deadline);
        let awaiting = self.awaiting.clone();
        let database = Arc::clone(self.databases.of(side));
        let watched = self.watch.begin(side, Purpose::Write, &write.summary);
        if let [only] = write.statements.as_slice() {
            watched.named(only.name.as_deref());
        }
        let counted = write.statements.iter().all(|statement| is_counted(&statement.sql));
        let watch = self.watch.clone();
        let mut wake = WakeOnDrop::new(&self.reconciler, pass.control);
        let request = WriteRequest {
            statements: write.statements,
            writes: write.writes,
            write_id: write.write_id,
            idempotency: write.idempotency,
            context: write.context,
        };
        let span = watched.span().clone();
        let answer = async move {
            let answer = database.write(request).await;
            wake.disarm_if_nothing_was_written(&answer);
            if answer.as_ref().is_ok_and(|answer| !answer.wrote) {
                wake.disarm();
            }
            drop(pass);
            (answer, wake)
        };
        let answer = ToItsEnd::new(answer.instrument(span));
        Box::pin(async move {
            let (answer, wake) = answer.await;
            let answer = watched.note(answer);
            let answer = answer.map_err(|fault| awaiting.in_doubt(control, write_id, fault))?;
            if wake.is_armed() {
                watch.captured(&watched, answer.write_id);
            }
            // The statement has ended here, and the reconciler is woken.
            drop((watched, wake));
            let must_see = match answer.wrote {
                true => {
                    let met_no_row =
                        counted && answer.items.iter().all(|item| item.affected_rows == 0);
                    awaiting.token(control, answer.write_id, met_no_row, deadline).await
                }
                false => None,
            };
            Ok(Written::committed(answer, must_see.into()))
        })
    }
}

/// Whether the rows that the server counts are all that the statement changes, but for what
/// triggers do: `TRUNCATE`, `CALL` and a `WITH` that writes change rows that it does not count.
fn is_counted(sql: &str) -> bool {
    let word = sql.trim_start().split(|it: char| !it.is_ascii_alphabetic()).next();
    word.is_some_and(|word| ["update", "delete"].iter().any(|it| word.eq_ignore_ascii_case(it)))
}

// === impl ToItsEnd ===

impl<T: Send + 'static> ToItsEnd<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), begun: false }
    }
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        // Without a runtime everything ends anyway.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

// === impl WakeOnDrop ===

impl WakeOnDrop {
    /// Armed where what is written is captured. Whether anything is, the database alone knows.
    pub(super) fn new(reconciler: &Arc<dyn ReconcileWaker>, control: ControlState) -> Self {
        Self(control.phase.captures().then(|| Arc::clone(reconciler)))
    }

    pub(super) fn disarm(&mut self) {
        self.0 = None;
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
    use super::*;

    #[test]
    fn what_a_count_tells_of() {
        for sql in ["DELETE FROM item", "\n update item SET a = 1", "Update\titem SET a = 1"] {
            assert!(is_counted(sql), "{sql}");
        }
        for sql in [
            "TRUNCATE item",
            "CALL update()",
            "WITH gone AS (DELETE FROM item RETURNING id) SELECT id FROM gone WHERE false",
            "INSERT INTO item SELECT 1 ON CONFLICT DO NOTHING",
            "SELECT update()",
            "updates",
            "",
        ] {
            assert!(!is_counted(sql), "{sql}");
        }
    }
}
