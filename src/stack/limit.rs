//! Bounds the calls in progress. What there is no room for is refused at once: a queue here
//! would only hide from callers what they should know.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::ports::AnswerStream;
use crate::stack::call::{
    ReadAnswer, ReadCall, TransactionAnswer, TransactionCall, WriteCall, Written,
};

/// Calls that may be in progress at once. Shared by all kinds of calls.
#[derive(Debug, Clone)]
pub struct Permits {
    free: Arc<Semaphore>,
    calls_max: usize,
}

/// Lets a call through if there is room for it.
#[derive(Debug, Clone)]
pub struct Limit<S> {
    inner: S,
    permits: Permits,
}

/// A call that the limit can judge.
pub trait Limited {
    /// A call inside a transaction holds a connection already: refusing it would only keep
    /// that connection longer.
    fn has_room_already(&self) -> bool;
}

/// An answer that may outlive its call.
pub trait Hold {
    /// Gives the permit back when the answer has ended.
    #[must_use]
    fn hold(self, permit: OwnedSemaphorePermit) -> Self;
}

// === impl Permits ===

impl Permits {
    /// Room for so many calls.
    pub fn new(calls_max: usize) -> Self {
        let calls_max = calls_max.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(calls_max)), calls_max }
    }

    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, SqlFault> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let message = format!("{} calls are in progress already", self.calls_max);
            SqlFault::new(FaultKind::LimitExceeded, Reason::LimitCalls, message)
                .with_hint("try again later, or raise limits.calls_max")
                .retryable()
        })
    }
}

// === impl Limit ===

impl<S> Limit<S> {
    /// Puts a limit before a service.
    pub fn new(inner: S, permits: Permits) -> Self {
        Self { inner, permits }
    }
}

impl<S, C> Service<C> for Limit<S>
where
    S: Service<C, Error = SqlFault>,
    S::Future: Send + 'static,
    S::Response: Hold,
    C: Limited,
{
    type Response = S::Response;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<S::Response, SqlFault>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: C) -> Self::Future {
        if call.has_room_already() {
            return Box::pin(self.inner.call(call));
        }
        match self.permits.take() {
            Ok(permit) => {
                let answer = self.inner.call(call);
                Box::pin(async move { Ok(answer.await?.hold(permit)) })
            }
            Err(fault) => Box::pin(async move { Err(fault) }),
        }
    }
}

// === impl Limited, Hold ===

impl Limited for ReadCall {
    fn has_room_already(&self) -> bool {
        self.transaction.is_some_and(|it| it.id().is_some())
    }
}

impl Limited for WriteCall {
    fn has_room_already(&self) -> bool {
        self.transaction.is_some_and(|it| it.id().is_some())
    }
}

impl Limited for TransactionCall {
    fn has_room_already(&self) -> bool {
        !matches!(self, Self::Begin(..))
    }
}

impl Hold for TransactionAnswer {
    fn hold(self, _: OwnedSemaphorePermit) -> Self {
        self
    }
}

impl Hold for Written {
    fn hold(self, _: OwnedSemaphorePermit) -> Self {
        self
    }
}

impl Hold for ReadAnswer {
    fn hold(self, permit: OwnedSemaphorePermit) -> Self {
        let Self { stream: AnswerStream { columns, batches }, .. } = self;
        let batches = batches
            .inspect(move |_| {
                // Named so that the permit lives as long as the stream.
                let _held = &permit;
            })
            .boxed();
        Self { stream: AnswerStream { columns, batches }, ..self }
    }
}
