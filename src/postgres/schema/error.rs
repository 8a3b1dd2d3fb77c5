//! What can go wrong while segue's schema or its triggers are put in place.

use crate::domain::side::Side;
use crate::domain::sqlstate;
use crate::postgres::session::fault::sqlstate_of;

/// A failure to set a database up, with the way out.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The role may not do it; somebody who may can run `sql`.
    #[error(
        "{side}: role {role:?} may not {action}: {message}; run this as a role that may, then try again:\n{sql}"
    )]
    Privilege {
        /// Where.
        side: Side,
        /// Who was refused.
        role: String,
        /// What was refused: `make segue's schema`.
        action: String,
        /// What the server said.
        message: String,
        /// What to run.
        sql: String,
    },
    /// The schema is not up to date and may not be changed here.
    #[error(
        "{side}: segue's schema is at version {found}, this segue needs {needed}; run `segue init`, or this:\n{sql}"
    )]
    Outdated {
        /// Where.
        side: Side,
        /// The version found, 0 for none.
        found: i32,
        /// The version needed.
        needed: i32,
        /// What to run.
        sql: String,
    },
    /// The schema is of a newer segue.
    #[error(
        "{side}: segue's schema is at version {found}, newer than the {known} that this segue knows; use the newer segue"
    )]
    Newer {
        /// Where.
        side: Side,
        /// The version found.
        found: i32,
        /// The newest version known.
        known: i32,
    },
    /// A table's lock was not to be had in time.
    #[error(
        "{side}: table {table} was in use for {waited_ms} ms, so that no trigger could be put on it without holding up its writers; held by {holders}; end those, or try again later"
    )]
    Locked {
        /// Where.
        side: Side,
        /// Which table.
        table: String,
        /// How long it was tried.
        waited_ms: u128,
        /// Processes that hold it and what they do.
        holders: String,
    },
    /// Segue's own tables could not be locked in time.
    #[error(
        "{side}: segue's tables were in use for {waited_ms} ms, so that they could not be changed without holding up writers; held by {holders}; end those, or try again later"
    )]
    InUse {
        /// Where.
        side: Side,
        /// How long it was tried.
        waited_ms: u128,
        /// Processes that hold them and what they do.
        holders: String,
    },
    /// This kind of server can be moved to, and come back from, but not be left.
    #[error(
        "{side}: CockroachDB can be the target of a migration, and not its source: capture there cannot be switched off as the source's must be"
    )]
    Unsupported {
        /// Where.
        side: Side,
    },
    /// The database refused, or was lost.
    #[error("{side}: {source}")]
    Database {
        /// Where.
        side: Side,
        /// What it said.
        source: tokio_postgres::Error,
    },
}

// === impl SetupError ===

impl SetupError {
    /// A failure that the database reported.
    pub(in crate::postgres) fn database(side: Side) -> impl Fn(tokio_postgres::Error) -> Self {
        move |source| Self::Database { side, source }
    }

    /// The SQLSTATE; empty where no database spoke.
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Database { source, .. } => sqlstate_of(source),
            Self::Privilege { .. } => sqlstate::INSUFFICIENT_PRIVILEGE,
            _ => "",
        }
    }
}
