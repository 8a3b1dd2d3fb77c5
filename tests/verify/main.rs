//! `segue verify` on two real servers, PostgreSQL 15 and 18, with different types on both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![allow(unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod ages;
mod command;
mod corpus;
mod drift;
mod forms;
mod gates;
mod keys;
mod load;
mod proofs;
mod seeds;
mod unread;
mod wide;
mod world;
