//! Puts the parts together.

pub mod listen;
pub mod queries;
pub mod status;
