//! The lock on the shadow that says whose turn it is to write there.

use std::time::Duration;

use crate::postgres::fence::CLASS;
use crate::postgres::session::ServerFacts;

/// Second half of the lock's key, beside those of the fence.
const TURN: i32 = -2;

/// The row that stands for it where advisory locks do nothing; those of tables lie above it.
const TURN_SLOT: i32 = i32::MIN;

/// How long a turn is waited for before the worker looks about again.
pub(super) const TURN_WAIT: Duration = Duration::from_secs(1);

/// Shares the turn for the transaction. It stands before the primary's snapshot.
pub(super) fn share(facts: &ServerFacts) -> String {
    facts.dialect.share_turn((CLASS, TURN), TURN_SLOT)
}

/// Takes the turn alone.
pub(super) fn take(facts: &ServerFacts) -> String {
    facts.dialect.take_turn((CLASS, TURN), TURN_SLOT)
}
