//! Places where a test may end or stop the process that changes the primary, or takes part in it.
//! What happens to a single write or batch there is in [`crate::postgres::failpoints::crash`].

use std::process::Command;

/// Names such a place; the process ends there as by `kill -9`.
const CRASH_AT: &str = "SEGUE_CRASH_AT";
/// Names such a place; the process stops there as by `kill -STOP`, until it is continued.
const STOP_AT: &str = "SEGUE_STOP_AT";

/// All of them, in the order in which a cutover passes them.
pub const ALL: [&str; 11] = [
    "cutover_after_gates",
    "cutover_after_prepare",
    "cutover_after_announcing",
    "cutover_after_pause",
    "cutover_after_fence",
    "cutover_after_drain",
    "cutover_after_verify",
    "cutover_after_sequences",
    "cutover_after_flip",
    "cutover_after_raising",
    "cutover_after_release",
];

/// Places where a member that takes part may be ended.
pub const OF_MEMBERS: [&str; 5] = [
    "member_prepared",
    "member_holding",
    "member_without_locks",
    "member_after_flip",
    "member_after_raising",
];

/// The lock of copies is held, and the new primary's row not changed yet.
pub const PROMOTION_LOCKED: &str = "promotion_locked";
/// The row is changed, and that is not committed.
pub const PROMOTION_CHANGED: &str = "promotion_changed";
/// It is, and nobody has been told.
pub const PROMOTION_COMMITTED: &str = "promotion_committed";
/// Places within the transaction that makes a side the primary, whoever runs it.
pub const OF_PROMOTION: [&str; 3] = [PROMOTION_LOCKED, PROMOTION_CHANGED, PROMOTION_COMMITTED];

/// Ends or stops the process where that is what a test asked for.
pub(crate) fn pass(place: &'static str) {
    let known = [&ALL[..], &OF_MEMBERS[..], &OF_PROMOTION[..]].concat();
    debug_assert!(known.contains(&place), "{place} is not listed");
    let is_wanted = |variable| std::env::var(variable).is_ok_and(|wanted| wanted == place);
    if is_wanted(CRASH_AT) {
        std::process::abort();
    }
    if is_wanted(STOP_AT) {
        let stopped =
            Command::new("kill").arg("-STOP").arg(std::process::id().to_string()).status();
        tracing::warn!(place, ?stopped, "stopped, and continued");
    }
}
