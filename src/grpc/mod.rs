//! The gRPC side of segue: the only room that knows tonic and prost.

mod answer;
pub mod auth;
mod call;
mod cutover;
mod encode;
mod foreign;
#[cfg(test)]
mod fuzz;
pub mod health;
mod inform;
mod kept;
mod lists;
mod metadata;
pub mod migration;
pub mod operations;
mod pages;
mod parts;
mod phases;
pub mod pipeline;
pub mod proto;
mod refusal;
mod report;
mod request;
pub mod routes;
pub mod rows;
mod run;
pub mod serve;
pub mod sql;
mod status;
pub mod words;
