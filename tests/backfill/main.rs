//! The history copied between two real servers, PostgreSQL 15 and 18, while the world moves.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod faults;
mod kinds;
mod moving;
mod refusals;
mod values;
mod wide;
mod world;
