//! What differs between the databases that segue moves an application between.
//!
//! A [`Dialect`] is made once, from what a server says when a session is opened. Whoever speaks to
//! a database asks it what is needed there: whether something can be done
//! ([`Dialect::has_advisory_locks`]), or the SQL for it ([`Dialect::control_look`]). Which engine
//! it is, and of which version, only this module knows.
//!
//! Another engine is one more variant of `Engine` and an arm of each `match` in this module, which
//! the compiler then asks for.

mod backfill;
mod callers;
mod capture;
mod catalogue;
mod checks;
mod fence;
mod outbox;
mod rows;
mod schema;
mod sessions;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;

pub use callers::Needed;
pub use catalogue::{PlainCatalogue, SequenceCatalogue};
pub use fence::LockKey;
pub use sessions::{CANCELED_WITHOUT_REASON, Question};

/// One server's way of speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dialect {
    engine: Engine,
    /// `server_version_num` of PostgreSQL; of CockroachDB 2503 for 25.3. 0 where it is not known.
    version: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Engine {
    #[default]
    PostgreSql,
    CockroachDb,
}

/// What CockroachDB reports when a session begins, and nobody else.
const REPORTED_VERSION: &str = "crdb_version";

// === impl Dialect ===

impl Dialect {
    /// PostgreSQL of an unknown version, where SQL is written for no server in particular.
    pub const POSTGRESQL: Self = Self { engine: Engine::PostgreSql, version: 0 };
    /// CockroachDB of an unknown version.
    pub const COCKROACHDB: Self = Self { engine: Engine::CockroachDb, version: 0 };

    /// From what a server reports at the beginning of a session, by name.
    pub fn of_reported<'a>(reported: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        match reported(REPORTED_VERSION) {
            Some(text) => Self { version: release(text), ..Self::COCKROACHDB },
            None => Self::POSTGRESQL,
        }
    }

    /// From what `version()` answers.
    pub fn of_version(text: &str) -> Self {
        match text.contains("CockroachDB") {
            true => Self { version: release(text), ..Self::COCKROACHDB },
            false => Self::POSTGRESQL,
        }
    }

    /// With `server_version_num`, where that is the server's version.
    #[must_use]
    pub fn with_version_num(self, version: u32) -> Self {
        match self.engine {
            Engine::PostgreSql => Self { version, ..self },
            // It pretends to be some PostgreSQL.
            Engine::CockroachDb => self,
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.engine, self.version) {
            (Engine::PostgreSql, 0) => f.write_str("PostgreSQL"),
            (Engine::PostgreSql, version) => write!(f, "PostgreSQL {}", version / 10_000),
            (Engine::CockroachDb, 0) => f.write_str("CockroachDB"),
            (Engine::CockroachDb, version) => {
                write!(f, "CockroachDB {}.{}", version / 100, version % 100)
            }
        }
    }
}

/// The release in a text such as `CockroachDB CCL v25.4.1 (x86_64-…)`, as 2504; 0 where there is
/// none.
fn release(text: &str) -> u32 {
    let word = text.split_whitespace().find_map(|word| {
        word.strip_prefix('v').filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    let mut parts = word.unwrap_or_default().split(['.', '-']);
    let mut number = || parts.next()?.parse::<u32>().ok();
    match (number(), number()) {
        (Some(year), Some(minor)) if minor < 100 => year.saturating_mul(100).saturating_add(minor),
        _ => 0,
    }
}
