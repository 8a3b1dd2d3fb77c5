//! Runs a read on the side of its route: the primary of the phase that the call was admitted under,
//! or the side that owns what is not migrated.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::Service;
use tracing::Instrument;

use crate::domain::fault::SqlFault;
use crate::domain::side::{Side, Sides};
use crate::ports::{Database, ReadRequest};
use crate::stack::call::{Read, ReadAnswer};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::Purpose;

/// Runs reads on the primary.
#[derive(Clone)]
pub struct PrimaryRead {
    databases: Sides<Arc<dyn Database>>,
    watch: Watch,
}

// === impl PrimaryRead ===

impl PrimaryRead {
    /// Reads from these.
    pub fn new(databases: Sides<Arc<dyn Database>>, watch: Watch) -> Self {
        Self { databases, watch }
    }
}

impl std::fmt::Debug for PrimaryRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrimaryRead")
    }
}

impl Service<Read> for PrimaryRead {
    type Response = ReadAnswer;
    type Error = SqlFault;
    type Future = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SqlFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, read: Read) -> Self::Future {
        let side = read.route.side;
        read_on(side, self.databases.of(side), &self.watch, read)
    }
}

/// Runs a read on a side, seen by operators.
pub(super) fn read_on(
    side: Side,
    database: &Arc<dyn Database>,
    watch: &Watch,
    read: Read,
) -> BoxFuture<'static, Result<ReadAnswer, SqlFault>> {
    let database = Arc::clone(database);
    let watched = watch.begin(side, Purpose::Read, &read.analysis.summary);
    watched.named(read.statement.name.as_deref());
    let shares = read.analysis.leaves_nothing && !read.route.leaves_traces;
    let request = ReadRequest { statement: read.statement, context: read.context };
    let answer = async move {
        match shares {
            true => database.read_shared(request).await,
            false => database.read(request).await,
        }
    };
    Box::pin(async move {
        let answer = answer.instrument(watched.span()).await;
        let stream = watched.note(answer)?;
        Ok(ReadAnswer::new(side, watched.follow(stream)))
    })
}
