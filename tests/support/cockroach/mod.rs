//! What stands between segue and the PostgreSQL that plays CockroachDB.
//!
//! - [`wire`]: a proxy that understands the protocol
//! - [`record`]: writes down what segue sends
//! - [`refuse`]: answers a statement as CockroachDB does where it refuses it

pub mod record;
pub mod refuse;
pub mod wire;

pub use record::{Recorder, Sent};
pub use refuse::{Judge, Refusal};
pub use wire::{Rules, Wire};
