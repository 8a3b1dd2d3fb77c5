//! What the catalogue of one side says of a table's columns.

use std::collections::HashMap;

use crate::domain::pg_type::Column;

/// One side's part of a shape.
pub(super) struct SideColumns {
    pub(super) columns: Vec<Column>,
    pub(super) casts: HashMap<String, ColumnFacts>,
    pub(super) key_equals: HashMap<String, String>,
    pub(super) key_after: HashMap<String, String>,
    pub(super) key_until: HashMap<String, String>,
}

pub(super) struct ColumnFacts {
    pub(super) cast: String,
    pub(super) full_type: String,
    pub(super) generated: bool,
    pub(super) identity_always: bool,
    /// The collation, where texts may be equal to it that are not the same.
    pub(super) blind_collation: Option<String>,
    /// An INSERT must name it.
    pub(super) required: bool,
    /// Its own order is that of its bytes, as far as a collation has a say in it.
    pub(super) bytewise: bool,
}
