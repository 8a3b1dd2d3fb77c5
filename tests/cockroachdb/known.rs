//! Violations that are known: `known.json`.

use std::collections::BTreeSet;

use crate::support::cockroach::parser::Refusal;
use crate::support::cockroach::walk::Violation;

/// One that stands in the file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    pub rule: String,
    pub detail: String,
    /// The finding of the audit that it is; it goes with the violation.
    pub finding: Option<u32>,
    /// Why the statement is right all the same.
    pub copes: Option<String>,
    /// Other suites send it, and the pass need not.
    #[serde(default)]
    pub elsewhere: bool,
}

/// What is known, each with a finding or a reason.
pub fn load() -> Vec<Known> {
    let known: Vec<Known> =
        serde_json::from_str(include_str!("known.json")).expect("known.json has this form");
    let mut seen = BTreeSet::new();
    for it in &known {
        assert!(it.finding.is_some() != it.copes.is_some(), "{it:?}: a finding, or why it copes");
        assert!(seen.insert((&it.rule, &it.detail)), "{it:?} stands there twice");
    }
    known
}

impl Known {
    pub fn is(&self, violation: &Violation) -> bool {
        self.rule == violation.rule && self.detail == violation.detail
    }
}

/// What the parser said, as a violation: its message and what stands before the place.
pub fn syntax(refusal: &Refusal) -> Violation {
    let mut lines = refusal.detail.lines().rev();
    let before = lines
        .find(|line| line.trim() == "^")
        .map(|mark| mark.chars().count() - 1)
        .zip(lines.next())
        .map(|(column, line)| line.chars().take(column).collect::<String>())
        .unwrap_or_default();
    let is_of_word = |it: char| it.is_ascii_alphabetic() || matches!(it, '_' | '.' | ':');
    let word = before.trim_end().rsplit(|it| !is_of_word(it)).next().unwrap_or_default();
    let place = if refusal.place.is_empty() { "" } else { " in a body" };
    let detail = format!("{} after `{word}`{place} ({})", refusal.message, refusal.code);
    Violation { rule: "syntax", detail }
}
