//! postgres

pub mod catalog;
pub mod schema;
