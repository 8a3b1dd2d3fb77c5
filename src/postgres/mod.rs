//! Everything that speaks to a database; the only place that knows tokio-postgres.

pub mod catalog;
pub mod mismatch;
pub mod pending;
pub mod schema;
