//! jobs

pub mod janitor;
pub mod replayer;
