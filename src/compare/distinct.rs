//! `DISTINCT ON`: each group shows one row, and without a total order the plan chooses which.
//!
//! The groups themselves are data. What else a row holds can be compared only where the sort
//! key says which row it must be; otherwise this is as little comparable as a `LIMIT` that cuts
//! without a total order.

use crate::compare::explain::Found;
use crate::compare::matching::Matcher;
use crate::compare::rows::RulesUsed;
use crate::compare::verdicts::{column_of, known};
use crate::domain::verdict::{Comparison, Verdict};

/// What the outermost `DISTINCT ON` says of rows without a partner.
pub(crate) enum Chosen {
    /// The plan may have chosen other rows of the same groups.
    ByPlan(Comparison),
    /// The sort keys of the groups' rows differ: one side sorts otherwise, or lacks a row.
    ByOrder,
    /// The groups differ, or their rows are the same ones with other data.
    Not,
    /// It cannot be told: there is no outermost `DISTINCT ON`, or its columns are not shown.
    Unknown,
}

/// Whether the plan's choice explains the difference.
pub(crate) fn chosen(found: &Found<'_>) -> Chosen {
    let shape = &found.analysis.shape;
    let groups: Option<Vec<usize>> =
        shape.distinct_on.iter().map(|output| column_of(output, found.pairs)).collect();
    let Some(groups) = groups.filter(|groups| !groups.is_empty()) else {
        return Chosen::Unknown;
    };
    match same(found, &groups) {
        None => return Chosen::ByPlan(known(Verdict::Skipped, "too_many_rows")),
        Some(false) => return Chosen::Not,
        Some(true) => {}
    }
    // ORDER BY begins with the columns of DISTINCT ON.
    if shape.order_by.len() <= groups.len() {
        return Chosen::ByPlan(known(Verdict::Skipped, "distinct_on"));
    }
    let Some(keys) = found.keys else { return Chosen::Unknown };
    let both = [&groups, keys].concat();
    match same(found, &both) {
        None => Chosen::ByPlan(known(Verdict::Skipped, "too_many_rows")),
        Some(true) if found.same_row_beyond(&both) => Chosen::Not,
        Some(true) => Chosen::ByPlan(known(Verdict::Skipped, "distinct_on_ties")),
        Some(false) => Chosen::ByOrder,
    }
}

/// Whether the rows without a partner are the same in these columns; `None` where that takes
/// too long to tell.
fn same(found: &Found<'_>, columns: &[usize]) -> Option<bool> {
    let pairs: Vec<_> = columns.iter().filter_map(|at| found.pairs.get(*at).cloned()).collect();
    let primary = found.primary.part(&found.left.primary, columns);
    let shadow = found.shadow.part(&found.left.shadow, columns);
    let mut matcher = Matcher::new(&pairs, &primary, &shadow);
    let left = matcher.multiset(0..primary.len(), 0..shadow.len(), &mut RulesUsed::new());
    left.ok().map(|left| left.is_empty())
}
