//! What a database's catalogue says of its tables: the facts that capture, reconcile and
//! preflight decide by.
//!
//! Read in a handful of queries for any number of tables, each answering for all of them.

mod load;
pub(in crate::postgres) mod rights;

pub use load::{all, load, names};

pub use crate::domain::relation::{
    Column, ForeignKey, Generated, Identity, KeyColumn, Partition, Persistence, PrimaryKey,
    RowSecurity, Rule, Table, TableKind, Trigger, UniqueIndex,
};
