//! Parts of cursors of lists: moments, and what is no cursor.

use std::time::{Duration, SystemTime};

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;

/// A moment, as microseconds since 1970: what a database keeps of it.
pub(in crate::postgres) fn of_time(at: SystemTime) -> String {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros().to_string()
}

/// The moment of a cursor.
pub(in crate::postgres) fn time(part: &str) -> Result<SystemTime, SqlFault> {
    let micros: u64 = part.parse().map_err(|_| unknown())?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros)).ok_or_else(unknown)
}

/// A cursor that is not of the list.
pub(in crate::postgres) fn unknown() -> SqlFault {
    let message = "page_token was not made by segue for this list";
    SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidPageToken, message)
        .with_hint("begin again without a token")
}
