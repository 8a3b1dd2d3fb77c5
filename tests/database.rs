//! Executing on one real database: sessions, reads, writes, transactions, and what becomes
//! of them when something is in the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod support;

#[path = "database/connections.rs"]
mod connections;
#[path = "database/faults.rs"]
mod faults;
#[path = "database/reads.rs"]
mod reads;
#[path = "database/rig.rs"]
mod rig;
#[path = "database/round_trips.rs"]
mod round_trips;
#[path = "database/shared.rs"]
mod shared;
#[path = "database/transactions.rs"]
mod transactions;
#[path = "database/writes.rs"]
mod writes;
