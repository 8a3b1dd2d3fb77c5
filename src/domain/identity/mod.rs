//! Which migration a database belongs to, and which side of it. Pure.
//!
//! Both sides carry the migration's id, their own id and each other's. Besides, each carries the
//! place where that was written (a copy is in another place), and a generation that rises all the
//! time and is noted on the other side (a backup that was restored has an older one).

mod judge;

use std::fmt;

use uuid::Uuid;

use crate::domain::control::Phase;
use crate::domain::side::{Side, Sides};

pub use judge::{Asked, Standing, judge};

/// A migration: its own id and those of its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The migration's.
    pub migration: Uuid,
    /// Each side's.
    pub sides: Sides<Uuid>,
}

/// Where a database is: copies of it are elsewhere. Empty parts are not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The server's own id, which its standbys share.
    pub system: String,
    /// The database's id there.
    pub database: String,
}

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The migration as this side knows it.
    pub identity: Identity,
    /// Which side this database is.
    pub side: Side,
    /// The other side has taken its identity up.
    pub paired: bool,
    /// Where it was written.
    pub written_at: Place,
    /// Rises all the time.
    pub generation: i64,
    /// The generation of the other side that was last noted here.
    pub other_generation: i64,
}

/// What was found in a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The version of segue's tables; 0 for none.
    pub version: i32,
    /// What it says of itself; nothing where it carries no identity.
    pub found: Option<Found>,
    /// Where it is.
    pub here: Place,
    /// Epoch and phase of its control row.
    pub control: Option<(i64, Phase)>,
}

// === impl Identity ===

impl Identity {
    /// The other side's id as `side` has it.
    pub fn other_of(&self, side: Side) -> &Uuid {
        self.sides.of(side.other())
    }
}

// === impl Seen ===

impl Seen {
    /// Whether the database, that of `side`, is the primary by its own row.
    pub fn names_itself(&self, side: Side) -> bool {
        self.control.is_some_and(|(_, phase)| phase.primary() == side)
    }
}

// === impl Place ===

impl Place {
    /// Reads the form of [`Place::written`].
    pub fn read(text: &str) -> Self {
        let (system, database) = text.split_once('/').unwrap_or_default();
        Self { system: system.to_owned(), database: database.to_owned() }
    }

    /// As it is kept.
    pub fn written(&self) -> String {
        format!("{}/{}", self.system, self.database)
    }

    /// Whether both may be the same place: what one of them does not know says nothing.
    pub fn agrees(&self, other: &Self) -> bool {
        let part = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
        part(&self.system, &other.system) && part(&self.database, &other.database)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |part: &str| if part.is_empty() { "not known" } else { part }.to_owned();
        write!(f, "system {}, database {}", known(&self.system), known(&self.database))
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { migration, sides } = self.identity;
        write!(f, "the {} {} of migration {migration}", self.side, sides.of(self.side))
    }
}
