//! Law 1: what a client was told is on the primary, and comes to the shadow, whatever fails.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod ledger;
mod support;

#[path = "durability/callers.rs"]
mod callers;
#[path = "durability/crash_points.rs"]
mod crash_points;
#[path = "durability/databases.rs"]
mod databases;
#[path = "durability/fleet.rs"]
mod fleet;
#[path = "durability/killed.rs"]
mod killed;
#[path = "durability/missed.rs"]
mod missed;
#[path = "durability/noticed.rs"]
mod noticed;

use ledger::{SOURCE_SCHEMA, TARGET_SCHEMA};
use support::{Durability, Major, Options, Pair, Server};

/// Servers whose commits are on the disk.
fn durable() -> Options {
    Options { durability: Durability::Fsync, ..Options::default() }
}

/// A source and a target of the test's own, which it may kill and stall.
struct World {
    // Dropped first: its databases are in the servers.
    pair: Pair,
    source: Server,
    target: Server,
}

impl World {
    async fn start() -> Self {
        Self::with(&durable()).await
    }

    async fn with(options: &Options) -> Self {
        let (source, target) =
            (Server::start(Major::V15, options), Server::start(Major::V18, options));
        let pair = Pair::within(&source, &target, SOURCE_SCHEMA, TARGET_SCHEMA).await;
        Self { pair, source, target }
    }
}
