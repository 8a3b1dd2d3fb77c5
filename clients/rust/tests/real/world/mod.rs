//! Two real databases, the sidecar between them, and a proxy before it.
//!
//! PostgreSQL's servers are started, and cleaned up after, as in the server's own tests.

#![allow(dead_code, unreachable_pub)]

#[path = "../../../../../tests/support/account.rs"]
pub mod account;
#[path = "../../../../../tests/support/guard.rs"]
pub mod guard;
mod migration;
mod proxy;
#[path = "../../../../../tests/support/server.rs"]
pub mod server;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use migration::{Migration, Side};

/// Bounds each wait of a test, so that a fault is an error and not a test that hangs.
pub const LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Asks until `probe` answers, and panics with `what` when the limit has passed.
pub async fn eventually<T, F, A>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> A,
    A: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// As [`eventually`], for callers without a runtime.
pub fn eventually_blocking<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A port of the loopback interface that no one listens on, below those that outgoing connections are given.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = rand::random_range(12_000..32_000);
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}
