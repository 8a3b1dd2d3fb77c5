//! What operators see: metrics, traces and logs.
//!
//! A leaf: any room may use it, and it knows nothing but the words of [`crate::domain`].

pub mod metrics;
