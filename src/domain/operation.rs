//! What operators start and can follow: cutovers, rollbacks, backfills, verifies.

use std::fmt;
use std::time::SystemTime;

use crate::domain::cutover::CutoverRequest;
use crate::domain::fleet::MemberId;

/// 128 random bits that name an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(pub u128);

impl fmt::Display for OperationId {
    /// As a UUID in its canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_u128(self.0))
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum OperationRequest {
    /// A change of the primary.
    Cutover(CutoverRequest),
    /// A copy of what was there before writes were captured.
    Backfill {
        /// Only these tables; all where there are none.
        tables: Vec<String>,
        /// The target's tables are emptied first.
        empty_target: bool,
        /// Findings of the preflight that are passed over.
        accept: Vec<String>,
    },
    /// A comparison of both sides.
    Verify {
        /// Only these tables; all where there are none.
        tables: Vec<String>,
        /// The share of the chunks, above 0 and up to 1.
        sample: f64,
        /// Rows that differ are reconciled.
        repair: bool,
    },
}

/// An operation or an event of it, as the protocol encodes it: what is kept is what is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document(pub Vec<u8>);

/// An operation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOperation {
    /// Its id.
    pub id: OperationId,
    /// Whether it has not ended, as far as its sidecar has said.
    pub is_running: bool,
    /// When it was started, by the clock of its sidecar: the same in both databases.
    pub created_at: SystemTime,
    /// The sidecar that runs it.
    pub member: MemberId,
    /// The number of its latest event.
    pub last_event: u64,
    /// All that is told of it.
    pub document: Document,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its number, from 1.
    pub number: u64,
    /// What is told of it.
    pub document: Document,
}

/// That somebody asked to cancel an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancellation {
    /// When.
    pub at: SystemTime,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// An operation as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOperation {
    /// What is kept of it.
    pub stored: StoredOperation,
    /// Whether the lease of its sidecar lasts.
    pub is_alive: bool,
    /// Whether the history has an event of it: the switch of a cutover was made, or its rehearsal
    /// came to its end.
    pub is_recorded: bool,
    /// That it is to be cancelled.
    pub cancellation: Option<Cancellation>,
}

/// Part of what is told to who follows an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The operation as it stands after the events.
    pub operation: Document,
    /// Events that were not told before.
    pub events: Vec<Document>,
}
