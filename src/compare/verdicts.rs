//! Two answers, one verdict.

use std::collections::BTreeSet;

use crate::compare::cell::{ColumnPair, same_type};
use crate::compare::explain::{self, Found};
use crate::compare::matching::{Left, Matcher, TooMuch};
use crate::compare::rows::{Rows, RulesUsed};
use crate::compare::rules::Rules;
use crate::compare::{catalogue, faults};
use crate::domain::answer::{Answer, Observed};
use crate::domain::verdict::{Comparison, Difference, Verdict};
use crate::statement::{Analysis, Output, StatementKind};

/// Rules by which a normalized answer is counted, the telling ones first.
const RULES_BY_WEIGHT: &[&str] = &[
    "serial_values",
    "column_name",
    "json_set_order",
    "tie_order",
    "row_order",
    "timestamp_infinity",
    "timestamp_precision",
    "timestamp_text",
    "interval_precision",
    "timetz_precision",
    "time_precision",
    "json_key_order",
    "json_number",
    "json_timestamp",
    "json_format",
    "numeric_quotient",
    "numeric_float",
    "numeric_scale",
    "float_width",
    "char_padding",
];

/// Judges the two sides' answers to one statement.
///
/// `Incompatible` is a suspicion here; [`super::with_evidence`] makes it a finding.
pub fn compare(
    analysis: &Analysis,
    primary: &Observed,
    shadow: &Observed,
    rules: &Rules,
) -> Comparison {
    if analysis.shape.environment {
        return known(Verdict::Skipped, "environment");
    }
    if analysis.shape.system_catalog {
        return known(Verdict::Skipped, "system_catalog");
    }
    match (primary, shadow) {
        (Observed::Answer(one), Observed::Answer(other)) => {
            let found = answers(analysis, one, other, rules);
            if found.verdict.is_finding() && analysis.shape.volatile {
                return Comparison { example: found.example, ..known(Verdict::Noise, "volatile") };
            }
            found
        }
        _ => faults::judge(analysis, primary, shadow),
    }
}

/// A verdict with the words of its category.
pub(crate) fn known(verdict: Verdict, category: &'static str) -> Comparison {
    let entry = catalogue::entry(category);
    Comparison {
        verdict,
        category,
        rules: BTreeSet::new(),
        reason: entry.reason.to_owned(),
        rewrite: entry.rewrite.to_owned(),
        example: None,
        suspected: verdict == Verdict::Incompatible,
    }
}

/// `Match`, or `Normalized` by the rules that were needed.
pub(crate) fn same_by(rules: RulesUsed) -> Comparison {
    let Some(first) = rules.first() else {
        return known(Verdict::Match, "");
    };
    let category =
        RULES_BY_WEIGHT.iter().copied().find(|rule| rules.contains(rule)).unwrap_or(first);
    let reason = rules.iter().copied().collect::<Vec<_>>().join(", ");
    Comparison {
        reason: format!("equal by {reason}"),
        rewrite: String::new(),
        rules,
        ..known(Verdict::Normalized, category)
    }
}

fn answers(analysis: &Analysis, one: &Answer, other: &Answer, rules: &Rules) -> Comparison {
    if counts_rows(analysis.kind) && one.affected_rows != other.affected_rows {
        let difference = Difference {
            place: "affected rows".to_owned(),
            primary: one.affected_rows.to_string(),
            shadow: other.affected_rows.to_string(),
        };
        return Comparison { example: Some(difference), ..known(Verdict::Data, "rows_affected") };
    }
    if one.columns.len() != other.columns.len() {
        return columns_differ(one, other, "column_count");
    }
    let mut used = RulesUsed::new();
    if one.columns.iter().zip(&*other.columns).any(|(a, b)| a.name != b.name) {
        if same_names(one, other) {
            return columns_differ(one, other, "column_order");
        }
        used.insert("column_name");
    }
    let same_types = one.columns.iter().zip(&*other.columns).all(|(a, b)| same_type(&a.ty, &b.ty));
    if same_types && same_bytes(one, other) {
        return same_by(used);
    }
    let pairs = pairs(analysis, one, other, rules);
    let (primary, shadow) = (Rows::of(one), Rows::of(other));
    rows(analysis, &pairs, &primary, &shadow, rules, used)
}

/// Statements whose count of rows says what they did.
fn counts_rows(kind: StatementKind) -> bool {
    matches!(
        kind,
        StatementKind::Insert
            | StatementKind::Update
            | StatementKind::Delete
            | StatementKind::Merge
    )
}

fn columns_differ(one: &Answer, other: &Answer, category: &'static str) -> Comparison {
    let names = |answer: &Answer| {
        answer.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let difference =
        Difference { place: "columns".to_owned(), primary: names(one), shadow: names(other) };
    Comparison { example: Some(difference), ..known(Verdict::Incompatible, category) }
}

/// Whether the columns of tables have the same names in another order.
fn same_names(one: &Answer, other: &Answer) -> bool {
    let names = |answer: &Answer| {
        let mut names: Vec<String> = answer
            .columns
            .iter()
            .filter(|column| column.table_oid.is_some())
            .map(|column| column.name.clone())
            .collect();
        names.sort();
        names
    };
    let (one_names, other_names) = (names(one), names(other));
    one_names.len() == one.columns.len() && one_names == other_names
}

/// Whether the rows are the same bytes, however they came in batches.
fn same_bytes(one: &Answer, other: &Answer) -> bool {
    if one.batches == other.batches {
        return true;
    }
    let cells = |answer: &Answer| answer.batches.iter().map(|b| b.cells().len()).sum::<usize>();
    cells(one) == cells(other)
        && one
            .batches
            .iter()
            .flat_map(|batch| batch.iter())
            .eq(other.batches.iter().flat_map(|batch| batch.iter()))
}

fn pairs(analysis: &Analysis, one: &Answer, other: &Answer, rules: &Rules) -> Vec<ColumnPair> {
    one.columns
        .iter()
        .zip(&*other.columns)
        .map(|(primary, shadow)| ColumnPair {
            stored: primary.table_oid.is_some() && shadow.table_oid.is_some(),
            rules: rules.for_column(&analysis.tables, &primary.name),
            primary: primary.clone(),
            shadow: shadow.clone(),
        })
        .collect()
}

fn rows(
    analysis: &Analysis,
    pairs: &[ColumnPair],
    primary: &Rows<'_>,
    shadow: &Rows<'_>,
    rules: &Rules,
    mut used: RulesUsed,
) -> Comparison {
    let mut matcher = Matcher::new(pairs, primary, shadow);
    if matcher.in_order(&mut used) {
        return same_by(used);
    }
    let shape = &analysis.shape;
    let unordered = rules.unordered(&analysis.tables);
    let keys = sort_keys(analysis, pairs);
    if !unordered && let Some(keys) = &keys {
        match by_ties(&mut matcher, keys, &mut used) {
            Ok(true) => {
                used.insert("tie_order");
                return same_by(used);
            }
            Ok(false) => {}
            Err(TooMuch) => return known(Verdict::Skipped, "too_many_rows"),
        }
    }
    let mut needed = used.clone();
    let all = matcher.multiset(0..primary.len(), 0..shadow.len(), &mut needed);
    let Ok(left) = all else {
        return known(Verdict::Skipped, "too_many_rows");
    };
    let found = Found { analysis, pairs, primary, shadow, left: &left, keys: keys.as_deref() };
    if !left.is_empty() {
        return explain::rows(&found, used);
    }
    if unordered {
        needed.insert("unordered");
    } else if shape.order_by.is_empty() {
        let set = shape.patterns.contains("json_set_order");
        needed.insert(if set { "json_set_order" } else { "row_order" });
    } else {
        return explain::order(&found);
    }
    same_by(needed)
}

/// The columns that the answer is sorted by; `None` where one is not in it.
fn sort_keys(analysis: &Analysis, pairs: &[ColumnPair]) -> Option<Vec<usize>> {
    let keys = &analysis.shape.order_by;
    if keys.is_empty() {
        return None;
    }
    keys.iter().map(|key| column_of(&key.output, pairs)).collect()
}

/// Where an output stands in the answer.
pub(crate) fn column_of(output: &Output, pairs: &[ColumnPair]) -> Option<usize> {
    match output {
        Output::Position(at) => Some(*at).filter(|at| *at < pairs.len()),
        Output::Name(name) => pairs.iter().position(|pair| pair.primary.name == *name),
        Output::Unseen => None,
    }
}

/// Whether the answers are the same but for the order among rows that sort equally. A
/// tie ends where the keys change on both sides, and is one on at least one of them: the
/// coarser side ties more rows.
fn by_ties(
    matcher: &mut Matcher<'_>,
    keys: &[usize],
    used: &mut RulesUsed,
) -> Result<bool, TooMuch> {
    if matcher.primary.len() != matcher.shadow.len() {
        return Ok(false);
    }
    let mut needed = RulesUsed::new();
    let mut start = 0;
    for end in 1..=matcher.primary.len() {
        let ends = end == matcher.primary.len()
            || (explain::key_changes(matcher.primary, keys, end)
                && explain::key_changes(matcher.shadow, keys, end));
        if ends {
            let ties =
                |rows: &Rows<'_>| (start + 1..end).all(|at| !explain::key_changes(rows, keys, at));
            if !ties(matcher.primary) && !ties(matcher.shadow) {
                return Ok(false);
            }
            let left: Left = matcher.multiset(start..end, start..end, &mut needed)?;
            if !left.is_empty() {
                return Ok(false);
            }
            start = end;
        }
    }
    used.extend(needed);
    Ok(true)
}
