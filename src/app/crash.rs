//! Where a test wants the process to end.

use crate::app::cutover::{CRASH_POINTS, MEMBER_CRASH_POINTS};
use crate::postgres::failpoints::crash::CrashPoints;

/// A place of `postgres::crash`, or `place:7` for the seventh time that it is passed.
const CRASH_AT: &str = "SEGUE_CRASH_AT";

/// The places as the test gave them. No configuration: a build for use refuses the variable, as
/// it does any that it does not know.
pub(super) fn points() -> CrashPoints {
    let Some(given) = std::env::var(CRASH_AT).ok().filter(|_| cfg!(debug_assertions)) else {
        return CrashPoints::default();
    };
    CrashPoints::abort_at(&given).unwrap_or_else(|| {
        let others = [&CRASH_POINTS[..], &MEMBER_CRASH_POINTS[..]].concat();
        if !others.contains(&given.as_str()) {
            tracing::warn!(given, "{CRASH_AT} names no crash point; give one of postgres::crash");
        }
        CrashPoints::default()
    })
}
