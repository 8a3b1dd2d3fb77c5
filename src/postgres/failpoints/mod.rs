//! Places where a test may end or stop the process, or a member in it.

pub mod crash;
pub mod cutover;
