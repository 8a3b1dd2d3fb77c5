//! Bringing a session to rest in which a statement may still run.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

use super::stop::{CANCEL_AGAIN_AFTER, SETTLE_LIMIT};
use crate::postgres::pool::{Lease, give_back};
use crate::postgres::session::Session;

pub(super) async fn come_to_rest(session: &Session, grace: Duration) -> bool {
    let mut rest = pin!(session.driver().check_connection());
    if !grace.is_zero()
        && let Ok(answer) = tokio::time::timeout(grace, &mut rest).await
    {
        return answer.is_ok();
    }
    let give_up = Instant::now() + SETTLE_LIMIT;
    while Instant::now() < give_up {
        let cancelled = session.canceller().cancel().await;
        if let Ok(answer) = tokio::time::timeout(CANCEL_AGAIN_AFTER, &mut rest).await {
            return answer.is_ok();
        }
        if cancelled.is_err() {
            break;
        }
    }
    false
}

/// Brings a session of a pool to rest. It stays busy, and so is closed by whoever drops it, until
/// its last statement has ended.
pub(super) async fn settle(lease: Lease) {
    match come_to_rest(&lease, Duration::ZERO).await {
        true => give_back(lease),
        false => lease.discard(),
    }
}
