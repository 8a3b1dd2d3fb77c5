//! Judging two answers to one statement.
//!
//! Pure: no I/O, no clock, no dice. Equal types and equal bytes are a match and nothing is
//! decoded; otherwise values are compared by what they mean, and the verdict names every
//! rule it took.
//!
//! - [`compare`]: two answers, one verdict
//! - [`cell::judge`]: two cells of a column
//! - [`common::form`]: the coarser form of a column's two types, by which stored rows are compared
//! - [`rewrite::machine`]: rewrites that tell a difference of dialects from one of data
//! - [`with_evidence`]: what the rewritten statement's answers say about the first verdict
//! - [`of_settings`]: the verdict on a difference that is gone under the same settings
//! - [`differing::rows`]: the rows that two answers differ in, by their keys
//! - [`catalogue`]: the known differences, why they are, and how to write around them

pub mod catalogue;
pub mod cell;
pub mod common;
pub mod differing;
mod distinct;
mod evidence;
mod explain;
mod faults;
mod matching;
pub mod redact;
mod rows;
pub mod rules;
mod verdicts;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use crate::compare::evidence::{of_settings, with_evidence};
pub use crate::compare::verdicts::compare;
pub use crate::statement::rewrite;
