//! What stands in a migration's way: two catalogues, described plainly, become findings.
//!
//! Pure. `postgres::survey` asks the databases and fills the descriptions of [`describe`];
//! [`check`] judges them by `rules`, each a function from descriptions to findings. Whether a
//! column can hold another's values, in either direction, is told by `carry`.

mod carry;
pub mod codes;
mod definition;
pub mod describe;
mod expression;
pub mod finding;
pub mod limits;
mod report;
mod rules;
mod severity;
#[cfg(test)]
mod tests;

pub use codes::{Code, Severity};
pub use expression::is_plain_nextval;
pub use finding::Finding;
pub use limits::harmful_settings;
pub use report::{Estimate, Pace, Report, TableSize};

use crate::domain::reason::Reason;
use crate::domain::table::TableName;
use describe::World;

/// Settings that are compared, by name.
pub fn compared_settings() -> impl Iterator<Item = &'static str> {
    rules::COMPARED.into_iter()
}

/// A table of the source that cannot be captured, by the reason's stable name.
pub fn refused(table: &TableName, reason: Reason, message: &str) -> Finding {
    rules::refused(crate::domain::side::Side::Source, table, reason, message)
}

/// Judges everything that is known of both sides.
pub fn check(world: &World, pace: Pace) -> Report {
    let findings = rules::all(world);
    Report::new(world, findings, pace)
}
