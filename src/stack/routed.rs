//! Finds the side that a call goes to, by the relations that its statements touch.
//!
//! What they touch was found out once for each statement and catalogue; here it is met with the
//! phase that the call was admitted under. In a transaction, or a batch, whose search path may have
//! been changed, what an unqualified name means is not known, and it counts as all of that name.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;

use crate::domain::call::{InTransaction, TransactionId};
use crate::domain::control::ControlState;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reach::{Reach, Route};
use crate::ports::relations::Relations;
use crate::stack::call::{Read, ReadAnswer, Write, Written};
use crate::stack::transaction_sides::TransactionSides;
use crate::statement::Analysis;
use crate::telemetry::metrics::Metrics;

/// Gives calls their route, for `inner`.
#[derive(Clone)]
pub struct Routed<S> {
    inner: S,
    sides: TransactionSides,
    relations: Arc<dyn Relations>,
    metrics: Metrics,
}

// === impl Routed ===

impl<S> Routed<S> {
    /// Goes by what `relations` tells, and remembers with `sides` whose search path may be another.
    pub fn new(
        inner: S,
        sides: TransactionSides,
        relations: Arc<dyn Relations>,
        metrics: Metrics,
    ) -> Self {
        Self { inner, sides, relations, metrics }
    }

    fn read_route(&self, read: &Read) -> Result<Route, SqlFault> {
        let open = read.transaction.as_ref().and_then(InTransaction::id);
        let own_path = open.is_some_and(|id| self.sides.has_own_path(id));
        let reach = self.reach(&read.analysis, read.control, own_path);
        let route = self.route(&reach, read.control)?;
        self.note_path(open, &reach);
        Ok(route)
    }

    fn write_route(&self, write: &Write) -> Result<Route, SqlFault> {
        let control = write.pass.control;
        let open = write.transaction.as_ref().and_then(InTransaction::id);
        let own_path = open.is_some_and(|id| self.sides.has_own_path(id));
        let reach = match write.analyses.as_slice() {
            [only] => self.reach(only, control, own_path),
            all => Arc::new(self.together(all, control, own_path)),
        };
        let route = self.route(&reach, control)?;
        self.note_path(open, &reach);
        Ok(route)
    }

    /// Of a batch, which is one transaction.
    fn together(&self, all: &[Arc<Analysis>], control: ControlState, own_path: bool) -> Reach {
        let mut together = Reach { pure: true, ..Reach::default() };
        for analysis in all {
            let own_path = own_path || together.sets_path;
            together.absorb(&self.reach(analysis, control, own_path));
        }
        together
    }

    fn reach(&self, analysis: &Analysis, control: ControlState, own_path: bool) -> Arc<Reach> {
        let reach = match own_path {
            true => self.relations.reach_in_any_schema(analysis, control.phase),
            false => self.relations.reach(analysis, control.phase),
        };
        if !reach.undeclared.is_empty() && control.phase.captures() {
            self.relations.note(analysis, &reach);
        }
        reach
    }

    /// Before the statement is sent: it may have changed the path even where it fails.
    fn note_path(&self, transaction: Option<TransactionId>, reach: &Reach) {
        if let Some(id) = transaction
            && reach.sets_path
        {
            self.sides.path_may_change(id);
        }
    }

    fn route(&self, reach: &Reach, control: ControlState) -> Result<Route, SqlFault> {
        let phase = control.phase;
        // Where no read is shifted or sampled, nobody asks.
        let fresh = !phase.samples() || self.relations.is_fresh(phase.primary());
        reach.route(control, fresh).inspect_err(|fault| {
            if fault.kind == FaultKind::Refused {
                self.metrics.refused(fault.reason);
            }
        })
    }
}

impl<S: std::fmt::Debug> std::fmt::Debug for Routed<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routed").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S> Service<Read> for Routed<S>
where
    S: Service<Read, Response = ReadAnswer, Error = SqlFault>,
    S::Future: Send + 'static,
{
    type Response = ReadAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, read: Read) -> Self::Future {
        match self.read_route(&read) {
            Ok(route) => Box::pin(self.inner.call(Read { route, ..read })),
            Err(fault) => Box::pin(async move { Err(fault) }),
        }
    }
}

impl<S> Service<Write> for Routed<S>
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
        match self.write_route(&write) {
            Ok(route) => Box::pin(self.inner.call(Write { route, ..write })),
            Err(fault) => Box::pin(async move { Err(fault) }),
        }
    }
}
