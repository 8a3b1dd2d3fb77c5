#![doc = include_str!("../README.md")]
//!
//! # Layout
//!
//! - `client`, `options`: what an application makes; `methods`, `calls`: what it calls; `batch`, `rows`, `row`: what
//!   it gets
//! - `transaction`, `transaction_options`, `retry`: transactions, and running them again
//! - `repeat`: which call is made again by itself; `tokens`: consistency; `statement`: what is remembered
//! - `error`, `status`: what a call failed with
//! - `value`, `time`, `text`: SQL's values; `params`, `from`, `de` and the features' modules: Rust's types to and
//!   from them; `decode`: packed rows
//! - `link`, `tls`: the connection; `trace`: OpenTelemetry; `protocol`: messages and stubs

mod batch;
mod calls;
#[cfg(feature = "chrono")]
mod chrono;
mod client;
mod de;
mod decode;
mod error;
mod from;
#[cfg(feature = "json")]
mod json;
mod link;
mod methods;
mod options;
mod params;
mod protocol;
mod repeat;
mod retry;
mod row;
mod rows;
mod statement;
mod status;
mod text;
mod time;
#[cfg(feature = "tls")]
mod tls;
mod tokens;
mod trace;
mod transaction;
mod transaction_options;
#[cfg(feature = "uuid")]
mod uuid;
mod value;

pub use batch::{Batch, BatchDone, Done, StatementDone};
pub use client::{Client, Description, Info};
pub use error::{Error, Failure, Outcome, Side};
pub use from::FromValue;
pub use options::{Address, Options, Tls};
pub use params::ToValue;
pub use retry::TransactionError;
pub use row::{Column, ColumnIndex, Row};
pub use rows::Rows;
pub use statement::{Statement, named};
pub use text::Unreadable;
pub use time::{Date, Interval, Time, Timestamp};
pub use tokens::Tokens;
pub use transaction::Transaction;
pub use transaction_options::{Isolation, TransactionOptions};
pub use value::{Array, Dimension, Json, Numeric, Uuid, Value};
