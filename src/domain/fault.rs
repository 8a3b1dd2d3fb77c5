//! What went wrong with a call, on which side, and what is known of its effect.

use std::fmt;

use crate::domain::consistency::Token;
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::sqlstate::{self, class};

/// Lost connections, resources, operators, the system underneath, and the server itself.
const OF_THE_SERVER: [&str; 5] = [
    class::CONNECTION_EXCEPTION,
    class::INSUFFICIENT_RESOURCES,
    class::OPERATOR_INTERVENTION,
    class::SYSTEM_ERROR,
    class::INTERNAL_ERROR,
];
/// A transaction was idle for too long, or took too long; a session was idle for too long.
const SESSION_ENDS: [&str; 3] = [
    sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    sqlstate::TRANSACTION_TIMEOUT,
    sqlstate::IDLE_SESSION_TIMEOUT,
];

/// What is known about the effect of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was changed.
    NotApplied,
    /// The change was made, though the call failed.
    Applied,
    /// Nobody can say.
    Unknown,
}

/// Why a call failed, in the terms that the caller's error code is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The database refused; `sqlstate` says why.
    Database,
    /// The call itself is wrong: a value that does not fit, an unknown statement name.
    InvalidArgument,
    /// Segue refuses such a statement; `reason` names the rule.
    Refused,
    /// Something named by the call does not exist: a transaction, a statement.
    NotFound,
    /// A state forbids it: an idempotency key with other content.
    Precondition,
    /// A limit of segue was passed: rows, bytes, parameters, open transactions.
    LimitExceeded,
    /// The deadline passed.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// The statement was surely not sent: no connection, shutting down.
    Unavailable,
    /// The connection was lost after the statement had been sent.
    ConnectionLost,
    /// A fault of segue's own.
    Internal,
}

/// Functions of PostgreSQL by which errors are told apart that have one code. Unlike messages,
/// their names are not translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routine {
    /// `RevalidateCachedQuery`: a prepared statement would have other columns now.
    Revalidates,
    /// `op_error`: there is no such operator.
    NoOperator,
    /// `IteratorConcat`: JSON values that cannot be concatenated.
    JsonConcat,
    /// Any other, or none was named.
    Other,
}

// === impl Routine ===

impl Routine {
    /// By the name that the server gives.
    pub fn of_name(name: Option<&str>) -> Self {
        match name {
            Some("RevalidateCachedQuery") => Self::Revalidates,
            Some("op_error") => Self::NoOperator,
            Some("IteratorConcat") => Self::JsonConcat,
            _ => Self::Other,
        }
    }
}

/// A failed call. `message` is lower case, without a full stop, and names the value
/// and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlFault {
    /// The class that the error code is chosen by.
    pub kind: FaultKind,
    /// Five characters; empty where no database spoke.
    pub sqlstate: String,
    /// The function of the server that spoke, where it tells what the code does not.
    pub routine: Routine,
    /// What went wrong.
    pub message: String,
    /// The server's DETAIL.
    pub detail: String,
    /// The server's HINT, or the way out.
    pub hint: String,
    /// Character position in the statement from 1; 0 where unknown.
    pub position: u32,
    /// The constraint, table and so on that the server named.
    pub schema: String,
    /// As `schema`.
    pub table: String,
    /// As `schema`.
    pub column: String,
    /// As `schema`.
    pub constraint: String,
    /// The side that failed, where one did.
    pub side: Option<Side>,
    /// Whether the same call may succeed if it is made again.
    pub retryable: bool,
    /// What is known of the effect.
    pub outcome: Outcome,
    /// A stable name of segue's own refusals, such as `refused.ddl`.
    pub reason: Reason,
    /// What a later read must bring to be sure to see what became of the call.
    pub must_see: Option<Box<Token>>,
}

impl SqlFault {
    /// Whether a write was refused, with nothing applied, where the primary was thought to be:
    /// it is to be looked up again.
    pub fn says_look_again(&self) -> bool {
        let refused = self.reason == Reason::FenceNotPrimary
            || self.sqlstate == sqlstate::READ_ONLY_SQL_TRANSACTION;
        refused && self.outcome == Outcome::NotApplied
    }

    /// A fault of segue's own making: nothing was applied, and trying again as it is
    /// does not help.
    pub fn new(kind: FaultKind, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            sqlstate: String::new(),
            routine: Routine::Other,
            message: message.into(),
            detail: String::new(),
            hint: String::new(),
            position: 0,
            schema: String::new(),
            table: String::new(),
            column: String::new(),
            constraint: String::new(),
            side: None,
            retryable: false,
            outcome: Outcome::NotApplied,
            reason,
            must_see: None,
        }
    }

    /// Whether the session has ended under it: a limit of time of the server's, an operator, the network.
    pub fn ended_its_session(&self) -> bool {
        self.kind == FaultKind::ConnectionLost || SESSION_ENDS.contains(&self.sqlstate.as_str())
    }

    /// Whether the side itself is unwell, rather than the statement being wrong there.
    pub fn is_of_side(&self) -> bool {
        match self.kind {
            FaultKind::Unavailable
            | FaultKind::ConnectionLost
            | FaultKind::DeadlineExceeded
            | FaultKind::Internal => true,
            FaultKind::Database => {
                let class = OF_THE_SERVER.iter().any(|class| self.sqlstate.starts_with(class));
                class && self.sqlstate != sqlstate::QUERY_CANCELED
            }
            FaultKind::InvalidArgument
            | FaultKind::Refused
            | FaultKind::NotFound
            | FaultKind::Precondition
            | FaultKind::LimitExceeded
            | FaultKind::Cancelled => false,
        }
    }

    /// The same with the way out.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same, on a side.
    #[must_use]
    pub fn on(mut self, side: Side) -> Self {
        self.side = Some(side);
        self
    }

    /// The same with another outcome.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same, marked as worth another try.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
}

impl fmt::Display for SqlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(side) = self.side {
            write!(f, "{side}: ")?;
        }
        f.write_str(&self.message)?;
        if !self.sqlstate.is_empty() {
            write!(f, " (SQLSTATE {})", self.sqlstate)?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlFault {}
