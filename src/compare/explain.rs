//! Why rows found no partner, or came in another order.
//!
//! A construct of the statement may explain a difference only where it could have caused
//! it. A row whose stored columns differ, and whose other columns are the same, holds
//! other data, whatever the statement is written like.

use crate::compare::cell::{
    CellVerdict, ColumnPair, equal_as_json, equal_as_numbers, is_text, judge,
};
use crate::compare::distinct::{self, Chosen};
use crate::compare::matching::Left;
use crate::compare::rows::{Row, Rows, RulesUsed};
use crate::compare::verdicts::{known, same_by};
use crate::domain::verdict::{Comparison, Difference, Verdict};
use crate::statement::{Analysis, Limit, Nulls, StatementKind};
use crate::value::{self, Datum};

/// Rows that are looked at for an explanation; the rest is of the same kind.
const ROWS_MAX: usize = 50;
/// Characters of a value in an example.
const EXAMPLE_CHARS_MAX: usize = 200;

/// What the matching has found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) analysis: &'a Analysis,
    pub(crate) pairs: &'a [ColumnPair],
    pub(crate) primary: &'a Rows<'a>,
    pub(crate) shadow: &'a Rows<'a>,
    pub(crate) left: &'a Left,
    /// The columns that the answer is sorted by, where all of them are in it.
    pub(crate) keys: Option<&'a [usize]>,
}

// === impl Found ===

impl Found<'_> {
    /// Whether rows agree in more than these columns: then they are one row with other data,
    /// not another row of the same rank.
    pub(crate) fn same_row_beyond(&self, keys: &[usize]) -> bool {
        couples(self).iter().all(|couple| {
            (0..self.pairs.len()).any(|at| {
                !couple.differing.contains(&at)
                    && !keys.contains(&at)
                    && self.pairs.get(at).is_some_and(|pair| pair.stored)
                    && matches!(self.primary.row(couple.primary).get(at), Some(Some(_)))
            })
        })
    }
}

/// Two rows without a partner that are most alike, and the columns in which they differ.
struct Couple {
    primary: usize,
    shadow: usize,
    differing: Vec<usize>,
    /// Columns of tables that hold the same value, NULL apart.
    shared: usize,
}

/// Whether the sort key changes from the row before.
pub(crate) fn key_changes(rows: &Rows<'_>, keys: &[usize], at: usize) -> bool {
    let (before, here) = (rows.row(at - 1), rows.row(at));
    keys.iter().any(|key| before.get(*key) != here.get(*key))
}

/// The verdict on rows that have no partner.
pub(crate) fn rows(found: &Found<'_>, used: RulesUsed) -> Comparison {
    let couples = couples(found);
    if let Some(same) = generated(found, &couples, used) {
        return same;
    }
    let judged = match (limited(found), distinct::chosen(found)) {
        (Some(skipped), _) | (None, Chosen::ByPlan(skipped)) => skipped,
        (None, chosen) => match category(found, &couples, &chosen) {
            Some(category) => known(Verdict::Incompatible, category),
            None => known(Verdict::Data, "data"),
        },
    };
    Comparison { example: example(found, &couples), ..judged }
}

/// The verdict on the same rows in another order than `ORDER BY` allows.
pub(crate) fn order(found: &Found<'_>) -> Comparison {
    let category = match found.keys {
        Some(keys) => order_category(found, keys),
        None => "sort_key_unseen",
    };
    let at = (0..found.primary.len()).find(|at| {
        !differing(found.pairs, found.primary.row(*at), found.shadow.row(*at)).is_empty()
    });
    let example = at.and_then(|at| {
        let columns = differing(found.pairs, found.primary.row(at), found.shadow.row(at));
        difference(found, at, at, *columns.first()?)
    });
    Comparison { example, ..known(Verdict::Incompatible, category) }
}

fn order_category(found: &Found<'_>, keys: &[usize]) -> &'static str {
    let order_by = &found.analysis.shape.order_by;
    let column_has = |key: usize, test: &dyn Fn(&[u8]) -> bool| {
        (0..found.primary.len())
            .any(|at| found.primary.row(at).get(key).copied().flatten().is_some_and(test))
    };
    let has_null = |key: usize| {
        (0..found.primary.len()).any(|at| matches!(found.primary.row(at).get(key), Some(None)))
    };
    for (sort, key) in order_by.iter().zip(keys) {
        let Some(pair) = found.pairs.get(*key) else { continue };
        if sort.nulls == Nulls::Default && has_null(*key) {
            return "null_order";
        }
        let is_nan = |cell: &[u8]| match value::datum(&pair.primary.ty, cell) {
            Ok(Datum::Float4(float)) => float.is_nan(),
            Ok(Datum::Float8(float)) => float.is_nan(),
            Ok(Datum::Numeric(numeric)) => numeric == value::NumericDatum::NaN,
            _ => false,
        };
        if column_has(*key, &is_nan) {
            return "nan_order";
        }
        if is_text(&pair.primary.ty.base().name) || pair.primary.ty.base().name == "bpchar" {
            return "collation_order";
        }
    }
    // Keys of other types have one order; rows that tie on one side only differ in data.
    "sort_key_unseen"
}

/// Couples each row with the one it is most like, the likest first.
fn couples(found: &Found<'_>) -> Vec<Couple> {
    let mut free: Vec<usize> = found.left.shadow.iter().copied().take(ROWS_MAX).collect();
    let mut couples = Vec::new();
    for primary in found.left.primary.iter().copied().take(ROWS_MAX) {
        let row = found.primary.row(primary);
        let best = free
            .iter()
            .enumerate()
            .map(|(place, shadow)| {
                (place, *shadow, differing(found.pairs, row, found.shadow.row(*shadow)))
            })
            .min_by_key(|(_, _, differing)| differing.len());
        let Some((place, shadow, differing)) = best else { break };
        free.remove(place);
        let shared = (0..found.pairs.len())
            .filter(|at| {
                !differing.contains(at)
                    && found.pairs.get(*at).is_some_and(|pair| pair.stored)
                    && matches!(row.get(*at), Some(Some(_)))
            })
            .count();
        couples.push(Couple { primary, shadow, differing, shared });
    }
    couples
}

fn differing(pairs: &[ColumnPair], one: Row<'_>, other: Row<'_>) -> Vec<usize> {
    pairs
        .iter()
        .zip(one.iter().zip(other))
        .enumerate()
        .filter(|(_, (pair, (one, other)))| judge(pair, **one, **other) == CellVerdict::Different)
        .map(|(at, _)| at)
        .collect()
}

/// Keys that the databases generated themselves differ by nature: the primary's is sent.
fn generated(found: &Found<'_>, couples: &[Couple], mut used: RulesUsed) -> Option<Comparison> {
    let given = found.analysis.shape.inserted_columns.as_ref()?;
    let is_key = |at: usize| {
        found.pairs.get(at).is_some_and(|pair| {
            let is_int = |name: &str| matches!(name, "int2" | "int4" | "int8");
            pair.stored
                && is_int(&pair.primary.ty.base().name)
                && is_int(&pair.shadow.ty.base().name)
                && !given.contains(&pair.primary.name)
        })
    };
    let all = found.left.primary.len() == found.left.shadow.len()
        && couples.len() == found.left.primary.len()
        && couples.iter().all(|couple| couple.differing.iter().all(|at| is_key(*at)));
    if !all || found.analysis.kind != StatementKind::Insert {
        return None;
    }
    used.insert("serial_values");
    Some(same_by(used))
}

/// Whether a limit left rows out, as far as the answers show.
fn cuts(found: &Found<'_>, limit: &Limit) -> bool {
    let full = |rows: &Rows<'_>| limit.count.is_none_or(|count| rows.len() as u64 >= count);
    limit.offset || full(found.primary) || full(found.shadow)
}

/// Whether `LIMIT` let the plan choose which rows are shown.
fn limited(found: &Found<'_>) -> Option<Comparison> {
    let limit = found.analysis.shape.limit.filter(|limit| cuts(found, limit))?;
    if found.analysis.shape.order_by.is_empty() {
        return Some(known(Verdict::Skipped, "limit_without_order"));
    }
    let keys = found.keys?;
    if limit.with_ties || limit.offset {
        return None;
    }
    // Only among the rows that sort equally at the cut may the plan choose.
    let tail = |rows: &Rows<'_>| {
        (1..rows.len()).rev().find(|at| key_changes(rows, keys, *at)).unwrap_or(0)
    };
    let (one, other) = (tail(found.primary), tail(found.shadow));
    let last = |rows: &Rows<'_>| rows.len().checked_sub(1);
    let (last_one, last_other) = (last(found.primary)?, last(found.shadow)?);
    let same_key = keys.iter().all(|key| {
        let cells = (found.primary.row(last_one).get(*key), found.shadow.row(last_other).get(*key));
        match (found.pairs.get(*key), cells) {
            (Some(pair), (Some(a), Some(b))) => judge(pair, *a, *b).is_same(),
            _ => false,
        }
    });
    let at_the_cut = found.left.primary.iter().all(|at| *at >= one)
        && found.left.shadow.iter().all(|at| *at >= other)
        && found.primary.len() == found.shadow.len();
    (same_key && at_the_cut && !found.same_row_beyond(keys))
        .then(|| known(Verdict::Skipped, "limit_without_order"))
}

/// The construct that may have caused the difference.
fn category(found: &Found<'_>, couples: &[Couple], chosen: &Chosen) -> Option<&'static str> {
    let paired = found.left.primary.len() == found.left.shadow.len()
        && couples.len() == found.left.primary.len().min(ROWS_MAX)
        && !couples.is_empty();
    if paired && let Some(category) = by_values(found, couples) {
        return Some(category);
    }
    let stored = |at: &usize| found.pairs.get(*at).is_some_and(|pair| pair.stored);
    let patterns = &found.analysis.shape.patterns;
    // Rows of one group share its columns, and may be two rows all the same.
    let is_chosen = match chosen {
        Chosen::ByOrder => true,
        Chosen::Unknown => {
            patterns.contains("distinct_on") || patterns.contains("distinct_on_ties")
        }
        Chosen::ByPlan(_) | Chosen::Not => false,
    };
    if paired
        && !is_chosen
        && couples.iter().all(|c| c.shared > 0 && c.differing.iter().all(stored))
    {
        return None;
    }
    let computed = couples.iter().any(|couple| !couple.differing.iter().all(stored));
    let selects = !paired || couples.iter().any(|couple| couple.differing.iter().any(stored));
    let cut = found.analysis.shape.limit.is_some_and(|limit| cuts(found, &limit));
    let sorted_first = matches!(chosen, Chosen::ByOrder);
    let limit = cut || sorted_first || patterns.contains("limit_in_subquery");
    let citext = found.pairs.iter().any(|pair| {
        (pair.primary.ty.base().name == "citext") != (pair.shadow.ty.base().name == "citext")
    });
    // A spelling differs where there are two of them: NULL is no text.
    let spelt = |couple: &Couple, at: &usize| {
        let is_text =
            found.pairs.get(*at).is_some_and(|p| !p.stored && is_text(&p.primary.ty.base().name));
        is_text
            && matches!(found.primary.row(couple.primary).get(*at), Some(Some(_)))
            && matches!(found.shadow.row(couple.shadow).get(*at), Some(Some(_)))
    };
    let text_output =
        couples.iter().all(|couple| couple.differing.iter().all(|at| spelt(couple, at)));
    let plausible = |category: &str| match category {
        "int_division" | "shift_width" | "bit_precedence" | "collation_case"
        | "format_function" => computed || selects,
        "aggregate_order" | "window_order" | "char_length" => computed,
        "json_as_text" | "object_name_text" => computed && text_output,
        "collation_range" | "timestamp_equality" | "regex" => selects || computed,
        "citext" => citext && (selects || computed),
        "distinct_on" | "distinct_on_ties" => matches!(chosen, Chosen::Unknown),
        "limit_in_subquery" => true,
        "null_order" => limit,
        "collation_order" => limit || computed,
        "advisory_lock" => computed,
        _ => false,
    };
    const BY_WEIGHT: &[&str] = &[
        "aggregate_order",
        "object_name_text",
        "json_as_text",
        "shift_width",
        "bit_precedence",
        "int_division",
        "timestamp_equality",
        "collation_range",
        "citext",
        "null_order",
        "distinct_on",
        "distinct_on_ties",
        "window_order",
        "limit_in_subquery",
        "char_length",
        "collation_case",
        "collation_order",
        "regex",
        "format_function",
        "advisory_lock",
    ];
    // Rows that are there on both sides are explained cell by cell.
    let accounts = |category: &str| {
        let differing = couples.iter().flat_map(|couple| &couple.differing);
        let mut cells = differing.filter(|at| !stored(at));
        let shape = &found.analysis.shape;
        !paired || selects || limit || cells.all(|at| shape.may_come_from(*at, category))
    };
    let by_pattern =
        BY_WEIGHT.iter().copied().find(|c| patterns.contains(c) && plausible(c) && accounts(c));
    let unseen = cut && found.keys.is_none() && selects;
    by_pattern.or_else(|| unseen.then_some("limit_ties"))
}

/// A category that every differing cell shows by its values.
fn by_values(found: &Found<'_>, couples: &[Couple]) -> Option<&'static str> {
    let mut category = None;
    for couple in couples {
        for at in &couple.differing {
            let pair = found.pairs.get(*at)?;
            let one = (*found.primary.row(couple.primary).get(*at)?)?;
            let other = (*found.shadow.row(couple.shadow).get(*at)?)?;
            let here = by_value(pair, one, other)?;
            if category.is_some_and(|before| before != here) {
                return None;
            }
            category = Some(here);
        }
    }
    category
}

fn by_value(pair: &ColumnPair, one: &[u8], other: &[u8]) -> Option<&'static str> {
    let (one, other) =
        (value::datum(&pair.primary.ty, one).ok()?, value::datum(&pair.shadow.ty, other).ok()?);
    match (&one, &other) {
        (Datum::Array(a), Datum::Array(b)) if a.dimensions.len() != b.dimensions.len() => {
            (a.elements == b.elements).then_some("array_dimensions")
        }
        // A stored text is data, however it reads.
        (Datum::Text(a), Datum::Text(b)) if !pair.stored => {
            if equal_as_json(a, b) {
                Some("json_as_text")
            } else {
                equal_as_numbers(a, b).then_some("numeric_exponent_text")
            }
        }
        _ => None,
    }
}

fn example(found: &Found<'_>, couples: &[Couple]) -> Option<Difference> {
    if found.primary.len() != found.shadow.len() {
        return Some(Difference {
            place: "row count".to_owned(),
            primary: found.primary.len().to_string(),
            shadow: found.shadow.len().to_string(),
        });
    }
    let couple = couples.first()?;
    difference(found, couple.primary, couple.shadow, *couple.differing.first()?)
}

fn difference(found: &Found<'_>, one: usize, other: usize, at: usize) -> Option<Difference> {
    let pair = found.pairs.get(at)?;
    let text = |ty: &crate::domain::pg_type::PgType, cell: Option<&[u8]>| match cell {
        None => "NULL".to_owned(),
        Some(cell) => value::to_text(ty, cell).map_or_else(
            |_| format!("{} bytes of {}", cell.len(), ty.name),
            |text| text.chars().take(EXAMPLE_CHARS_MAX).collect(),
        ),
    };
    Some(Difference {
        place: format!("row {}, column {}", one + 1, pair.primary.name),
        primary: text(&pair.primary.ty, *found.primary.row(one).get(at)?),
        shadow: text(&pair.shadow.ty, *found.shadow.row(other).get(at)?),
    })
}
