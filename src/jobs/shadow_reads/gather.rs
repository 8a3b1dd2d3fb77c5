//! Verdicts gathered by statement between two flushes, bounded in memory.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::compare::redact::redacted;
use crate::domain::call::BoundStatement;
use crate::domain::mismatch::{Mismatch, MismatchKey};
use crate::domain::verdict::{Comparison, Difference};
use crate::statement::Analysis;

/// Stands for all statements for which there was no room.
const OVERFLOW: &str = "overflow";
const EXAMPLE_CHARS_MAX: usize = 2_000;
const STATEMENT_CHARS_MAX: usize = 10_000;

/// Verdicts since the last flush.
#[derive(Debug)]
pub(super) struct Gathering {
    entries_max: usize,
    entries: Mutex<HashMap<MismatchKey, Mismatch>>,
}

impl Gathering {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries_max, entries: Mutex::default() }
    }

    pub(super) fn add(
        &self,
        statement: &BoundStatement,
        analysis: &Analysis,
        comparison: Comparison,
        show_values: bool,
    ) {
        let now = SystemTime::now();
        let example = comparison
            .example
            .map(|difference| describe(&difference, show_values))
            .unwrap_or_default();
        self.insert(Mismatch {
            key: MismatchKey {
                fingerprint: analysis.fingerprint.clone(),
                verdict: comparison.verdict,
                category: comparison.category.to_owned(),
            },
            statement: analysis.normalized.chars().take(STATEMENT_CHARS_MAX).collect(),
            statement_name: statement.name.clone(),
            count: 1,
            first_seen: now,
            last_seen: now,
            reason: comparison.reason,
            rewrite: comparison.rewrite,
            example,
            rules: comparison.rules.into_iter().map(str::to_owned).collect(),
            suspected: comparison.suspected,
        });
    }

    /// Takes all and begins anew.
    pub(super) fn take(&self) -> Vec<Mismatch> {
        std::mem::take(&mut *self.entries.lock().unwrap_or_else(PoisonError::into_inner))
            .into_values()
            .collect()
    }

    /// Puts back what could not be stored.
    pub(super) fn put_back(&self, gathered: Vec<Mismatch>) {
        for mismatch in gathered {
            self.insert(mismatch);
        }
    }

    fn insert(&self, mut mismatch: Mismatch) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.entries_max && !entries.contains_key(&mismatch.key) {
            // Counted under one name for each verdict, so that nothing goes unseen.
            mismatch.key.fingerprint = OVERFLOW.to_owned();
            mismatch.key.category = String::new();
            mismatch.statement =
                "(statements beyond the number that is remembered between two flushes)".to_owned();
            mismatch.statement_name = None;
        }
        match entries.get_mut(&mismatch.key) {
            Some(entry) => entry.absorb(mismatch),
            None => {
                entries.insert(mismatch.key.clone(), mismatch);
            }
        }
    }
}

/// A difference as one text; without its values unless they may be shown.
fn describe(difference: &Difference, show_values: bool) -> String {
    if show_values {
        format!(
            "{}: primary {}, shadow {}",
            difference.place, difference.primary, difference.shadow
        )
        .chars()
        .take(EXAMPLE_CHARS_MAX)
        .collect()
    } else {
        format!(
            "{}: primary {}, shadow {}",
            difference.place,
            without_values(&difference.place, &difference.primary),
            without_values(&difference.place, &difference.shadow)
        )
    }
}

/// Counts, names of columns and codes are no values of the application.
fn without_values(place: &str, text: &str) -> String {
    match place {
        "row count" | "affected rows" | "columns" => text.to_owned(),
        "error" if text.ends_with(" rows") => text.to_owned(),
        // The message behind the code may quote a value.
        "error" => text.split(' ').next().unwrap_or_default().to_owned(),
        _ => redacted(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::verdict::Verdict;

    fn mismatch(fingerprint: &str, verdict: Verdict) -> Mismatch {
        Mismatch {
            key: MismatchKey {
                fingerprint: fingerprint.to_owned(),
                verdict,
                category: String::new(),
            },
            statement: String::new(),
            statement_name: None,
            count: 1,
            first_seen: SystemTime::UNIX_EPOCH,
            last_seen: SystemTime::UNIX_EPOCH,
            reason: String::new(),
            rewrite: String::new(),
            example: String::new(),
            rules: std::collections::BTreeSet::new(),
            suspected: false,
        }
    }

    #[test]
    fn memory_is_bounded_and_every_sample_is_counted() {
        let gathering = Gathering::new(10);
        for i in 0..1_000 {
            gathering.insert(mismatch(&format!("{i}"), Verdict::Data));
            gathering.insert(mismatch(&format!("{i}"), Verdict::Match));
        }
        let gathered = gathering.take();
        assert!(gathered.len() <= 12, "{} entries", gathered.len());
        assert_eq!(gathered.iter().map(|entry| entry.count).sum::<u64>(), 2_000);
        let data = gathered.iter().filter(|entry| entry.key.verdict == Verdict::Data);
        assert_eq!(data.map(|entry| entry.count).sum::<u64>(), 1_000);
    }

    #[test]
    fn what_was_not_stored_comes_again() {
        let gathering = Gathering::new(10);
        gathering.insert(mismatch("a", Verdict::Data));
        let gathered = gathering.take();
        gathering.insert(mismatch("a", Verdict::Data));
        gathering.put_back(gathered);
        assert_eq!(gathering.take()[0].count, 2);
    }

    #[test]
    fn values_are_redacted_unless_asked_for() {
        let difference = Difference {
            place: "row 1, column total".to_owned(),
            primary: "12.50".to_owned(),
            shadow: "secret".to_owned(),
        };
        let hidden = describe(&difference, false);
        assert_eq!(
            hidden,
            "row 1, column total: primary (number of 5 characters), shadow (value of 6 characters)"
        );
        assert!(describe(&difference, true).ends_with("primary 12.50, shadow secret"));
        let fault = Difference {
            place: "error".to_owned(),
            primary: "1 rows".to_owned(),
            shadow: "22P02 invalid input: secret".to_owned(),
        };
        assert_eq!(describe(&fault, false), "error: primary 1 rows, shadow 22P02");
    }
}
