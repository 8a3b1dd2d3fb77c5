//! Statements that touch tables which are not migrated, counted by fingerprint.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::reach::{Noted, Reach};
use crate::statement::Analysis;

/// Different statements that are remembered; the gate needs one for each table.
const STATEMENTS_MAX: usize = 200;
/// Stands for all statements for which there was no room.
const OTHERS: &str = "other statements";

/// The statements seen by this sidecar.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<String, Entry>>);

#[derive(Debug)]
struct Entry {
    /// Nothing for the sum of those without room.
    analysis: Option<Analysis>,
    /// It was seen where its names count as any of that name.
    any_schema: bool,
    noted: Noted,
}

// === impl Seen ===

impl Seen {
    pub(super) fn note(&self, analysis: &Analysis, reach: &Reach) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&analysis.fingerprint) {
            entry.noted.count += 1;
            if entry.any_schema && !reach.any_schema {
                return;
            }
            entry.any_schema = reach.any_schema;
            entry.noted.relations.clone_from(&reach.undeclared);
            return;
        }
        let room = entries.len() < STATEMENTS_MAX;
        let fingerprint = if room { &analysis.fingerprint } else { OTHERS };
        let entry = entries.entry(fingerprint.to_owned()).or_insert_with(|| Entry {
            analysis: room.then(|| analysis.clone()),
            any_schema: room && reach.any_schema,
            noted: Noted {
                fingerprint: fingerprint.to_owned(),
                summary: if room { analysis.summary.clone() } else { OTHERS.to_owned() },
                relations: Default::default(),
                count: 0,
            },
        });
        entry.noted.count += 1;
        entry.noted.relations.extend(reach.undeclared.iter().cloned());
    }

    /// Most frequent first. Tables may have been taken into the migration since.
    pub(super) fn noted(&self, resolve: impl Fn(&Analysis, bool) -> Reach) -> Vec<Noted> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = |entry: &Entry| {
            let relations = match &entry.analysis {
                Some(analysis) => resolve(analysis, entry.any_schema).undeclared,
                None => entry.noted.relations.clone(),
            };
            (!relations.is_empty()).then(|| Noted { relations, ..entry.noted.clone() })
        };
        let mut noted: Vec<Noted> = entries.values().filter_map(now).collect();
        noted.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.fingerprint.cmp(&b.fingerprint)));
        noted
    }
}
