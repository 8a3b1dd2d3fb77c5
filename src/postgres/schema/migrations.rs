//! The versions of segue's own schema, in order.

use crate::dialect::Dialect;

/// Partitions of the outbox. They are a ring: each takes the rows of one window of
/// [`SLOT_SECONDS`], and is emptied before its turn comes again.
pub const OUTBOX_SLOTS: i16 = 12;

/// How long new outbox rows go to the same partition.
pub const SLOT_SECONDS: i32 = 600;

/// One version. Its SQL may be run again and changes nothing then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) version: i32,
    sql: fn(Dialect) -> String,
}

// === impl Migration ===

impl Migration {
    /// The statements for a server, each ended by a semicolon.
    pub(super) fn sql(self, dialect: Dialect) -> String {
        (self.sql)(dialect)
    }
}

/// In order. A version that has been released is never changed: a new one is added.
pub(super) const MIGRATIONS: [Migration; 24] = [
    Migration { version: 1, sql: |_| include_str!("v1.sql").to_owned() },
    Migration { version: 2, sql: |dialect| dialect.outbox_ring(OUTBOX_SLOTS) },
    Migration { version: 3, sql: |_| SERVER_SEEN.to_owned() },
    Migration { version: 4, sql: |_| include_str!("v4.sql").to_owned() },
    Migration { version: 5, sql: |_| include_str!("v5.sql").to_owned() },
    Migration { version: 6, sql: fleet },
    Migration { version: 7, sql: |_| include_str!("v7.sql").to_owned() },
    Migration { version: 8, sql: |_| include_str!("v8.sql").to_owned() },
    Migration { version: 9, sql: |dialect| dialect.primary().to_owned() },
    Migration { version: 10, sql: |_| include_str!("v10.sql").to_owned() },
    Migration { version: 11, sql: |_| include_str!("v11.sql").to_owned() },
    Migration { version: 12, sql: |dialect| dialect.primary_epoch().to_owned() },
    Migration { version: 13, sql: |_| include_str!("v13.sql").to_owned() },
    Migration { version: 14, sql: |_| OUTBOX_WHOLE.to_owned() },
    Migration { version: 15, sql: |_| include_str!("v15.sql").to_owned() },
    Migration { version: 16, sql: |_| include_str!("v16.sql").to_owned() },
    Migration { version: 17, sql: |_| include_str!("v17.sql").to_owned() },
    Migration { version: 18, sql: |dialect| dialect.callers_functions().to_owned() },
    Migration { version: 19, sql: |dialect| dialect.refusal_of_writes().to_owned() },
    Migration { version: 20, sql: identity },
    Migration { version: 21, sql: |_| include_str!("v21.sql").to_owned() },
    Migration { version: 22, sql: foreign_writes },
    Migration { version: 23, sql: |_| include_str!("operations.sql").to_owned() },
    Migration { version: 24, sql: |dialect| dialect.accounted().to_owned() },
];

/// The servers that were seen last: one that is another now may have lost commits.
const SERVER_SEEN: &str = "\
CREATE TABLE IF NOT EXISTS segue.server_seen (
    side text NOT NULL PRIMARY KEY,
    incarnation text NOT NULL,
    timeline text NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);
";

/// Tables that wait to be reconciled whole: which they are is asked every second.
const OUTBOX_WHOLE: &str = "\
CREATE INDEX IF NOT EXISTS outbox_whole ON segue.outbox (table_id)
    WHERE key IS NULL AND forgotten_at IS NULL;
";

/// The members of the migration, who leads them, and what was changed by whom.
fn fleet(dialect: Dialect) -> String {
    [include_str!("v6.sql"), dialect.outbox_index_by_write()].concat()
}

/// Whose database it is, which every session asks.
fn identity(dialect: Dialect) -> String {
    [include_str!("v20.sql"), dialect.whose_function()].concat()
}

/// Writes on the side that follows that are not segue's: as its trigger notes them, and who made
/// them.
fn foreign_writes(dialect: Dialect) -> String {
    [include_str!("foreign_writes.sql"), dialect.foreign_writes()].concat()
}

/// What must be there before versions can be noted.
pub(super) const FOUNDATION: &str = "\
CREATE SCHEMA IF NOT EXISTS segue;
CREATE TABLE IF NOT EXISTS segue.schema_version (
    version int4 NOT NULL PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
";

/// The statement that notes a version.
pub(super) fn note(version: i32) -> String {
    format!(
        "INSERT INTO segue.schema_version (version) VALUES ({version}) ON CONFLICT (version) DO NOTHING;\n"
    )
}
