//! Sampled reads from the call to the list of findings, with the real command and two real
//! servers.

// A fault of a test is best seen where it happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod client;
#[path = "../support/mod.rs"]
mod support;
mod under_load;
mod verdicts;
