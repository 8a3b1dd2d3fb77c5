//! A call as it goes through the stack.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::answer::RowBatch;
use crate::domain::control::ControlState;
use crate::domain::key::WriteId;
use crate::domain::pg_type::Column;
use crate::domain::value::Value;

/// SQL text with its parameters, ready for a database.
#[derive(Debug, Clone)]
pub struct BoundStatement {
    /// One SQL statement with `$1`, `$2`, ….
    pub sql: Arc<str>,
    /// The name from the query files, where it came by name.
    pub name: Option<Arc<str>>,
    /// One for each `$n`.
    pub params: Arc<[Value]>,
}

/// Limits of one answer. What passes them fails with `LimitExceeded`; it is never cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultLimits {
    /// Rows of one answer.
    pub rows_max: u64,
    /// Bytes of one answer's cells.
    pub bytes_max: u64,
}

/// What every call carries besides its statement.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// Callers with the same key see the same side.
    pub routing_key: Option<Arc<str>>,
    /// Set once the caller has gone away; the statement is then cancelled.
    pub cancelled: tokio_util::sync::CancellationToken,
    /// Limits of the answer.
    pub limits: ResultLimits,
    /// What a read of a caller was admitted under: no session answers it that has found another
    /// primary since.
    pub admitted: Option<ControlState>,
}

/// Makes a repeated write have effect once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key, 1 to 255 bytes.
    pub key: Arc<str>,
    /// SHA-256 over statement texts and parameters: the same key with another is a fault.
    pub content: [u8; 32],
}

/// 128 random bits that name an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub u128);

/// Options of a new transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionOptions {
    /// Isolation; `None` is the database's default.
    pub isolation: Option<Isolation>,
    /// Refuses writes.
    pub read_only: bool,
    /// Time without a call after which it is rolled back.
    pub idle_max: Duration,
    /// Time since its begin after which it is rolled back.
    pub total_max: Duration,
}

/// Isolation levels that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// READ COMMITTED.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// SERIALIZABLE.
    Serializable,
}

/// The transaction that a call runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InTransaction {
    /// Which one.
    pub which: Which,
    /// It is committed after the call's statements.
    pub commits: bool,
}

/// Which transaction a call runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// An open one.
    Open(TransactionId),
    /// One that the call begins.
    New(TransactionOptions),
}

impl InTransaction {
    /// A call in an open transaction that stays open.
    pub fn open(id: TransactionId) -> Self {
        Self { which: Which::Open(id), commits: false }
    }

    /// The id, where it is open already.
    pub fn id(&self) -> Option<TransactionId> {
        match self.which {
            Which::Open(id) => Some(id),
            Which::New(_) => None,
        }
    }
}

/// The answer to one statement of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteItem {
    /// Rows inserted, updated or deleted.
    pub affected_rows: u64,
    /// Columns of `RETURNING`; empty otherwise.
    pub columns: Arc<[Column]>,
    /// Rows of `RETURNING`.
    pub rows: RowBatch,
}

/// What became of a transaction that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// What the outbox names its rows by.
    pub write_id: WriteId,
    /// Whether it may have written anything. Without a transaction id it surely has not.
    pub wrote: bool,
}

/// The answer to a write of one or more statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteAnswer {
    /// One for each statement.
    pub items: Vec<WriteItem>,
    /// What the outbox names its rows by.
    pub write_id: WriteId,
    /// An earlier call with the same idempotency key made the write, and had this answer.
    pub already_applied: bool,
    /// Whether it may have written anything. Where the statements do not look like it, the
    /// database was asked: functions write as well.
    pub wrote: bool,
}
