//! Traces, logs and metrics: segue's own constructors, and the real command.

// A fault of a test is best seen where it happens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
mod collector;
mod exported;
mod scrape;
#[path = "../support/mod.rs"]
mod support;
