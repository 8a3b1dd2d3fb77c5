//! The parts of segue's own schema that not every server has, in the same form.
//!
//! Each of them belongs to a version of the schema (`postgres/schema/migrations.rs`), and may be run
//! again. One that has been released is never changed.

use std::fmt::Write;

use super::{Dialect, Engine};

/// It says what it is given, with the SQLSTATE of a database that takes no writes.
const REFUSE_WRITE: &str = "\
CREATE OR REPLACE FUNCTION segue.refuse_write(said text) RETURNS int8 LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '25006', MESSAGE = said;
    RETURN 0;
END
$$;
";

impl Dialect {
    /// The outbox as a ring of partitions; nothing where it is one table ([`Self::primary`]).
    ///
    /// It has no sequence, since `lastval()` belongs to the application, and no unique index, since
    /// its writers must never wait for one another. Rows are deleted with their partition, never
    /// one by one. `REPLICA IDENTITY FULL` keeps a publication `FOR ALL TABLES` from refusing the
    /// updates that forget rows.
    pub fn outbox_ring(self, slots: i16) -> String {
        if self.engine == Engine::CockroachDb {
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
        for slot in 0..slots {
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

    /// The outbox is asked for single writes: a read names the write that it must see. CockroachDB
    /// makes this index with the table.
    pub fn outbox_index_by_write(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => {
                "CREATE INDEX IF NOT EXISTS outbox_write ON segue.outbox (write_id) \
                 WHERE forgotten_at IS NULL;\n"
            }
            Engine::CockroachDb => "",
        }
    }

    /// What a server needs in order to be a primary that has not got it yet. On CockroachDB the
    /// outbox is one table, whose forgotten rows are deleted: there a `TRUNCATE` is a change of the
    /// schema. The fence is a mark in the control row.
    pub fn primary(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => "",
            Engine::CockroachDb => include_str!("cockroachdb/primary.sql"),
        }
    }

    /// The epoch since which this side is the primary, or is not, where a transaction reads it
    /// whose snapshot is older: a sequence has no versions. It is set by whatever changes the
    /// control row, in that transaction and with the row locked. Nothing where every write reads
    /// the row itself.
    pub fn primary_epoch(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => include_str!("postgresql/primary_epoch.sql"),
            Engine::CockroachDb => "",
        }
    }

    /// Functions that sessions of callers call; nothing where they use the tables.
    pub fn callers_functions(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => include_str!("postgresql/callers.sql"),
            Engine::CockroachDb => "",
        }
    }

    /// How a write is refused whose own look at the control row finds another epoch: what
    /// CockroachDB has of its own for it is kept from users by 26.1 and later.
    pub fn refusal_of_writes(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => "",
            Engine::CockroachDb => REFUSE_WRITE,
        }
    }

    /// The function by which sessions of callers ask whose database it is.
    pub fn whose_function(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => include_str!("postgresql/whose.sql"),
            Engine::CockroachDb => "",
        }
    }

    /// What notes others' writes on the side that follows. Whether the target notes or refuses them
    /// is asked in old snapshots too, as with the primary: a sequence says since which epoch it is
    /// so.
    pub fn foreign_writes(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => include_str!("postgresql/foreign_writes.sql"),
            Engine::CockroachDb => "",
        }
    }

    /// What the side that follows keeps of changes that its triggers saw, for its counters to be
    /// held against. Nothing where there are no such counters.
    pub fn accounted(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => include_str!("postgresql/accounted.sql"),
            Engine::CockroachDb => "",
        }
    }
}
