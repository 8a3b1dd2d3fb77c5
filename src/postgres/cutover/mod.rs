//! What a cutover asks of the databases: the fence raised, sequences moved on, roles made read-only,
//! and what is counted meanwhile. A side is made the primary in [`crate::postgres::control`].

mod exclusive;
pub mod figures;
pub mod read_only;
pub mod sequences;

pub use exclusive::{Exclusive, Standbys, refuse_prepared};
