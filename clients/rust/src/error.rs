//! What a call can fail with.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use tonic::Code;

/// What is known about the effect of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing was changed.
    NotApplied,
    /// The change was committed; only the answer could not be given.
    Applied,
    /// No one can tell. Look before you repeat the call.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotApplied => "not_applied",
            Self::Applied => "applied",
            Self::Unknown => "unknown",
        })
    }
}

/// One of the two databases of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The database that is left.
    Source,
    /// The database that is moved to.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// What is known of a call that failed. Each variant of [`Error`] has one, and gives its fields by `Deref`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// SQLSTATE, five characters; empty where the error did not come from a database.
    pub sqlstate: String,
    /// The database's DETAIL.
    pub detail: String,
    /// The database's HINT, or what to do.
    pub hint: String,
    /// The character in the statement, from 1; 0 where it is not known.
    pub position: u32,
    /// The constraint that the database named, if any.
    pub constraint: String,
    /// The schema that the database named, if any.
    pub schema: String,
    /// The table that the database named, if any.
    pub table: String,
    /// The column that the database named, if any.
    pub column: String,
    /// The database that the error came from.
    pub side: Option<Side>,
    /// The stable name of an error of segue's own, such as `refused.ddl`; `client` for one of this crate's and
    /// `connection` for one of the connection.
    pub reason: String,
    /// Whether the same call may succeed when it is made again; inside a transaction, the whole transaction.
    pub retryable: bool,
    /// How long to wait before that.
    pub retry_delay: Option<Duration>,
    /// Whether the call had an effect.
    pub outcome: Outcome,
    pub(crate) code: Code,
    pub(crate) token: String,
    /// No answer came, so that the error is this side's own.
    pub(crate) lost: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            sqlstate: String::new(),
            detail: String::new(),
            hint: String::new(),
            position: 0,
            constraint: String::new(),
            schema: String::new(),
            table: String::new(),
            column: String::new(),
            side: None,
            reason: reason.to_owned(),
            retryable: false,
            retry_delay: None,
            outcome: Outcome::NotApplied,
            code,
            token: String::new(),
            lost: false,
        }
    }

    /// Nothing of the call was applied, and it may succeed when it is made again.
    pub(crate) fn repeatable(&self) -> bool {
        self.retryable && self.outcome == Outcome::NotApplied
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(side) = self.side {
            write!(f, "{side}: ")?;
        }
        f.write_str(&self.message)?;
        if !self.sqlstate.is_empty() {
            write!(f, " (SQLSTATE {})", self.sqlstate)?;
        } else if !self.reason.is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// A call that failed, by its class. The fields of [`Failure`] can be read from each: `error.sqlstate`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The crate was used in a way that cannot work, or an answer does not fit the type that was asked for.
    Usage(Box<Failure>),
    /// SQLSTATE 23505.
    UniqueViolation(Box<Failure>),
    /// Another constraint was violated.
    Integrity(Box<Failure>),
    /// A value does not fit.
    Data(Box<Failure>),
    /// The statement is wrong.
    Programming(Box<Failure>),
    /// The database or segue does not have it, such as DDL through the sidecar.
    NotSupported(Box<Failure>),
    /// SQLSTATE 40001: run the whole transaction again.
    SerializationFailure(Box<Failure>),
    /// SQLSTATE 40P01: run the whole transaction again.
    Deadlock(Box<Failure>),
    /// The call took longer than its deadline.
    DeadlineExceeded(Box<Failure>),
    /// The statement was cancelled in the database.
    Cancelled(Box<Failure>),
    /// The sidecar, or the database behind it, cannot be reached.
    Unavailable(Box<Failure>),
    /// No one can tell whether the write was made. Look before you repeat it.
    OutcomeUnknown(Box<Failure>),
    /// Something else outside of the program's control.
    Operational(Box<Failure>),
    /// The database is in a state that does not allow the statement, or an answer cannot be read.
    Internal(Box<Failure>),
}

impl Error {
    /// Whether a transaction that failed so may be run again: nothing of it was applied, and it may succeed the
    /// next time.
    pub fn is_retryable(&self) -> bool {
        self.repeatable()
    }

    /// What is known of it.
    pub fn failure(&self) -> &Failure {
        self
    }

    /// An error of yours, in a transaction's function, that says that nothing was applied and that the transaction may
    /// be run again.
    pub fn retry(message: impl Into<String>) -> Self {
        let mut failure = Failure::new(Code::Aborted, CALLER, message);
        failure.retryable = true;
        failure.into()
    }

    /// A wrong use, before anything was sent.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Code::InvalidArgument, CLIENT, message).into()
    }
}

impl Deref for Error {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        match self {
            Self::Usage(it)
            | Self::UniqueViolation(it)
            | Self::Integrity(it)
            | Self::Data(it)
            | Self::Programming(it)
            | Self::NotSupported(it)
            | Self::SerializationFailure(it)
            | Self::Deadlock(it)
            | Self::DeadlineExceeded(it)
            | Self::Cancelled(it)
            | Self::Unavailable(it)
            | Self::OutcomeUnknown(it)
            | Self::Operational(it)
            | Self::Internal(it) => it,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure().fmt(f)
    }
}

impl std::error::Error for Error {}

/// The reason of what this side found wrong before anything was sent.
pub(crate) const CLIENT: &str = "client";
/// The reason of what the caller's own function said.
const CALLER: &str = "caller";
/// The reason of what happened on the way.
pub(crate) const CONNECTION: &str = "connection";

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        class_of(&failure)(Box::new(failure))
    }
}

type Class = fn(Box<Failure>) -> Error;

fn class_of(failure: &Failure) -> Class {
    match failure.code {
        Code::DeadlineExceeded => return Error::DeadlineExceeded,
        Code::Cancelled => return Error::Cancelled,
        _ if failure.outcome == Outcome::Unknown => return Error::OutcomeUnknown,
        _ => {}
    }
    of_sqlstate(&failure.sqlstate).or_else(|| of_reason(&failure.reason)).unwrap_or(
        match failure.code {
            Code::Unavailable => Error::Unavailable,
            Code::InvalidArgument | Code::NotFound => Error::Programming,
            Code::Unimplemented => Error::NotSupported,
            Code::Internal | Code::DataLoss => Error::Internal,
            _ => Error::Operational,
        },
    )
}

fn of_sqlstate(sqlstate: &str) -> Option<Class> {
    Some(match sqlstate {
        "23505" => Error::UniqueViolation,
        "40001" => Error::SerializationFailure,
        "40P01" => Error::Deadlock,
        "57014" => Error::Cancelled,
        _ => match sqlstate.get(..2)? {
            "0A" => Error::NotSupported,
            "22" => Error::Data,
            "23" => Error::Integrity,
            "20" | "21" | "26" | "34" | "3D" | "3F" | "42" | "44" | "P0" => Error::Programming,
            "24" | "25" | "2B" | "2D" | "XX" => Error::Internal,
            _ => return None,
        },
    })
}

fn of_reason(reason: &str) -> Option<Class> {
    Some(match reason {
        CLIENT => Error::Usage,
        "refused.outside_transaction"
        | "refused.write_in_query"
        | "refused.empty"
        | "refused.multiple" => Error::Programming,
        "invalid.parameter" => Error::Data,
        _ => match reason.split('.').next()? {
            "refused" => Error::NotSupported,
            "invalid" => Error::Programming,
            "unavailable" => Error::Unavailable,
            "transaction" => Error::Operational,
            _ => return None,
        },
    })
}
