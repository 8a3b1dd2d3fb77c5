//! Writes on the side that follows that are not segue's: who made them, and whether an operator
//! has looked into it. Pure.

use std::fmt;
use std::time::SystemTime;

use crate::domain::side::Side;

/// Tables that are named before the rest is counted.
const TABLES_SHOWN: usize = 3;

/// A program, as its session named itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Writer {
    /// The role that it logged in with, and the one that it took on, where that is another.
    pub role: String,
    /// Its `application_name`; empty where it has none.
    pub application: String,
    /// The client's address; `local` for a socket.
    pub address: String,
}

/// What it wrote to one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignTable {
    /// The table's name on the source.
    pub table: String,
    /// Keys of rows, each as often as it was written.
    pub keys: u64,
    /// How often the table was noted as a whole: it was truncated, or the keys were too many.
    pub whole: u64,
}

/// Who resolved it, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// When.
    pub at: SystemTime,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// All that one program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignWriter {
    /// What commands name it by.
    pub id: String,
    /// Who.
    pub writer: Writer,
    /// On which side.
    pub side: Side,
    /// What.
    pub tables: Vec<ForeignTable>,
    /// Its first write, by that side's clock.
    pub first_seen: SystemTime,
    /// Its last one.
    pub last_seen: SystemTime,
    /// Absent while no one has resolved it, or where it has written since.
    pub resolved: Option<Resolved>,
}

/// What is known of such writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ForeignWrites {
    /// Who wrote: those that no one has resolved first, then the latest.
    pub writers: Vec<ForeignWriter>,
    /// There are notes of which nothing was made yet.
    pub waiting: bool,
}

// === impl Writer ===

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, application, address } = self;
        write!(f, "role {role}, application {application:?}, from {address}")
    }
}

// === impl ForeignTable ===

impl fmt::Display for ForeignTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, keys, whole } = self;
        let word = if *keys == 1 { "key" } else { "keys" };
        match (keys, whole) {
            (keys, 0) => write!(f, "{keys} {word} of {table}"),
            (0, _) => write!(f, "{table} as a whole"),
            (keys, _) => write!(f, "{keys} {word} of {table}, and all of it"),
        }
    }
}

// === impl ForeignWriter ===

impl ForeignWriter {
    /// Whether no one has resolved it.
    pub fn is_open(&self) -> bool {
        self.resolved.is_none()
    }
}

impl fmt::Display for ForeignWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wrote on the {}: {}", self.writer, self.side, told(&self.tables))
    }
}

/// Tables and what was written to them, in a few words.
pub fn told(tables: &[ForeignTable]) -> String {
    let mut shown: Vec<String> =
        tables.iter().take(TABLES_SHOWN).map(ToString::to_string).collect();
    if tables.len() > TABLES_SHOWN {
        let more = tables.len() - TABLES_SHOWN;
        shown.push(format!("{more} {} more", if more == 1 { "table" } else { "tables" }));
    }
    shown.join("; ")
}

// === impl ForeignWrites ===

impl ForeignWrites {
    /// Those that no one has resolved.
    pub fn open(&self) -> impl Iterator<Item = &ForeignWriter> {
        self.writers.iter().filter(|it| it.is_open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_told_in_one_line() {
        let table =
            |table: &str, keys, whole| ForeignTable { table: table.to_owned(), keys, whole };
        let tables = vec![
            table("app.a", 3, 0),
            table("app.b", 0, 1),
            table("app.c", 2, 1),
            table("app.d", 1, 0),
            table("app.e", 1, 0),
        ];
        let writer = ForeignWriter {
            id: "ab12".to_owned(),
            writer: Writer {
                role: "etl".to_owned(),
                application: "nightly load".to_owned(),
                address: "10.0.0.9".to_owned(),
            },
            side: Side::Target,
            tables,
            first_seen: SystemTime::UNIX_EPOCH,
            last_seen: SystemTime::UNIX_EPOCH,
            resolved: None,
        };
        assert_eq!(told(&writer.tables[3..4]), "1 key of app.d");
        assert_eq!(
            writer.to_string(),
            "role etl, application \"nightly load\", from 10.0.0.9 wrote on the target: 3 keys of \
             app.a; app.b as a whole; 2 keys of app.c, and all of it; 2 tables more"
        );
    }
}
