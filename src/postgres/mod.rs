//! postgres

pub mod capture;
pub mod catalog;
pub mod schema;
