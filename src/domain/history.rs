//! What was changed in a migration, by whom and why.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use crate::domain::control::{Percentage, Phase};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The phase was changed.
    Phase,
    /// Every member works by the new epoch.
    Settled,
    /// The share of the target's reads was changed, or held, or let go on.
    Percentage,
    /// Capture was off, or somebody else wrote to the side that follows.
    Drift,
    /// A cutover was carried out up to its flip, or a rollback was practised.
    Rehearsal,
    /// A table became pending as a whole, or is pending key by key again.
    Outbox,
    /// A table was taken out of the migration, or came back to it.
    Tables,
    /// Which databases belong to the migration, or what one of them lost.
    Identity,
}

/// One change. Time and id are the database's and the writer's.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// 128 random bits: the same event in both databases.
    pub id: u128,
    /// What it is about.
    pub kind: EventKind,
    /// Where the migration stood before.
    pub from: Standing,
    /// Where it stands since.
    pub to: Standing,
    /// The epoch since.
    pub epoch: u64,
    /// A gate was overridden.
    pub forced: bool,
    /// Who.
    pub changed_by: String,
    /// Why.
    pub reason: String,
    /// The figures that it was decided by, a line each.
    pub figures: String,
}

/// Phase and percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The phase.
    pub phase: Phase,
    /// The share of the target's reads.
    pub percentage: Percentage,
}

/// An event as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// When, by the database's clock.
    pub at: SystemTime,
    /// What.
    pub event: Event,
}

// === impl EventKind ===

impl EventKind {
    const ALL: [Self; 8] = [
        Self::Phase,
        Self::Settled,
        Self::Percentage,
        Self::Drift,
        Self::Rehearsal,
        Self::Outbox,
        Self::Tables,
        Self::Identity,
    ];

    /// The word in `segue.history`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Settled => "settled",
            Self::Percentage => "percentage",
            Self::Drift => "drift",
            Self::Rehearsal => "rehearsal",
            Self::Outbox => "outbox",
            Self::Tables => "tables",
            Self::Identity => "identity",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| format!("{text:?} is no kind of event that this segue knows"))
    }
}
