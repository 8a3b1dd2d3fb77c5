//! Rows of an answer as slices of its buffers.

use std::collections::BTreeSet;

use crate::compare::cell::{CellVerdict, ColumnPair, judge};
use crate::domain::answer::Answer;

/// One row's cells; `None` is NULL.
pub(crate) type Row<'a> = &'a [Option<&'a [u8]>];

/// The rules that a comparison needed.
pub(crate) type RulesUsed = BTreeSet<&'static str>;

/// All rows of an answer, none decoded.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    width: usize,
    count: usize,
    cells: Vec<Option<&'a [u8]>>,
}

// === impl Rows ===

impl<'a> Rows<'a> {
    /// The rows of an answer.
    pub(crate) fn of(answer: &'a Answer) -> Self {
        let width = answer.columns.len();
        let cells: Vec<_> = answer.batches.iter().flat_map(|batch| batch.iter()).collect();
        let told: usize = answer.batches.iter().map(|batch| batch.row_count() as usize).sum();
        // An answer without columns still has rows.
        let count = cells.len().checked_div(width).unwrap_or(told);
        Self { width, count, cells }
    }

    /// Some columns of some of the rows.
    pub(crate) fn part(&self, rows: &[usize], columns: &[usize]) -> Self {
        let cell = |at, column| self.cells.get(at * self.width + column).copied().flatten();
        let mut cells = Vec::with_capacity(rows.len() * columns.len());
        for at in rows {
            cells.extend(columns.iter().map(|column| cell(*at, *column)));
        }
        Self { width: columns.len(), count: rows.len(), cells }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// One of them.
    pub(crate) fn row(&self, at: usize) -> Row<'_> {
        self.cells.get(at * self.width..(at + 1) * self.width).unwrap_or_default()
    }
}

/// Whether two rows hold the same values; `rules` gets what that needed.
pub(crate) fn same(
    pairs: &[ColumnPair],
    primary: Row<'_>,
    shadow: Row<'_>,
    rules: &mut RulesUsed,
) -> bool {
    let mut needed = [""; 4];
    let mut more = RulesUsed::new();
    let mut count = 0;
    for (pair, (one, other)) in pairs.iter().zip(primary.iter().zip(shadow)) {
        match judge(pair, *one, *other) {
            CellVerdict::Equal => {}
            CellVerdict::Normalized(rule) => match needed.get_mut(count) {
                // Few rows need more rules than this, and a set a row would cost an allocation.
                Some(place) => {
                    *place = rule;
                    count += 1;
                }
                None => {
                    more.insert(rule);
                }
            },
            CellVerdict::Different => return false,
        }
    }
    rules.extend(needed.into_iter().take(count));
    rules.extend(more);
    true
}
