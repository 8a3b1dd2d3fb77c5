//! Operations that are started by a call: they go on whether anyone listens or not, are kept in the
//! databases, and can be followed and cancelled by way of any sidecar.

mod copy;
mod find;
mod live;
mod prove;
mod record;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::cutover::Cutovers;
use crate::config::Config;
use crate::control::Control;
use crate::domain::cutover::{CutoverEnd, CutoverEvent, CutoverRequest};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::operation::{Cancellation, Document, Followed, OperationId, OperationRequest};
use crate::domain::page::{Page, PageRequest};
use crate::domain::reason::Reason;
use crate::domain::step::Asked;
use crate::grpc::operations::{self as messages, encoded};
use crate::grpc::proto::operation::Result as Outcome;
use crate::grpc::proto::operation_event::Event;
use crate::grpc::proto::{self, OperationState};
use crate::ports::ControlView;
use crate::ports::operations::{OperationAdmin, OperationStore};
use live::{Ending, Live};
use record::Recorder;

/// For keeping a new operation: without that it is not begun.
const CREATE_LIMIT: Duration = Duration::from_secs(5);
/// How long who cancels waits for the end.
const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at what another sidecar runs.
const LOOK: Duration = Duration::from_millis(250);

/// What operations are run by.
pub(super) struct Parts {
    pub(super) config: Arc<Config>,
    pub(super) control: Control,
    pub(super) member: MemberId,
    pub(super) store: Arc<dyn OperationStore>,
    pub(super) cutovers: Cutovers,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// Runs operations, and answers for those of others. Cloning shares it.
#[derive(Clone)]
pub(super) struct Operations {
    parts: Arc<Parts>,
    running: Arc<Mutex<BTreeMap<OperationId, Arc<Live>>>>,
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operations")
    }
}

// === impl Operations ===

impl Operations {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), running: Arc::default() }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<OperationId, Arc<Live>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self, id: OperationId) -> Option<Arc<Live>> {
        self.running().get(&id).cloned()
    }

    /// Registers it, keeps it, and lets it run.
    async fn start_one(
        &self,
        id: OperationId,
        request: OperationRequest,
        asked: Asked,
    ) -> Result<Document, SqlFault> {
        if self.live(id).is_some() {
            return self.told(id).await;
        }
        let Parts { control, member, store, config, .. } = &*self.parts;
        let name = &config.control.name;
        let operation = messages::begun(id, &request, &asked, (*member, name));
        let live = Arc::new(Live::new(id, *member, operation));
        self.register(&live, &request)?;
        let side = control.current().phase.primary();
        let (stored, _) = live.stored_after(0);
        let kept = timeout(CREATE_LIMIT, store.create(side, &stored)).await;
        match kept.unwrap_or_else(|_| Err(not_kept())) {
            Ok(true) => {}
            Ok(false) => {
                self.running().remove(&id);
                return self.told(id).await;
            }
            Err(fault) => {
                self.running().remove(&id);
                return Err(fault);
            }
        }
        tracing::info!(operation = %id, actor = asked.by, ?request, "an operation is started");
        let recorder = Recorder {
            live: Arc::clone(&live),
            store: Arc::clone(store),
            control: control.clone(),
            begun_on: side,
        };
        let registered = Arc::clone(&self.running);
        self.parts.tasks.spawn(async move {
            recorder.run().await;
            registered.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        });
        let (parts, running) = (Arc::clone(&self.parts), Arc::clone(&live));
        self.parts.tasks.spawn(async move { run(&parts, &running, request).await });
        Ok(encoded(&live.after(u64::MAX).0))
    }

    /// Copies and comparisons go one at a time in a sidecar: each takes sessions and memory.
    fn register(&self, live: &Arc<Live>, request: &OperationRequest) -> Result<(), SqlFault> {
        let mut running = self.running();
        let kind = messages::kind_of(request);
        let is_busy = |it: &&Arc<Live>| {
            let now = it.after(u64::MAX).0;
            now.kind() == kind && now.state() == OperationState::Running
        };
        let alone = !matches!(request, OperationRequest::Cutover(_));
        if let Some(other) = running.values().find(is_busy).filter(|_| alone) {
            let message = format!("operation {} of that kind runs in this sidecar", other.id);
            return Err(SqlFault::new(FaultKind::Precondition, Reason::OperationBusy, message)
                .with_hint("follow it with `segue operation watch`, or cancel it"));
        }
        running.insert(live.id, Arc::clone(live));
        Ok(())
    }

    async fn told(&self, id: OperationId) -> Result<Document, SqlFault> {
        Ok(encoded(&self.find(id).await?.operation))
    }

    async fn cancel_one(&self, id: OperationId, asked: Asked) -> Result<Document, SqlFault> {
        if let Some(live) = self.live(id) {
            ended(&live.after(u64::MAX).0)?;
            let Asked { by: actor, reason } = asked.clone();
            if !live.halt.ask(Cancellation { at: SystemTime::now(), actor, reason }) {
                return Err(too_late(id));
            }
        } else {
            let found = self.find(id).await?;
            ended(&found.operation)?;
            if found.is_recorded == Some(true) {
                return Err(too_late(id));
            }
            if !self.parts.store.ask_to_cancel(found.side, id, asked.clone()).await? {
                ended(&self.find(id).await?.operation)?;
            }
        }
        tracing::info!(operation = %id, actor = asked.by, "an operation is to be cancelled");
        let until = Instant::now() + CANCEL_LIMIT;
        loop {
            let now = self.find(id).await?.operation;
            match now.state() {
                OperationState::Running if Instant::now() < until => {
                    tokio::time::sleep(LOOK).await;
                }
                OperationState::Running | OperationState::Cancelled => return Ok(encoded(&now)),
                _ => {
                    ended(&now)?;
                }
            }
        }
    }
}

async fn run(parts: &Parts, live: &Arc<Live>, request: OperationRequest) {
    let _ending = Ending(live);
    match request {
        OperationRequest::Cutover(request) => cut_over(parts, live, request).await,
        OperationRequest::Backfill { tables, empty_target, accept } => {
            Box::pin(copy::run(parts, live, (tables, empty_target, accept))).await;
        }
        OperationRequest::Verify { tables, sample, repair } => {
            Box::pin(prove::run(parts, live, (tables, sample, repair))).await;
        }
    }
}

async fn cut_over(parts: &Parts, live: &Live, request: CutoverRequest) {
    let mut events = parts.cutovers.run(request, live.id, live.halt.clone());
    while let Some(event) = events.next().await {
        let state = match &event {
            CutoverEvent::Step { .. } => OperationState::Running,
            CutoverEvent::End { end, .. } => match end {
                CutoverEnd::Done | CutoverEnd::Rehearsed => OperationState::Succeeded,
                CutoverEnd::Refused { .. } => OperationState::Refused,
                CutoverEnd::CalledOff { .. } if live.halt.asked().is_some() => {
                    OperationState::Cancelled
                }
                CutoverEnd::CalledOff { .. } => OperationState::Failed,
            },
        };
        match messages::cutover_event(event) {
            messages::CutoverMessage::Step(step) => live.event(Event::CutoverStep(step)),
            messages::CutoverMessage::Result(result) => {
                let failure = match state {
                    OperationState::Refused => "a gate refused; see the gates".to_owned(),
                    _ => result.reason.clone(),
                };
                live.end(state, failure, Some(Outcome::CutoverResult(result)));
            }
        }
    }
}

fn not_kept() -> SqlFault {
    let message = format!("the primary did not keep the operation within {CREATE_LIMIT:?}");
    SqlFault::new(FaultKind::Unavailable, Reason::OperationNotKept, message)
        .with_hint("nothing was begun; try again with the same operation_id")
}

/// An error where it has ended.
fn ended(operation: &proto::Operation) -> Result<(), SqlFault> {
    if operation.state() == OperationState::Running {
        return Ok(());
    }
    let word = messages::state_word(operation);
    let message = format!("operation {} has ended ({word}) and cannot be cancelled", operation.id);
    Err(SqlFault::new(FaultKind::Precondition, Reason::OperationEnded, message)
        .with_hint("`segue operation watch` shows what became of it"))
}

fn too_late(id: OperationId) -> SqlFault {
    let message =
        format!("operation {id} cannot be cancelled any more: the switch has begun, or was made");
    SqlFault::new(FaultKind::Precondition, Reason::OperationTooLate, message)
        .with_hint("wait for its end; `segue rollback` makes the source the primary again")
}

impl OperationAdmin for Operations {
    fn start(
        &self,
        id: OperationId,
        request: OperationRequest,
        asked: Asked,
    ) -> BoxFuture<'_, Result<Document, SqlFault>> {
        self.start_one(id, request, asked).boxed()
    }

    fn get(&self, id: OperationId) -> BoxFuture<'_, Result<Document, SqlFault>> {
        self.told(id).boxed()
    }

    fn list(&self, page: PageRequest) -> BoxFuture<'_, Result<Page<Document>, SqlFault>> {
        self.list_page(page).boxed()
    }

    fn watch(&self, id: OperationId, after: u64) -> BoxStream<'static, Result<Followed, SqlFault>> {
        watch::follow(self.clone(), id, after)
    }

    fn cancel(&self, id: OperationId, asked: Asked) -> BoxFuture<'_, Result<Document, SqlFault>> {
        self.cancel_one(id, asked).boxed()
    }
}
