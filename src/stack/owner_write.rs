//! Writes to tables that are not migrated, where the primary does not have them.
//!
//! They run on the side that owns the tables, in sessions of their own: these do not hold the
//! fence's lock, since the other side is the primary. No trigger captures them, so that nothing
//! is to be reconciled. A statement that reaches a migrated table there all the same is refused by
//! that table's trigger, which is the fence: two databases never accept writes to one table.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;
use tracing::Instrument;

use crate::domain::consistency::Token;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::ports::{Database, WriteRequest};
use crate::stack::call::{Write, Written};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::{Metrics, Purpose};

/// Writes of the primary go to `inner`, others to the side that owns their tables.
#[derive(Clone)]
pub struct OwnerWrite<S> {
    inner: S,
    owners: Sides<Arc<dyn Database>>,
    watch: Watch,
    metrics: Metrics,
}

// === impl OwnerWrite ===

impl<S> OwnerWrite<S> {
    /// Chooses by the write's route.
    pub fn new(inner: S, owners: Sides<Arc<dyn Database>>, watch: Watch, metrics: Metrics) -> Self {
        Self { inner, owners, watch, metrics }
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for OwnerWrite<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnerWrite").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Service<Write> for OwnerWrite<S>
where
    S: Service<Write, Response = Written, Error = SqlFault>,
    S::Future: Send + 'static,
{
    type Response = Written;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<Written, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, write: Write) -> Self::Future {
        let side = write.route.side;
        if side == write.pass.control.phase.primary() {
            return Box::pin(self.inner.call(write));
        }
        if write.idempotency.is_some() {
            let refused = no_idempotency(side);
            self.metrics.refused(refused.reason);
            return Box::pin(async move { Err(refused) });
        }
        let database = Arc::clone(self.owners.of(side));
        let watched = self.watch.begin(side, Purpose::Write, &write.summary);
        if let [only] = write.statements.as_slice() {
            watched.named(only.name.as_deref());
        }
        let Write { statements, write_id, context, pass, .. } = write;
        let request =
            WriteRequest { statements, writes: true, write_id, idempotency: None, context };
        Box::pin(async move {
            // Held to its end: the primary does not change under a write.
            let _pass = pass;
            let answer = database.write(request).instrument(watched.span()).await;
            let answer = watched.note(answer)?;
            Ok(Written::committed(answer, Token::default()))
        })
    }
}

fn no_idempotency(side: Side) -> SqlFault {
    let message = format!(
        "an idempotency key cannot be kept for a write on the {side}, which is not the primary: the \
         keys are kept with the primary's rows"
    );
    SqlFault::new(FaultKind::Refused, Reason::RefusedIdempotencyOfOwner, message).with_hint(
        "leave the key out, and make the statement one that may run twice, such as INSERT … ON \
         CONFLICT DO NOTHING",
    )
}
