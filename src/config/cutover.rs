//! How the primary is changed.

use std::time::Duration;

use crate::config::compare::table_pattern;
use crate::config::reader::Reader;
use crate::domain::pattern::TablePattern;

/// How the primary is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cutover {
    /// The longest that a call may be held.
    pub hold_limit: Duration,
    /// How long a pause and its fence outlive whoever announced them.
    pub pause_lease: Duration,
    /// How long members are waited for before anything is held.
    pub prepare_wait: Duration,
    /// How long chunks are verified that were written since their proof, before anything is held.
    pub prove_max: Duration,
    /// Tables with more rows are not counted during the pause.
    pub count_rows_max: u64,
    /// Tables of the source that are compared whole during the pause.
    pub full_verify: Vec<TablePattern>,
    /// Roles of applications on the source, made read-only there once the target is the primary.
    pub read_only_roles: Vec<String>,
}

// === impl Cutover ===

impl Cutover {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let mut full_verify = Vec::new();
        for text in reader.list("cutover.full_verify") {
            match table_pattern(&text) {
                Ok(pattern) => full_verify.push(pattern),
                Err(message) => reader.fault("cutover.full_verify", format!("{text:?} {message}")),
            }
        }
        Self {
            full_verify,
            hold_limit: reader.duration("cutover.hold_limit"),
            pause_lease: reader.duration("cutover.pause_lease"),
            prepare_wait: reader.duration("cutover.prepare_wait"),
            prove_max: reader.duration("cutover.prove_max"),
            count_rows_max: reader.count("cutover.count_rows_max") as u64,
            read_only_roles: reader.list("cutover.read_only_roles"),
        }
    }
}
