//! The versions of segue's own schema, in order.

use std::fmt::Write;

/// What kind of server a script is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// PostgreSQL.
    PostgreSql,
    /// CockroachDB: its outbox has no ring, and its control row has the fence.
    CockroachDb,
}

// === impl Flavour ===

impl Flavour {
    /// Told from what `version()` answers.
    pub fn of_version(version: &str) -> Self {
        if version.contains("CockroachDB") { Self::CockroachDb } else { Self::PostgreSql }
    }
}

/// Partitions of the outbox. They are a ring: each takes the rows of one window of
/// [`SLOT_SECONDS`], and is emptied before its turn comes again.
pub const OUTBOX_SLOTS: i16 = 12;

/// How long new outbox rows go to the same partition.
pub const SLOT_SECONDS: i32 = 600;

/// One version. Its SQL may be run again and changes nothing then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) version: i32,
    sql: fn(Flavour) -> String,
}

// === impl Migration ===

impl Migration {
    /// The statements for a server, each ended by a semicolon.
    pub(super) fn sql(self, flavour: Flavour) -> String {
        (self.sql)(flavour)
    }
}

/// In order. A version that has been released is never changed: a new one is added.
pub(super) const MIGRATIONS: [Migration; 22] = [
    Migration { version: 1, sql: |_| include_str!("v1.sql").to_owned() },
    Migration { version: 2, sql: outbox },
    Migration { version: 3, sql: |_| SERVER_SEEN.to_owned() },
    Migration { version: 4, sql: |_| include_str!("v4.sql").to_owned() },
    Migration { version: 5, sql: |_| include_str!("v5.sql").to_owned() },
    Migration { version: 6, sql: fleet },
    Migration { version: 7, sql: |_| include_str!("v7.sql").to_owned() },
    Migration { version: 8, sql: |_| include_str!("v8.sql").to_owned() },
    Migration { version: 9, sql: cockroach },
    Migration { version: 10, sql: |_| include_str!("v10.sql").to_owned() },
    Migration { version: 11, sql: |_| include_str!("v11.sql").to_owned() },
    Migration { version: 12, sql: primary_epoch },
    Migration { version: 13, sql: |_| include_str!("v13.sql").to_owned() },
    Migration { version: 14, sql: |_| OUTBOX_WHOLE.to_owned() },
    Migration { version: 15, sql: |_| include_str!("v15.sql").to_owned() },
    Migration { version: 16, sql: |_| include_str!("v16.sql").to_owned() },
    Migration { version: 17, sql: |_| include_str!("v17.sql").to_owned() },
    Migration { version: 18, sql: callers },
    Migration { version: 19, sql: refusal },
    Migration { version: 20, sql: identity },
    Migration { version: 21, sql: |_| include_str!("v21.sql").to_owned() },
    Migration { version: 22, sql: foreign_writes },
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

/// The members of the migration, who leads them, and what was changed by whom. The outbox is
/// asked for single writes from here on: a read names the write that it must see.
fn fleet(flavour: Flavour) -> String {
    let mut sql = include_str!("v6.sql").to_owned();
    if flavour == Flavour::PostgreSql {
        sql.push_str(
            "CREATE INDEX IF NOT EXISTS outbox_write ON segue.outbox (write_id) \
             WHERE forgotten_at IS NULL;\n",
        );
    }
    sql
}

/// What CockroachDB needs in order to be a primary. Its outbox is one table, whose forgotten rows
/// are deleted: there a `TRUNCATE` is a change of the schema. The fence is a mark in the control
/// row, since advisory locks do nothing there.
fn cockroach(flavour: Flavour) -> String {
    match flavour {
        Flavour::PostgreSql => String::new(),
        Flavour::CockroachDb => include_str!("v9_cockroach.sql").to_owned(),
    }
}

/// The epoch since which this side is the primary, or is not, where a transaction reads it whose
/// snapshot is older: a sequence has no versions. It is set by whatever changes the control row,
/// in that transaction and with the row locked. On CockroachDB every write reads the row itself.
fn primary_epoch(flavour: Flavour) -> String {
    match flavour {
        Flavour::PostgreSql => include_str!("v12_postgres.sql").to_owned(),
        Flavour::CockroachDb => String::new(),
    }
}

/// Functions that sessions of callers call: they may log in as a role that has no right on any of
/// segue's tables. On CockroachDB they use the tables.
fn callers(flavour: Flavour) -> String {
    match flavour {
        Flavour::PostgreSql => include_str!("callers.sql").to_owned(),
        Flavour::CockroachDb => String::new(),
    }
}

/// How a write is refused on CockroachDB whose look at the control row finds another epoch: what
/// the server has of its own for it is kept from users by 26.1 and later.
fn refusal(flavour: Flavour) -> String {
    match flavour {
        Flavour::PostgreSql => String::new(),
        Flavour::CockroachDb => REFUSE_WRITE.to_owned(),
    }
}

/// It says what it is given, with the SQLSTATE of a database that takes no writes.
const REFUSE_WRITE: &str = "\
CREATE OR REPLACE FUNCTION segue.refuse_write(said text) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '25006', MESSAGE = said;
    RETURN 0;
END
$$;
";

/// Whose database it is, which every session asks: those of callers by a function, and on
/// CockroachDB by the table.
fn identity(flavour: Flavour) -> String {
    let table = include_str!("v20.sql").to_owned();
    match flavour {
        Flavour::PostgreSql => table + include_str!("whose.sql"),
        Flavour::CockroachDb => table,
    }
}

/// Writes on the side that follows that are not segue's: as its trigger notes them, and who made
/// them. Whether the target notes or refuses them is asked in old snapshots too, as with the
/// primary: the sequence says since which epoch it is so.
fn foreign_writes(flavour: Flavour) -> String {
    let mut sql = include_str!("foreign_writes.sql").to_owned();
    if flavour == Flavour::PostgreSql {
        sql.push_str(include_str!("foreign_writes_postgres.sql"));
    }
    sql
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

/// The outbox. It has no sequence, since `lastval()` belongs to the application, and no
/// unique index, since its writers must never wait for one another. Rows are deleted with
/// their partition, never one by one. `REPLICA IDENTITY FULL` keeps a publication `FOR ALL
/// TABLES` from refusing the updates that forget rows.
fn outbox(flavour: Flavour) -> String {
    if flavour == Flavour::CockroachDb {
        return String::new();
    }
    let mut sql = String::from(
        "CREATE TABLE IF NOT EXISTS segue.outbox (
    slot int2 NOT NULL,
    table_id int4 NOT NULL,
    key text[],
    write_id uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts int4 NOT NULL DEFAULT 0,
    last_error text,
    forgotten_at timestamptz
) PARTITION BY LIST (slot);
CREATE INDEX IF NOT EXISTS outbox_due ON segue.outbox (next_attempt_at) WHERE forgotten_at IS NULL;
",
    );
    for slot in 0..OUTBOX_SLOTS {
        // Writing to a String cannot fail.
        let _ = write!(
            sql,
            "CREATE TABLE IF NOT EXISTS segue.outbox_{slot} PARTITION OF segue.outbox
    FOR VALUES IN ({slot}) WITH (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE segue.outbox_{slot} REPLICA IDENTITY FULL;
"
        );
    }
    sql
}
