//! What `segue check` must know of a server to judge it.

use super::{Dialect, Engine};

/// `CREATE OR REPLACE TRIGGER` came with it, which capture needs.
const OLDEST_POSTGRESQL: u32 = 140_000;
/// `pg_trigger` has rows from there on, by which capture is looked after.
const OLDEST_COCKROACHDB: u32 = 2503;

impl Dialect {
    /// Whether segue needs a later version; one that is not known is not judged.
    pub fn is_too_old(self) -> bool {
        let oldest = match self.engine {
            Engine::PostgreSql => OLDEST_POSTGRESQL,
            Engine::CockroachDb => OLDEST_COCKROACHDB,
        };
        self.version > 0 && self.version < oldest
    }

    /// Whether an interval may be infinite.
    pub fn has_infinite_intervals(self) -> bool {
        match self.engine {
            Engine::PostgreSql => self.version >= 170_000,
            Engine::CockroachDb => false,
        }
    }

    /// Whether `SET` on a parameter can be granted.
    pub fn grants_settings(self) -> bool {
        match self.engine {
            Engine::PostgreSql => self.version >= 150_000,
            Engine::CockroachDb => false,
        }
    }

    /// Whether the database has a collation of its own; otherwise texts are ordered by their bytes.
    pub fn has_database_collation(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether `CREATE EXTENSION` can bring what is missing.
    pub fn has_extensions(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether there are large objects.
    pub fn has_large_objects(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether settings and limits of sessions are noted for roles and databases
    /// (`pg_db_role_setting`, `rolconnlimit`).
    pub fn tells_limits_of_roles(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }
}
