//! What stands between segue and the PostgreSQL that plays CockroachDB.
//!
//! - [`wire`]: a proxy that understands the protocol
//! - [`record`]: writes down what segue sends
//! - [`refuse`]: answers a statement as CockroachDB does where it refuses it
//! - [`dialect`]: what CockroachDB refuses and does otherwise, by its own parser ([`parser`]) and by
//!   what its public texts say ([`facts`]), which a statement's parse tree is held against ([`walk`])
//! - [`instead`]: a statement put so that PostgreSQL does with it what CockroachDB does
//! - [`values`]: what it makes of the values that a statement is given
//! - [`catalog`]: its catalogue, where it has other values than PostgreSQL's, and what is otherwise
//!   within the server (`played.sql`)

pub mod catalog;
pub mod dialect;
pub mod facts;
pub mod instead;
pub mod parser;
pub mod record;
pub mod refuse;
pub mod values;
pub mod walk;
pub mod wire;

pub use dialect::Dialect;
pub use record::{Recorder, Sent};
pub use refuse::{Asked, Bound, Judge, Judged, Refusal};
pub use wire::{Rules, Wire};
