//! Reconcile on two real servers, PostgreSQL 15 and 18, with different types on both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod basics;
mod world;
