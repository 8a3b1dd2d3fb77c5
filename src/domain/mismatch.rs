//! Judged samples, gathered by statement.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use crate::domain::verdict::Verdict;

/// What samples of one statement are gathered by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MismatchKey {
    /// The statement's fingerprint, in hexadecimal.
    pub fingerprint: String,
    /// What was found.
    pub verdict: Verdict,
    /// The catalogue's category; empty where the verdict has none.
    pub category: String,
}

/// The samples of one statement with one verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// What they were gathered by.
    pub key: MismatchKey,
    /// The statement with its constants replaced.
    pub statement: String,
    /// Its name from the query files, where it has one.
    pub statement_name: Option<Arc<str>>,
    /// How many samples.
    pub count: u64,
    /// When the first of them was judged.
    pub first_seen: SystemTime,
    /// When the last of them was judged.
    pub last_seen: SystemTime,
    /// Why, in one sentence.
    pub reason: String,
    /// The suggested rewrite; empty where there is none.
    pub rewrite: String,
    /// One difference as text, values redacted unless configured; empty where there is none.
    pub example: String,
    /// Normalization rules that any of them needed.
    pub rules: BTreeSet<String>,
    /// A suspicion without proof.
    pub suspected: bool,
}

/// An operator's word that entries of the list need nobody's attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// The statement's fingerprint.
    pub fingerprint: String,
    /// Of this verdict only; of all where absent.
    pub verdict: Option<Verdict>,
    /// Why.
    pub reason: String,
    /// Who.
    pub resolved_by: String,
}

impl Mismatch {
    /// Takes another gathering of the same key into this one.
    pub fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
        self.rules.extend(other.rules);
        self.suspected = self.suspected && other.suspected;
        if self.example.is_empty() {
            self.example = other.example;
        }
    }
}
