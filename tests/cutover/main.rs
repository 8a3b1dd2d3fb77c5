//! Laws 1 and 2 through changes of the primary: three members in processes of their own, clients
//! that write all the time, and a ledger of what they were told.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../ledger/mod.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

mod awaits;
mod cockroach;
mod crashes;
mod ending;
mod evidence;
mod fleet;
mod lost_callers;
mod operations;
mod outsiders;
mod readers;
mod sequences;
mod stopped;
mod there_and_back;
mod whole;
