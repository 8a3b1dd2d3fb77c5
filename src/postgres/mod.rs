//! postgres

pub mod cancel;
pub mod cell;
pub mod connect;
mod describe;
pub mod dsn;
mod execute;
pub mod fault;
mod flight;
pub mod param;
pub mod pool;
mod pooler;
pub mod read;
pub mod session;
pub mod settings;
pub mod tls;
pub mod transactions;
pub mod types;
