//! Places where a test may end whoever runs a cutover.

/// Names such a place; the process ends there as by `kill -9`.
pub(super) const CRASH_AT: &str = "SEGUE_CRASH_AT";

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

/// Ends the process where that is what a test asked for.
pub(super) fn pass(place: &'static str) {
    debug_assert!(ALL.contains(&place) || OF_MEMBERS.contains(&place), "{place} is not listed");
    if std::env::var(CRASH_AT).is_ok_and(|wanted| wanted == place) {
        std::process::abort();
    }
}
