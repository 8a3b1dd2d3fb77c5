//! The result of judging two answers to one statement.

use std::collections::BTreeSet;
use std::fmt;

/// What two answers to one statement mean for the migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Equal as they are.
    Match,
    /// Equal after normalization.
    Normalized,
    /// They differ for a reason in the statement or the dialect.
    Incompatible,
    /// One side failed, or both with another SQLSTATE.
    Error,
    /// The databases hold different data.
    Data,
    /// Explained by keys that wait in the outbox; looked at again later.
    Pending,
    /// The primary does not agree with itself, or the statement is volatile.
    Noise,
    /// Not compared.
    Skipped,
}

impl Verdict {
    /// The name used in metrics, traces, reports and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Normalized => "normalized",
            Self::Incompatible => "incompatible",
            Self::Error => "error",
            Self::Data => "data",
            Self::Pending => "pending",
            Self::Noise => "noise",
            Self::Skipped => "skipped",
        }
    }

    /// Whether it stands in the list of things to fix.
    pub fn is_finding(self) -> bool {
        matches!(self, Self::Incompatible | Self::Error | Self::Data)
    }
}

impl std::str::FromStr for Verdict {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Match,
            Self::Normalized,
            Self::Incompatible,
            Self::Error,
            Self::Data,
            Self::Pending,
            Self::Noise,
            Self::Skipped,
        ]
        .into_iter()
        .find(|verdict| verdict.as_str() == text)
        .ok_or(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A judged pair of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The result.
    pub verdict: Verdict,
    /// A category of the catalogue (`null_order`, `int_division`, `data`, …); empty for a match.
    pub category: &'static str,
    /// Normalization rules that were needed (`timestamp_precision`, …), sorted.
    pub rules: BTreeSet<&'static str>,
    /// Why, in one sentence for people; empty for a match.
    pub reason: String,
    /// The suggested rewrite of the statement; empty where there is none.
    pub rewrite: String,
    /// The first difference with its values.
    pub example: Option<Difference>,
    /// `Incompatible` without proof: counts as unresolved until an operator says otherwise.
    pub suspected: bool,
}

/// One difference between two answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where: `row 3, column total`, `row count`, `error`.
    pub place: String,
    /// The primary's value as text; `NULL` unquoted. May hold data of the application.
    pub primary: String,
    /// The shadow's value, as above.
    pub shadow: String,
}
