//! What operators see: metrics, traces and logs.
//!
//! A leaf: any room may use it, and it knows nothing but the words of [`crate::domain`].

mod logs;
pub mod metrics;
pub mod names;
pub mod setup;
pub mod spans;
