//! Everything that speaks to a database; the only place that knows tokio-postgres.

mod batch;
pub mod cancel;
pub mod catalog;
pub mod cell;
pub mod connect;
pub mod database;
mod describe;
mod doubt;
pub mod dsn;
mod execute;
pub mod fault;
mod flight;
pub mod idempotency;
pub mod outbox;
pub mod param;
mod pipeline;
pub mod pool;
mod pooler;
pub mod read;
pub mod reconcile;
pub mod schema;
pub mod session;
pub mod settings;
pub mod tls;
pub mod transactions;
pub mod types;
mod write;
