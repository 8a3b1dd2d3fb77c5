//! segue moves a live application from one Postgres-wire database to another.
//!
//! # Layout
//!
//! Imports point down this list; modules on one line do not import each other.
//!
//! - [`cli`]: the commands; the only place for `anyhow`
//! - [`app`]: puts the parts together
//! - [`config`], [`control`], [`grpc`], [`jobs`], [`postgres`]: the world around the data path
//! - [`stack`]: the data path, one room a concern
//! - [`compare`], [`ports`], [`preflight`]: judging answers; what the stack asks of the world;
//!   judging two catalogues before a migration
//! - [`dialect`], [`dsn`], [`failpoint`], [`statement`], [`value`]: what differs between databases;
//!   connection strings; places where tests end the process; SQL analysed; values read and written
//! - [`domain`]: the words of a migration as types
//!
//! [`telemetry`] is a leaf that any of them may use. Only [`grpc`] knows tonic, and
//! prost but for what [`postgres`] keeps with idempotency keys; only [`postgres`] knows tokio-postgres.

pub mod app;
pub mod cli;
pub mod compare;
pub mod config;
pub mod control;
pub mod dialect;
pub mod domain;
pub mod dsn;
pub mod failpoint;
pub mod grpc;
pub mod jobs;
pub mod ports;
pub mod postgres;
pub mod preflight;
pub mod stack;
pub mod statement;
pub mod telemetry;
pub mod value;
