//! The client against the real sidecar on two real PostgreSQL servers: `make test-rust`.

#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod conformance;
mod migration;
mod readme;
mod spans;
mod usage;
mod world;
