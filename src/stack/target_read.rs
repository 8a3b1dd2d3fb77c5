//! Runs a read on the side that follows. Which reads may come here is decided by `shift`.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Sides;
use crate::ports::Database;
use crate::stack::call::{Read, ReadAnswer};
use crate::stack::primary_read::read_on;
use crate::stack::watch::Watch;

/// Runs reads on the shadow.
#[derive(Clone)]
pub struct TargetRead {
    databases: Sides<Arc<dyn Database>>,
    watch: Watch,
}

// === impl TargetRead ===

impl TargetRead {
    /// Reads from these.
    pub fn new(databases: Sides<Arc<dyn Database>>, watch: Watch) -> Self {
        Self { databases, watch }
    }
}

impl std::fmt::Debug for TargetRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TargetRead")
    }
}

impl Service<Read> for TargetRead {
    type Response = ReadAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, read: Read) -> Self::Future {
        match read.control.phase.shadow() {
            Some(side) => read_on(side, self.databases.of(side), &self.watch, read),
            None => Box::pin(async move {
                let message = format!("no side follows in {}", read.control.phase);
                Err(SqlFault::new(FaultKind::Internal, Reason::ShiftNoTarget, message))
            }),
        }
    }
}
