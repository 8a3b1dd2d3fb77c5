//! The sentences about the API, each against the command itself on two real servers.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

mod calls;
mod deadlines;
mod errors;
mod hostile;
mod idempotency;
mod inline;
mod language;
mod left_behind;
mod limits;
mod lost_commits;
mod pipeline;
mod refused;
#[path = "../support/mod.rs"]
mod support;
mod transactions;
mod values;
