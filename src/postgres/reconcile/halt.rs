//! Why an attempt ended before its commit, in terms of what to do next.

use std::collections::BTreeSet;

use tokio_postgres::Error;

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::domain::sqlstate::{self, class};
use crate::failpoint::Lost;
use crate::postgres::outbox::RowKey;
use crate::postgres::session::fault;

/// An attempt's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// A side is away: nothing can be done for any key now.
    Away(SqlFault),
    /// A serialization failure or a deadlock: the same again.
    Again(SqlFault),
    /// The set must grow by these keys.
    Grow(BTreeSet<RowKey>),
    /// These keys, if any, hold unique values that the set needs; they join it, and rows that
    /// give up a unique value are taken out first.
    Holders(BTreeSet<RowKey>),
    /// A unique value is held by a row; the attempt finds out by which.
    Unique(SqlFault),
    /// A row refers to one that is missing, or is referred to.
    ForeignKey(SqlFault),
    /// The tables are no longer what they were.
    Stale(SqlFault),
    /// These keys cannot be done, whatever the others are.
    Keys(Vec<(RowKey, String)>),
    /// Some key of the set cannot be done.
    Set(String),
    /// A value of some key cannot be brought to the form in which it is compared.
    Uncast(String),
    /// No key of the set's table can be done.
    Table(String),
    /// Reads are shifted, and there is no leave to write keys on their own.
    Shifted,
    /// The attempt took too long.
    Late,
    /// The rows of the set have more bytes than there is room for; none of them was read.
    Large,
    /// A failpoint was reached.
    Crash(&'static str),
}

impl From<Lost> for Halt {
    fn from(Lost(point): Lost) -> Self {
        Self::Crash(point.name())
    }
}

impl From<SqlFault> for Halt {
    fn from(fault: SqlFault) -> Self {
        of_fault(fault)
    }
}

/// What an error of the driver means for the attempt, where rows are taken from it one by one.
pub fn classify(error: Error, side: Side) -> Halt {
    of_fault(fault::from_error(error, side, true))
}

/// What a fault of a side means for the attempt.
pub fn of_fault(fault: SqlFault) -> Halt {
    let state = fault.sqlstate.as_str();
    match state {
        _ if fault::ends_session(&fault) => Halt::Away(fault),
        // Where the commit's outcome is unknown, reconciling again settles it either way.
        sqlstate::SERIALIZATION_FAILURE
        | sqlstate::DEADLOCK_DETECTED
        | sqlstate::STATEMENT_COMPLETION_UNKNOWN
        | sqlstate::LOCK_NOT_AVAILABLE
        | sqlstate::IN_FAILED_SQL_TRANSACTION => Halt::Again(fault),
        sqlstate::UNIQUE_VIOLATION | sqlstate::EXCLUSION_VIOLATION => Halt::Unique(fault),
        sqlstate::FOREIGN_KEY_VIOLATION => Halt::ForeignKey(fault),
        sqlstate::QUERY_CANCELED => Halt::Late,
        sqlstate::READ_ONLY_SQL_TRANSACTION => Halt::Away(fault),
        // "cached plan must not change result type", in whatever language the server says it.
        sqlstate::FEATURE_NOT_SUPPORTED
        | sqlstate::UNDEFINED_COLUMN
        | sqlstate::UNDEFINED_TABLE
        | sqlstate::DATATYPE_MISMATCH => Halt::Stale(fault),
        sqlstate::INSUFFICIENT_PRIVILEGE => Halt::Table(fault.to_string()),
        // Out of memory may be one row's doing; the rest of these classes is the server's state.
        sqlstate::OUT_OF_MEMORY => Halt::Set(fault.to_string()),
        _ if class::OF_CIRCUMSTANCES.iter().any(|class| state.starts_with(class)) => {
            Halt::Away(fault)
        }
        _ => Halt::Set(fault.to_string()),
    }
}

/// The same for a reading that asks for values in the form in which they are compared.
pub fn of_reading(error: Error, side: Side) -> Halt {
    let of_a_value = error.code().is_some_and(|code| is_of_values(code.code()));
    match classify(error, side) {
        Halt::Set(reason) if of_a_value => Halt::Uncast(reason),
        halt => halt,
    }
}

/// SQLSTATEs that speak of a value, or of a cast that is not there.
pub fn is_of_values(code: &str) -> bool {
    code.starts_with(class::DATA_EXCEPTION)
        || matches!(
            code,
            sqlstate::CANNOT_COERCE
                | sqlstate::UNDEFINED_FUNCTION
                | sqlstate::PROGRAM_LIMIT_EXCEEDED
        )
}

/// [`classify`] for `map_err`.
pub fn on(side: Side) -> impl Fn(Error) -> Halt + Copy {
    move |error| classify(error, side)
}
