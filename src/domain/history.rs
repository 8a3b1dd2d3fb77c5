//! What was changed in a migration, by whom and why.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde_json::{Map, Number, Value};

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
    /// The figures that it was decided by.
    pub figures: Figures,
}

/// Numbers and texts by name, in the order of their names. They are kept as one JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures(Map<String, Value>);

/// The name of a text that a segue before kept, when figures were lines.
const LINES: &str = "lines";

// === impl Figures ===

impl Figures {
    /// From what is kept. A text that is no object was written by a segue before.
    pub fn parse(kept: &str) -> Self {
        if kept.is_empty() {
            return Self::default();
        }
        match serde_json::from_str(kept) {
            Ok(Value::Object(figures)) => Self(figures),
            _ => Self::default().text(LINES, kept),
        }
    }

    /// With a count.
    #[must_use]
    pub fn count(mut self, name: &str, count: u64) -> Self {
        self.0.insert(name.to_owned(), count.into());
        self
    }

    /// With a measure; without one that is no number.
    #[must_use]
    pub fn number(mut self, name: &str, number: f64) -> Self {
        if let Some(number) = Number::from_f64(number) {
            self.0.insert(name.to_owned(), Value::Number(number));
        }
        self
    }

    /// With a text.
    #[must_use]
    pub fn text(mut self, name: &str, text: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), Value::String(text.into()));
        self
    }

    /// As a JSON object.
    pub fn document(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// A line each.
    pub fn lines(&self) -> String {
        let lines = self.0.iter().map(|(name, value)| match value {
            Value::String(text) if name == LINES => text.clone(),
            Value::String(text) => format!("{name}: {text}"),
            value => format!("{name}: {value}"),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// What is kept: a JSON object, and nothing where there are no figures.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, "{}", self.document())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_kept_as_an_object_of_numbers_and_texts() {
        let figures = Figures::default()
            .count("members", 3)
            .number("p99_ms", 1.5)
            .number("p50_ms", f64::NAN)
            .text("settled", "pass: epoch \"3\"");
        let kept = figures.to_string();
        assert_eq!(kept, r#"{"members":3,"p99_ms":1.5,"settled":"pass: epoch \"3\""}"#);
        assert_eq!(Figures::parse(&kept), figures);
        assert_eq!(figures.lines(), "members: 3\np99_ms: 1.5\nsettled: pass: epoch \"3\"");
        assert_eq!(
            (Figures::default().to_string(), Figures::parse("")),
            (String::new(), Figures::default())
        );
    }

    #[test]
    fn lines_of_a_segue_before_stay_what_they_were() {
        for kept in ["settled: pass: epoch 3\nbackfill: pass", "3", "[1]"] {
            let figures = Figures::parse(kept);
            assert_eq!(figures.lines(), kept);
            assert_eq!(figures.document()["lines"], kept);
        }
    }
}
