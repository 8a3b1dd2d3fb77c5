//! The gRPC side of segue: the only room that knows tonic and prost.

mod answer;
pub mod auth;
mod call;
mod cutover;
mod encode;
pub mod health;
mod metadata;
pub mod migration;
mod phases;
pub mod proto;
mod request;
pub mod routes;
pub mod rows;
pub mod serve;
pub mod sql;
mod status;
