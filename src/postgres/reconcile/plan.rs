//! Two readings of the same keys → what must be written on the shadow. Pure.

use std::collections::{BTreeSet, HashSet};

use crate::postgres::mapping::image::Image;
use crate::postgres::mapping::table::{Pair, TableShape};

/// A row whose columns differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Index of the key in its table's part of the set.
    pub key: usize,
    /// Indexes into [`TableShape::pairs`] of the columns that differ, ascending.
    pub pairs: Vec<usize>,
}

/// What must be written in one table; each list holds indexes of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TablePlan {
    /// Rows that the primary no longer has.
    pub deletes: Vec<usize>,
    /// Rows of both sides that differ.
    pub updates: Vec<Update>,
    /// Rows that only the primary has.
    pub inserts: Vec<usize>,
    /// Rows that are taken out first and put back whole, the shadow's own columns included:
    /// they give up a unique value that another row of the set needs.
    pub reinserts: Vec<usize>,
}

impl TablePlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty()
            && self.updates.is_empty()
            && self.inserts.is_empty()
            && self.reinserts.is_empty()
    }

    /// Rows that are written.
    pub fn len(&self) -> usize {
        self.deletes.len() + self.updates.len() + self.inserts.len() + self.reinserts.len()
    }
}

/// Which rows are taken out before others are written.
#[derive(Debug, Clone, Copy)]
pub struct Removal<'a> {
    /// All whose unique columns change.
    pub unique_holders: bool,
    /// These, because a row that they refer to is taken out.
    pub forced: &'a BTreeSet<usize>,
}

/// Compares the readings key by key. `equal` says whether two rows have the same image in a
/// column: one for which it says so is left alone, so that a finer value of the shadow survives
/// a change of another column.
pub fn plan(
    shape: &TableShape,
    primary: &[Option<Image>],
    shadow: &[Option<Image>],
    removal: Removal<'_>,
    equal: impl Fn(&TableShape, &Pair, &Image, &Image) -> bool,
) -> TablePlan {
    let mut plan = TablePlan::default();
    let mut seen = HashSet::with_capacity(primary.len());
    for (key, (wanted, found)) in primary.iter().zip(shadow).enumerate() {
        // Texts of one key, such as 1.0 and 1.00, name the same rows: written once is enough,
        // and twice would fail.
        if !shape.texts_are_keys() && !seen.insert((wanted, found)) {
            continue;
        }
        match (wanted, found) {
            (None, None) => {}
            (None, Some(_)) => plan.deletes.push(key),
            (Some(_), None) => plan.inserts.push(key),
            (Some(wanted), Some(found)) => {
                let pairs: Vec<usize> = (0..shape.pairs.len())
                    .filter(|index| !equal(shape, &shape.pairs[*index], wanted, found))
                    .collect();
                if removal.forced.contains(&key) || must_reinsert(shape, &pairs, removal) {
                    plan.reinserts.push(key);
                } else if !pairs.is_empty() {
                    plan.updates.push(Update { key, pairs });
                }
            }
        }
    }
    plan
}

fn must_reinsert(shape: &TableShape, pairs: &[usize], removal: Removal<'_>) -> bool {
    pairs.iter().any(|index| {
        let pair = &shape.pairs[*index];
        // No UPDATE can give an identity column that is always generated a value.
        pair.identity_always || (removal.unique_holders && pair.unique)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::mapping::table::tests::shape;

    fn row(cells: &[&str]) -> Option<Image> {
        let cells: Vec<_> = cells.iter().map(|cell| Some(cell.as_bytes())).collect();
        Some(Image::from_cells(&cells, cells.len()))
    }

    fn judged(
        primary: &[Option<Image>],
        shadow: &[Option<Image>],
        unique_holders: bool,
        forced: &BTreeSet<usize>,
    ) -> TablePlan {
        // `~` in front stands for a finer value of the same image.
        let equal = |_: &TableShape, pair: &Pair, primary: &Image, shadow: &Image| {
            let (one, other) = (primary.cell(pair.primary), shadow.cell(pair.shadow));
            let bare = |cell: Option<&[u8]>| {
                cell.map(|bytes| bytes.strip_prefix(b"~").unwrap_or(bytes).to_vec())
            };
            bare(one) == bare(other)
        };
        plan(&shape(), primary, shadow, Removal { unique_holders, forced }, equal)
    }

    #[test]
    fn only_what_differs_is_written() {
        let primary =
            [row(&["1", "a", "x"]), row(&["2", "b", "~y"]), None, row(&["4", "d", "z"]), None];
        let shadow =
            [row(&["1", "a", "old"]), row(&["2", "b", "y"]), row(&["3", "c", "x"]), None, None];
        let plan = judged(&primary, &shadow, false, &BTreeSet::new());
        assert_eq!(plan.updates, [Update { key: 0, pairs: vec![2] }]);
        assert_eq!(plan.deletes, [2]);
        assert_eq!(plan.inserts, [3]);
        assert_eq!(plan.len(), 3);
    }

    #[test]
    fn holders_of_unique_values_are_taken_out_first_when_asked() {
        let primary = [row(&["1", "b", "x"]), row(&["2", "a", "x"]), row(&["3", "c", "new"])];
        let shadow = [row(&["1", "a", "x"]), row(&["2", "b", "x"]), row(&["3", "c", "x"])];
        let plain = judged(&primary, &shadow, false, &BTreeSet::new());
        assert_eq!(plain.updates.len(), 3);
        let careful = judged(&primary, &shadow, true, &BTreeSet::new());
        assert_eq!(careful.reinserts, [0, 1]);
        assert_eq!(careful.updates, [Update { key: 2, pairs: vec![2] }]);
    }

    #[test]
    fn rows_whose_parent_is_taken_out_go_with_it_though_they_are_equal() {
        let rows = [row(&["1", "a", "x"])];
        let plan = judged(&rows, &rows, false, &BTreeSet::from([0]));
        assert_eq!(plan.reinserts, [0]);
        assert!(judged(&rows, &rows, true, &BTreeSet::new()).is_empty());
    }
}
