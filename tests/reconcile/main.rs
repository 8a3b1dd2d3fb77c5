//! Reconcile on two real servers, PostgreSQL 15 and 18, with different types on both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]
#![allow(unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod cockroach;
mod convergence;
mod failover;
mod gives_way;
mod law;
mod ranges;
mod references;
mod retry;
mod snapshots;
mod spelling;
mod upkeep;
mod wide;
mod world;
