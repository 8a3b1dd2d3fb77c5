//! How an operation stands, whichever sidecar runs or ran it, and wherever it is kept.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::timeout;

use crate::app::runs::Operations;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::operation::{Document, FoundOperation, OperationId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::grpc::operations::{self as messages, encoded};
use crate::grpc::proto::operation::Request;
use crate::grpc::proto::{Operation, OperationState};
use crate::ports::ControlView;

/// For the side that is not the primary.
const OTHER_LIMIT: Duration = Duration::from_secs(2);

/// What was found.
pub(super) struct Found {
    pub(super) operation: Operation,
    /// Where.
    pub(super) side: Side,
    /// Whether the history has an event of it; nothing where that cannot be told.
    pub(super) is_recorded: Option<bool>,
}

// === impl Operations ===

impl Operations {
    /// What this sidecar runs, it knows; of the others the primary's database is asked first, and
    /// the other one where that has none, or one that has not come to its end: the primary may
    /// have changed since.
    pub(super) async fn find(&self, id: OperationId) -> Result<Found, SqlFault> {
        let primary = self.parts.control.current().phase.primary();
        if let Some(live) = self.live(id) {
            let operation = live.after(u64::MAX).0;
            return Ok(Found { operation, side: primary, is_recorded: None });
        }
        let there = self.parts.store.read(primary, id).await;
        if let Ok(Some(found)) = &there
            && (!found.stored.is_running || self.is_alive(found))
        {
            let is_recorded = Some(found.is_recorded);
            let operation = self.judged(found, is_recorded)?;
            return Ok(Found { operation, side: primary, is_recorded });
        }
        let other = self.parts.store.read(primary.other(), id).await;
        let is_known = there.is_ok() && other.is_ok();
        let failed = match (&there, &other) {
            (Err(fault), Err(_)) => return Err(fault.clone()),
            _ => there.as_ref().err().cloned(),
        };
        let (there, other) = (there.ok().flatten(), other.ok().flatten());
        let is_recorded = [&there, &other].into_iter().flatten().any(|it| it.is_recorded);
        let is_recorded = (is_recorded || is_known).then_some(is_recorded);
        let side = match (&there, &other) {
            (None, Some(_)) => primary.other(),
            (Some(here), Some(there)) if rank(there) > rank(here) => primary.other(),
            _ => primary,
        };
        let chosen = if side == primary { there } else { other };
        match (chosen, failed) {
            (Some(found), _) => {
                let operation = self.judged(&found, is_recorded)?;
                Ok(Found { operation, side, is_recorded })
            }
            (None, Some(fault)) => Err(fault),
            (None, None) => Err(unknown(id)),
        }
    }

    /// A page of all that is kept: by the primary, and by the other side as long as that can be
    /// asked, where those are that were begun while it was the primary.
    pub(super) async fn list_page(&self, page: PageRequest) -> Result<Page<Document>, SqlFault> {
        let primary = self.parts.control.current().phase.primary();
        let store = &self.parts.store;
        let other = timeout(OTHER_LIMIT, store.list(primary.other(), page.clone()));
        let (here, there) = tokio::join!(store.list(primary, page.clone()), other);
        let (mut items, mut follow) = here.map(|it| (it.items, it.next.is_some()))?;
        if let Ok(Ok(there)) = there {
            follow |= there.next.is_some();
            let known: BTreeSet<OperationId> = items.iter().map(|it| it.stored.id).collect();
            items.extend(there.items.into_iter().filter(|it| !known.contains(&it.stored.id)));
        }
        items.sort_by_key(|it| (Reverse(it.stored.created_at), it.stored.id));
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        follow |= items.len() > size;
        items.truncate(size);
        let next = items.last().filter(|_| follow).map(|it| store.cursor(it));
        let mut documents = Vec::with_capacity(items.len());
        for found in items {
            let operation = match self.live(found.stored.id) {
                Some(live) => live.after(u64::MAX).0,
                None if found.stored.is_running => self.find(found.stored.id).await?.operation,
                None => self.judged(&found, Some(found.is_recorded))?,
            };
            documents.push(encoded(&operation));
        }
        Ok(Page { items: documents, next })
    }

    /// What is of this sidecar and does not run in it does not run at all.
    fn is_alive(&self, found: &FoundOperation) -> bool {
        found.is_alive && found.stored.member != self.parts.member
    }

    fn judged(
        &self,
        found: &FoundOperation,
        is_recorded: Option<bool>,
    ) -> Result<Operation, SqlFault> {
        let mut operation: Operation = messages::decoded(&found.stored.document)?;
        if found.stored.is_running {
            operation.cancellation = found.cancellation.clone().map(messages::cancellation);
            operation.cancellable &= operation.cancellation.is_none();
            if !self.is_alive(found) {
                abandon(&mut operation, is_recorded);
            }
        }
        Ok(operation)
    }
}

/// One that has ended says more, and then the one with more events.
fn rank(found: &FoundOperation) -> (bool, u64) {
    (!found.stored.is_running, found.stored.last_event)
}

fn abandon(operation: &mut Operation, is_recorded: Option<bool>) {
    let what = match (&operation.request, is_recorded) {
        (Some(Request::Cutover(asked)), _) if asked.rehearse => "nothing has changed",
        (Some(Request::Cutover(_)), Some(true)) => {
            "the switch was made, and the members follow it by themselves"
        }
        (Some(Request::Cutover(_)), Some(false)) => {
            "the switch was not made, and nothing has changed"
        }
        (Some(Request::Cutover(_)), None) => "`segue status` says which database is the primary",
        (Some(Request::Backfill(_)), _) => {
            "what was copied stands; start it again, and it goes on from there"
        }
        _ => "what was proven stands",
    };
    let name = &operation.member_name;
    operation.failure = format!("the sidecar {name} that ran it is gone; {what}");
    operation.state = OperationState::Abandoned.into();
    operation.cancellable = false;
}

fn unknown(id: OperationId) -> SqlFault {
    let message = format!("there is no operation {id}");
    SqlFault::new(FaultKind::NotFound, Reason::UnknownOperation, message)
        .with_hint("`segue operation list` shows those that are kept")
}
