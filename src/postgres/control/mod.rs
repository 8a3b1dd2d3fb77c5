//! The control row, the fleet, and what is recorded beside them: tables of segue's own that say how
//! a migration stands.

pub(in crate::postgres) mod change;
pub(in crate::postgres) mod cursor;
mod history;
pub mod members;
pub mod mismatches;
mod notice;
pub mod older_writers;
pub mod operations;
pub mod pause;
mod promote;
pub(in crate::postgres) mod row;

pub use row::{ControlTable, read_on};
