//! The gRPC side of segue: the only room that knows tonic and prost.

pub mod proto;
pub mod rows;
