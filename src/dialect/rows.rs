//! Rows: how they are copied to a side, and what a value survives on its way.

use super::{Dialect, Engine};

impl Dialect {
    /// Whether copied rows are let through as they are by `session_replication_role`: no foreign
    /// key is checked and no trigger fires. Otherwise both act, and parents go before children.
    pub fn has_replication_role(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// In a transaction: lets copied rows through as they are, where that can be said.
    pub fn as_replica(self) -> &'static str {
        match self.engine {
            Engine::PostgreSql => "SET LOCAL session_replication_role = replica; ",
            Engine::CockroachDb => "",
        }
    }

    /// Whether an `INSERT` can say `OVERRIDING SYSTEM VALUE`, and so give a value to a column that
    /// is GENERATED ALWAYS.
    pub fn overrides_identity(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether functions such as `textsend` tell the bytes that a value is sent as.
    pub fn has_send_functions(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether a numeric that arrives in binary form keeps all of its digits. PostgreSQL sends no
    /// digits that are zero at the end, beside the scale; CockroachDB takes what it is sent, and
    /// makes `1` of `1.000`.
    pub fn takes_binary_numerics(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// Whether an array may have several dimensions, and begin at another place than 1.
    pub fn has_array_dimensions(self) -> bool {
        match self.engine {
            Engine::PostgreSql => true,
            Engine::CockroachDb => false,
        }
    }

    /// The digits of the SHA-256 of some bytes.
    pub fn sha256_digits(self, bytes: &str) -> String {
        match self.engine {
            Engine::PostgreSql => {
                format!("pg_catalog.encode(pg_catalog.sha256({bytes}), 'hex')")
            }
            // It gives the digits themselves.
            Engine::CockroachDb => format!("pg_catalog.sha256({bytes})"),
        }
    }
}
