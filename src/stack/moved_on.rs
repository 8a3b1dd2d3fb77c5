//! A write that looked for its primary on the wrong side waits to hear of the right one.

use std::time::{Duration, Instant};

use crate::ports::ControlView;

/// How long such a write waits for the member to hear of the new primary.
const MOVED_ON_MAX: Duration = Duration::from_secs(3);
const MOVED_ON_LOOK: Duration = Duration::from_millis(5);

/// Waits, for a short while, until the member knows of a later epoch than the write went by.
pub(super) async fn has_moved_on(
    control: &dyn ControlView,
    epoch: u64,
    deadline: Option<Instant>,
) -> bool {
    let limit = Instant::now() + MOVED_ON_MAX;
    let limit = deadline.map_or(limit, |deadline| deadline.min(limit));
    while control.current().epoch <= epoch {
        if Instant::now() >= limit {
            return false;
        }
        tokio::time::sleep(MOVED_ON_LOOK).await;
    }
    true
}
