//! Callers' statements run as the application's own role: its row security, privileges and settings
//! apply as they do without segue, and nothing that a caller runs gets at what is segue's.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod cockroach;
mod privileges;
mod settings;
mod tenants;
mod world;
