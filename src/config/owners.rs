//! `tables.stay` and `tables.functions`: where statements go that touch what is not migrated.

use crate::config::compare::table_name;
use crate::config::reader::Reader;
use crate::config::sections::{Excluded, Tables};
use crate::domain::reach::{Declared, Pattern};
use crate::domain::table::TableName;

const OWNERS: &str = "is none of \"source\", \"target\", \"primary\"";
const DECLARED: &str = "is none of \"migrated\", \"source\", \"target\", \"primary\"";

// === impl Tables ===

impl Tables {
    pub(super) fn read_owners(&mut self, reader: &mut Reader) {
        for (name, value) in reader.map("tables.stay") {
            match (pattern(&name), value.parse()) {
                (Ok(pattern), Ok(owner)) => drop(self.stay.insert(pattern, owner)),
                (Err(message), _) => reader.fault("tables.stay", format!("{name:?} {message}")),
                (_, Err(())) => {
                    reader.fault("tables.stay", format!("{name} = {value:?} {OWNERS}"));
                }
            }
        }
        for (name, value) in reader.map("tables.functions") {
            let declared = match value.as_str() {
                "migrated" => Ok(Declared::Migrated),
                other => other.parse().map(Declared::Of),
            };
            match (table_name(&name), declared) {
                (Ok(function), Ok(declared)) => drop(self.functions.insert(function, declared)),
                (Err(message), _) => {
                    reader.fault("tables.functions", format!("{name:?} {message}"));
                }
                (_, Err(())) => {
                    reader.fault("tables.functions", format!("{name} = {value:?} {DECLARED}"));
                }
            }
        }
    }

    /// Whether the configuration leaves a table out of the migration.
    pub fn leaves_out(&self, table: &TableName) -> bool {
        let excluded = self.excluded.iter().any(|excluded| match excluded {
            Excluded::Table(name) => name == table,
            Excluded::Schema(schema) => *schema == table.schema,
        });
        excluded || self.stay.keys().any(|pattern| pattern.matches(table))
    }
}

/// `schema.table` or `schema.*`.
fn pattern(text: &str) -> Result<Pattern, String> {
    match text.strip_suffix(".*") {
        Some(schema) if !schema.is_empty() => Ok(Pattern::Schema(schema.to_owned())),
        _ => table_name(text).map(Pattern::Table),
    }
}
