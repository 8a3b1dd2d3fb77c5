//! Following an operation: from its first event or after a later one, whichever sidecar runs it.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::time::{sleep, timeout};

use crate::app::runs::{LOOK, Operations};
use crate::domain::fault::SqlFault;
use crate::domain::operation::{Document, Followed, OperationId};
use crate::grpc::operations::encoded;
use crate::grpc::proto::OperationState;
use crate::ports::ControlView;

/// Events of one answer.
const EVENTS_AT_ONCE: u32 = 500;

struct Follower {
    operations: Operations,
    id: OperationId,
    after: u64,
    told: Option<Document>,
    ended: bool,
}

/// Ends with the operation, or with an error.
pub(super) fn follow(
    operations: Operations,
    id: OperationId,
    after: u64,
) -> BoxStream<'static, Result<Followed, SqlFault>> {
    let follower = Follower { operations, id, after, told: None, ended: false };
    let next = |mut follower: Follower| async move {
        if follower.ended {
            return None;
        }
        let followed = follower.next().await;
        follower.ended |= followed.is_err();
        Some((followed, follower))
    };
    stream::unfold(follower, next).boxed()
}

// === impl Follower ===

impl Follower {
    /// Waits until there is something new.
    async fn next(&mut self) -> Result<Followed, SqlFault> {
        loop {
            let woken = self.operations.live(self.id).map(|live| (live.subscribe(), live));
            let (operation, events, last, is_over) = match &woken {
                Some((_, live)) => {
                    let (operation, events) = live.after(self.after);
                    let last = events.last().map_or(self.after, |it| it.number);
                    let is_over = operation.state() != OperationState::Running;
                    let events = events.iter().map(encoded).collect();
                    (encoded(&operation), events, last, is_over)
                }
                None => self.kept().await?,
            };
            let is_new = self.told.as_ref() != Some(&operation) || !events.is_empty();
            if is_new || is_over {
                self.after = last;
                self.ended = is_over;
                self.told = Some(operation.clone());
                return Ok(Followed { operation, events });
            }
            match woken {
                // Ended or changed meanwhile, it is looked at again at once.
                Some((mut changed, _)) => {
                    let _ = timeout(LOOK, changed.changed()).await;
                }
                None => sleep(LOOK).await,
            }
        }
    }

    /// What the databases have. Events come from the side that the operation was found on.
    async fn kept(&self) -> Result<(Document, Vec<Document>, u64, bool), SqlFault> {
        let found = self.operations.find(self.id).await?;
        let store = &self.operations.parts.store;
        let mut events =
            store.events(found.side, self.id, self.after, EVENTS_AT_ONCE).await.unwrap_or_default();
        let primary = self.operations.parts.control.current().phase.primary();
        if events.is_empty() && found.operation.last_event > self.after && found.side == primary {
            events = store.events(primary.other(), self.id, self.after, EVENTS_AT_ONCE).await?;
        }
        let last = events.last().map_or(self.after, |it| it.number);
        let is_all = last >= found.operation.last_event || events.is_empty();
        let is_over = is_all && found.operation.state() != OperationState::Running;
        let events = events.into_iter().map(|it| it.document).collect();
        Ok((encoded(&found.operation), events, last, is_over))
    }
}
