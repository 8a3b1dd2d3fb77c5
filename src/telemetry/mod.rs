//! What operators see: metrics, traces and logs.
//!
//! A leaf: any room may use it, and it knows nothing but the words of [`crate::domain`].

mod logs;
pub mod metrics;
pub mod names;
pub mod retries;
pub mod setup;
pub mod spans;

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from; `development` where it is no release.
pub const COMMIT: &str = env!("BUILD_COMMIT");
/// Both, for people: `0.1.0 (3f2a91c0d4e5)`.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_COMMIT"), ")");
