//! Runs a read on a side, seen by operators.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower::{Service, service_fn};
use tracing::Instrument;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::ports::{Database, ReadRequest};
use crate::stack::call::{Read, ReadAnswer};
use crate::stack::watch::Watch;
use crate::telemetry::metrics::Purpose;

/// Which side answers a read.
pub(super) type SideOf = fn(&Read) -> Result<Side, SqlFault>;

type Answered = BoxFuture<'static, Result<ReadAnswer, SqlFault>>;

/// Runs reads on the side that `side_of` names.
pub(super) fn reads(
    databases: Sides<Arc<dyn Database>>,
    watch: Watch,
    side_of: SideOf,
) -> impl Service<Read, Response = ReadAnswer, Error = SqlFault, Future = Answered> + Clone {
    service_fn(move |read: Read| match side_of(&read) {
        Ok(side) => read_on(side, databases.of(side), &watch, read),
        Err(fault) => std::future::ready(Err(fault)).boxed(),
    })
}

/// The side of its route: the primary of the phase that the call was admitted under, or the side
/// that owns what is not migrated.
pub(super) fn routed(read: &Read) -> Result<Side, SqlFault> {
    Ok(read.route.side)
}

/// The side that follows. Which reads may come here is decided by `shift`.
pub(super) fn following(read: &Read) -> Result<Side, SqlFault> {
    read.control.phase.shadow().ok_or_else(|| {
        let message = format!("no side follows in {}", read.control.phase);
        SqlFault::new(FaultKind::Internal, Reason::ShiftNoTarget, message)
    })
}

fn read_on(side: Side, database: &Arc<dyn Database>, watch: &Watch, read: Read) -> Answered {
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
