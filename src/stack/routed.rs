//! Finds the side that a call goes to, by the relations that its statements touch.
//!
//! What they touch was found out once for each statement and catalogue; here it is met with the
//! phase that the call was admitted under.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;

use crate::domain::control::ControlState;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reach::{Reach, Route};
use crate::ports::relations::Relations;
use crate::stack::call::{Read, ReadAnswer, Write, Written};
use crate::statement::Analysis;
use crate::telemetry::metrics::Metrics;

/// Gives calls their route, for `inner`.
#[derive(Clone)]
pub struct Routed<S> {
    inner: S,
    relations: Arc<dyn Relations>,
    metrics: Metrics,
}

// === impl Routed ===

impl<S> Routed<S> {
    /// Goes by what `relations` tells.
    pub fn new(inner: S, relations: Arc<dyn Relations>, metrics: Metrics) -> Self {
        Self { inner, relations, metrics }
    }

    fn read_route(&self, read: &Read) -> Result<Route, SqlFault> {
        let reach = self.reach(&read.analysis, read.control);
        self.route(&reach, read.control)
    }

    fn write_route(&self, write: &Write) -> Result<Route, SqlFault> {
        let control = write.pass.control;
        match write.analyses.as_slice() {
            [only] => self.route(&self.reach(only, control), control),
            all => {
                let mut together = Reach { pure: true, ..Reach::default() };
                for analysis in all {
                    together.absorb(&self.reach(analysis, control));
                }
                self.route(&together, control)
            }
        }
    }

    fn reach(&self, analysis: &Analysis, control: ControlState) -> Arc<Reach> {
        let reach = self.relations.reach(analysis, control.phase);
        if !reach.undeclared.is_empty() && control.phase.captures() {
            self.relations.note(analysis, &reach);
        }
        reach
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
