//! Statements are routed by the relations that they touch: what is not migrated stays on the side
//! that owns it, and what may run only once does.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod after_cutover;
mod effects;
mod gate;
mod search_path;
mod shift;
mod world;
