//! Callers' statements: reads, writes, and transactions that span calls.

mod batch;
mod collect;
mod commit_outcome;
pub mod database;
mod describe;
mod execute;
pub mod idempotency;
mod in_flight;
mod pipeline;
pub mod read;
mod reader;
mod rest;
mod shared_reads;
mod stop;
pub mod transactions;
mod write;
