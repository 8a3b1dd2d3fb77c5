//! The fence: advisory locks of a database that say who may write there for an application.
//!
//! Each connection that writes for callers holds the shared lock of its member's epoch for as
//! long as it may be used, and has looked at the control row *under* that lock. A captured
//! transaction, whoever's it is, holds the shared lock of all writers; a reconcile holds that of
//! all copies on the side that it writes to. Whoever holds one of these locks exclusively knows
//! that nobody of its kind is left, however lost its process is: PostgreSQL gives the lock up
//! with the connection and not before.
//!
//! Advisory locks belong to one database, and `segue` is one schema of it: so the database
//! names the migration, and the keys the epoch.
//!
//! The locks of [`Readers`] and [`Writers`] are of another kind: they keep nobody out, and show whose a
//! session is.

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;

mod copies;
mod look;
pub(in crate::postgres) mod mark;
mod named;
mod readers;
mod session;
pub mod writers;

pub use copies::{check_follows, say_copying, share_copies, when_copying};
pub use mark::lost as fence_lost;
pub use named::Writers;
pub use readers::{ReadSession, Readers, key_of_member, read_sessions};
pub(in crate::postgres) use session::leave;
pub use session::{Fence, FenceControl};

/// First half of all keys: `sgfn` in ASCII.
pub const CLASS: i32 = 0x7367_666e;
/// Shared by every captured transaction.
pub const TRANSACTIONS: i32 = 0;
/// Shared by every reconcile, and every chunk of a backfill, that writes to this side.
pub const COPIES: i32 = -1;

/// First half of the keys of sessions that answer reads of callers: `sgrd` in ASCII.
pub const READERS: i32 = 0x7367_7264;

/// The same of sessions in which callers write: `sgwr` in ASCII.
pub const WRITERS: i32 = 0x7367_7772;

/// Set by transactions that copy: what they write is neither captured nor refused. Its value is
/// that of `segue.copy_token`, which nobody but segue's role may read, so that no setting which an
/// application can change tells a copy from its writes; on CockroachDB, whose trigger functions run
/// as their caller, it is `on`.
pub const COPYING: &str = "segue.copies";

/// Second half of the key of the sessions of an epoch: a positive number. Two epochs that are
/// two thousand millions apart share one, which nobody will live to see.
pub fn key_of(epoch: u64) -> i32 {
    let keys = u64::from(i32::MAX.unsigned_abs());
    i32::try_from(epoch.saturating_sub(1) % keys).map_or(i32::MAX, |rest| rest + 1)
}

pub(in crate::postgres) fn number(number: u64, side: Side) -> Result<i64, SqlFault> {
    i64::try_from(number).map_err(|_| {
        let message = format!("{number} is above what segue.control holds");
        SqlFault::new(FaultKind::Internal, Reason::ControlEpoch, message).on(side)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_have_keys_of_their_own_above_the_two_that_are_taken() {
        assert_eq!([1, 2, 7].map(key_of), [1, 2, 7]);
        let last = u64::from(i32::MAX.unsigned_abs());
        assert_eq!((key_of(last), key_of(last + 1), key_of(0)), (i32::MAX, 1, 1));
    }
}
