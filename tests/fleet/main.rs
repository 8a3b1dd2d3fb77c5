//! Several sidecars of one migration: lease, lead, settling, gates, and reads that are shifted.

// Helpers outside of test functions may fail as tests do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub
)]

mod functions;
mod identity;
mod listening;
mod members;
mod phases;
mod shifting;
mod starting;
#[path = "../support/mod.rs"]
mod support;
mod transfers;
mod world;
