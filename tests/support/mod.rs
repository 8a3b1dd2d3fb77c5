//! Real databases, faults and processes for tests.
//!
//! - [`server`]: PostgreSQL servers of their own in temporary folders
//! - [`database`]: a fresh database for each test, alone or as a pair of source and target
//! - [`segue`]: the command itself as a process
//! - [`phase`]: a phase set without a sidecar
//! - [`proxy`]: a TCP proxy that pauses, delays, cuts and refuses
//! - [`bouncer`]: pgbouncer in front of a server
//! - [`hogs`]: whoever takes all connections of a server
//! - [`seed`]: what a test does at random, so that it can be done again
//! - [`stand_in`]: PostgreSQL in the place of CockroachDB
//! - [`cockroach`]: what stands between segue and that
//! - [`guard`]: ends processes and removes folders, whatever becomes of the test
//! - [`account`]: which user runs the servers, and which binaries

// Each test binary compiles this module and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]
// A fault of the harness is best seen where it happens; these are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod account;
pub mod awaits;
pub mod bouncer;
pub mod cockroach;
pub mod database;
pub mod guard;
pub mod hogs;
pub mod phase;
pub mod proxy;
pub mod seed;
pub mod segue;
pub mod server;
pub mod stand_in;

use std::collections::BTreeSet;
use std::future::Future;
use std::time::{Duration, Instant};

pub use bouncer::{Bouncer, PoolMode};
pub use database::{Database, Pair, connect, try_connect};
pub use hogs::Hogs;
pub use proxy::Proxy;
pub use seed::seed;
pub use segue::Segue;
pub use server::{Durability, Major, Options, Server, shared};

/// Time between two looks at a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks until `probe` answers, and panics with `what` when `limit` has passed.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = probe().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
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

/// A port of the loopback interface that nobody listens on. It lies below the ports
/// that outgoing connections are given, so that a server that is stopped for a while
/// finds it free again; and nobody else is given it, who may not have bound it yet.
pub fn free_port() -> u16 {
    static GIVEN: std::sync::Mutex<BTreeSet<u16>> = std::sync::Mutex::new(BTreeSet::new());
    loop {
        let port = rand::random_range(12_000..32_000);
        let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}
