//! What statements touch, as the catalogues of both sides tell.

use std::sync::Arc;

use crate::domain::control::Phase;
use crate::domain::reach::{Noted, Reach};
use crate::domain::side::Side;
use crate::statement::Analysis;

/// Tells what statements touch. Asked on every call: it answers from memory.
pub trait Relations: Send + Sync + 'static {
    /// What a statement touches in this phase.
    fn reach(&self, analysis: &Analysis, phase: Phase) -> Arc<Reach>;
    /// The same where the search path of the statement's transaction may have been changed.
    fn reach_in_any_schema(&self, analysis: &Analysis, phase: Phase) -> Arc<Reach>;
    /// Whether the side's catalogue was looked at a moment ago.
    fn is_fresh(&self, side: Side) -> bool;
    /// Notes a statement that touches tables which are not migrated, and of which the
    /// configuration says nothing.
    fn note(&self, analysis: &Analysis, reach: &Reach);
    /// The statements that were noted and are still such statements while the source is the
    /// primary, most frequent first.
    fn noted(&self) -> Vec<Noted>;
}

/// A world in which every table is migrated: for tests of other parts.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllMigrated;

impl Relations for AllMigrated {
    fn reach(&self, _: &Analysis, _: Phase) -> Arc<Reach> {
        Arc::new(Reach { migrated: Some("every table".to_owned()), ..Reach::default() })
    }

    fn reach_in_any_schema(&self, analysis: &Analysis, phase: Phase) -> Arc<Reach> {
        self.reach(analysis, phase)
    }

    fn is_fresh(&self, _: Side) -> bool {
        true
    }

    fn note(&self, _: &Analysis, _: &Reach) {}

    fn noted(&self) -> Vec<Noted> {
        Vec::new()
    }
}
