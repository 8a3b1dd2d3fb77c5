//! An operation that this sidecar runs: how it stands, what has happened, and who is told.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::app::halt::Halt;
use crate::domain::fleet::MemberId;
use crate::domain::operation::{OperationId, StoredEvent, StoredOperation};
use crate::grpc::operations::encoded;
use crate::grpc::proto::operation::Result as Outcome;
use crate::grpc::proto::operation_event::Event;
use crate::grpc::proto::{Operation, OperationEvent, OperationState};
use crate::grpc::words::at;

/// Events that are kept of an operation. A cutover has some 25; a backfill has one a table, and one
/// for each disturbance.
const EVENTS_MAX: usize = 1000;

/// It is shared by who runs it, who records it and who follows it.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: OperationId,
    pub(super) member: MemberId,
    pub(super) halt: Halt,
    created_at: SystemTime,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    operation: Operation,
    events: Vec<OperationEvent>,
}

// === impl Live ===

impl Live {
    pub(super) fn new(id: OperationId, member: MemberId, operation: Operation) -> Self {
        let created_at = operation.created_at.and_then(|it| SystemTime::try_from(it).ok());
        let created_at = created_at.unwrap_or_else(SystemTime::now);
        let state = Mutex::new(State { operation, events: Vec::new() });
        Self {
            id,
            member,
            halt: Halt::default(),
            created_at,
            state,
            changed: watch::Sender::new(()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.send_replace(());
    }

    /// Woken by each change.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Something happened. Never waits.
    pub(super) fn event(&self, event: Event) {
        self.change(|state| {
            if state.events.len() >= EVENTS_MAX {
                state.operation.events_dropped += 1;
                return;
            }
            state.operation.last_event += 1;
            let number = state.operation.last_event;
            state.events.push(OperationEvent {
                number,
                at: at(SystemTime::now()),
                event: Some(event),
            });
        });
    }

    /// How far it is.
    pub(super) fn progress(&self, text: String, share: Option<f64>) {
        self.change(|state| {
            state.operation.progress = text;
            state.operation.progress_share = share;
        });
    }

    /// It has ended; the first end stands.
    pub(super) fn end(&self, ended: OperationState, failure: String, outcome: Option<Outcome>) {
        self.change(|state| {
            let operation = &mut state.operation;
            if operation.state() != OperationState::Running {
                return;
            }
            operation.state = ended.into();
            operation.ended_at = at(SystemTime::now());
            operation.failure = failure;
            operation.result = outcome;
        });
    }

    /// How it stands, with the events after one.
    pub(super) fn after(&self, number: u64) -> (Operation, Vec<OperationEvent>) {
        let state = self.state();
        let mut operation = state.operation.clone();
        let runs = operation.state() == OperationState::Running;
        operation.cancellable = runs && self.halt.is_open();
        operation.cancellation = self.halt.asked().map(crate::grpc::operations::cancellation);
        let skipped = usize::try_from(number).unwrap_or(usize::MAX).min(state.events.len());
        (operation, state.events[skipped..].to_vec())
    }

    /// The same as it is kept.
    pub(super) fn stored_after(&self, number: u64) -> (StoredOperation, Vec<StoredEvent>) {
        let (operation, events) = self.after(number);
        let stored = StoredOperation {
            id: self.id,
            is_running: operation.state() == OperationState::Running,
            created_at: self.created_at,
            member: self.member,
            last_event: operation.last_event,
            document: encoded(&operation),
        };
        let event = |it: &OperationEvent| StoredEvent { number: it.number, document: encoded(it) };
        (stored, events.iter().map(event).collect())
    }
}

/// Ends an operation whose task ends without having said how.
pub(super) struct Ending<'a>(pub(super) &'a Live);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let failure = "it ended unexpectedly; the log of the sidecar says why".to_owned();
        self.0.end(OperationState::Failed, failure, None);
    }
}
