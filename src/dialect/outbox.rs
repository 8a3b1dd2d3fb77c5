//! The outbox: its form, and how rows of it are told apart, counted and removed.

use super::{Dialect, Engine};

/// Rows that one statement removes on CockroachDB at most: it locks all that it scans, and who
/// writes there meanwhile makes it begin again.
const REMOVED_AT_ONCE_COCKROACH: i64 = 500;

/// Ways of planning that a claim must not take: a part of the ring that fills up has no statistics
/// yet, and all of it would be sorted instead of following the index.
const FOLLOW_THE_INDEX: &str = "; SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off";

impl Dialect {
    /// Whether the outbox is a ring of partitions, which are emptied as a whole and whose size on
    /// disk is known. Otherwise it is one table: rows are removed one by one, and counted.
    pub fn has_outbox_ring(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// The column that tells outbox rows apart while they are claimed, and its type.
    pub fn place_of_row(self) -> (&'static str, &'static str) {
        match self.engine {
            Engine::PostgreSql => ("ctid", "tid"),
            Engine::CockroachDb => ("row_id", "uuid"),
        }
    }

    /// Rows that one statement removes, of so many that it may.
    pub fn removed_at_once(self, rows_max: i64) -> i64 {
        match self.engine {
            Engine::PostgreSql => rows_max,
            Engine::CockroachDb => rows_max.min(REMOVED_AT_ONCE_COCKROACH),
        }
    }

    /// Behind the beginning of a claim: keeps the planner on the index.
    pub fn and_follow_the_index(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => FOLLOW_THE_INDEX,
            // The index is partial, and not a part of a ring; there are no such settings.
            Engine::CockroachDb => "",
        }
    }

    /// Whether a row shows which transaction wrote it, to be held against a snapshot.
    pub fn tells_writing_transactions(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether keys of the outbox are made readable by functions that the server has.
    pub fn makes_keys_readable(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether a table's key is cut into ranges by what its pages hold.
    pub fn samples_pages(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }
}
