//! Faults on one side or both.

use crate::compare::verdicts::{known, same_by};
use crate::domain::answer::{Answer, Observed};
use crate::domain::fault::{FaultKind, Routine, SqlFault};
use crate::domain::verdict::{Comparison, Difference, Verdict};
use crate::statement::Analysis;

/// The category of two equal faults: nothing to report, but no evidence of anything either.
pub(crate) const SAME_FAULT: &str = "error_text";

/// Judges answers of which at least one is a fault.
pub(crate) fn judge(analysis: &Analysis, primary: &Observed, shadow: &Observed) -> Comparison {
    match (primary, shadow) {
        (Observed::Fault(one), Observed::Fault(other)) => both(one, other),
        (Observed::Fault(fault), Observed::Answer(answer))
        | (Observed::Answer(answer), Observed::Fault(fault)) => {
            let judged = one_side(analysis, fault, answer);
            let (one, other) = (words(primary), words(shadow));
            let difference = Difference { place: "error".to_owned(), primary: one, shadow: other };
            Comparison { example: Some(difference), ..judged }
        }
        (Observed::Answer(_), Observed::Answer(_)) => known(Verdict::Match, ""),
    }
}

fn words(observed: &Observed) -> String {
    match observed {
        Observed::Answer(answer) => {
            let rows: u64 = answer.batches.iter().map(|batch| u64::from(batch.row_count())).sum();
            format!("{rows} rows")
        }
        Observed::Fault(fault) => format!("{} {}", fault.sqlstate, fault.message),
    }
}

fn both(one: &SqlFault, other: &SqlFault) -> Comparison {
    if let Some(skipped) = circumstance(one).or_else(|| circumstance(other)) {
        return skipped;
    }
    if one.sqlstate == other.sqlstate {
        return known(Verdict::Match, SAME_FAULT);
    }
    if class(&one.sqlstate) == class(&other.sqlstate) {
        let judged = same_by(["sqlstate_class"].into());
        return Comparison { category: SAME_FAULT, ..judged };
    }
    let difference = Difference {
        place: "error".to_owned(),
        primary: format!("{} {}", one.sqlstate, one.message),
        shadow: format!("{} {}", other.sqlstate, other.message),
    };
    Comparison { example: Some(difference), ..known(Verdict::Error, "sqlstate") }
}

/// What a code means to a program, where the two databases use different codes for it.
fn class(sqlstate: &str) -> &str {
    match sqlstate {
        // An operator that does not fit its operands.
        "42883" | "22023" => "42883",
        // Try again.
        "40P01" | "40001" => "40001",
        // A type or function that is not there at all.
        "42704" | "0A000" => "0A000",
        other => other.get(..2).unwrap_or(other),
    }
}

/// Faults that say nothing about the statement.
fn circumstance(fault: &SqlFault) -> Option<Comparison> {
    if matches!(fault.sqlstate.as_str(), "40001" | "40P01") {
        return Some(known(Verdict::Skipped, "statement_retry"));
    }
    let by_kind = !matches!(
        fault.kind,
        FaultKind::Database | FaultKind::InvalidArgument | FaultKind::Refused
    );
    let by_class = ["08", "53", "57", "58"].iter().any(|class| fault.sqlstate.starts_with(class));
    (by_kind || by_class || fault.sqlstate == "40003")
        .then(|| known(Verdict::Skipped, "interrupted"))
}

fn one_side(analysis: &Analysis, fault: &SqlFault, answer: &Answer) -> Comparison {
    circumstance(fault).unwrap_or_else(|| known(Verdict::Error, category(analysis, fault, answer)))
}

fn category(analysis: &Analysis, fault: &SqlFault, answer: &Answer) -> &'static str {
    let shape = &analysis.shape;
    let calls = |names: &[&str]| names.iter().any(|name| shape.functions.contains(*name));
    // CockroachDB speaks English, and has no names of functions that stay.
    let says = |words: &str| fault.message.contains(words);
    let by = |routine| fault.routine == routine;
    match fault.sqlstate.as_str() {
        "42P01" | "55000" if calls(&["nextval", "currval", "setval", "lastval"]) => {
            "sequence_state"
        }
        "42P01" | "3F000" => "missing_table",
        "42703" if shape.patterns.contains("system_column") => "system_column",
        "42703" => "missing_column",
        "42883" if by(Routine::NoOperator) || says("operator") => "unsupported_operator",
        "42883" => "unsupported_function",
        "42704" => "unsupported_type",
        "22023" if by(Routine::JsonConcat) || says("jsonb") || says("concatenation") => {
            "json_concat"
        }
        "22023" => "unsupported_operator",
        "0A000" if says("json") && !shape.order_by.is_empty() => "json_sort",
        "0A000" if says("mutat") => "multiple_mutations",
        "0A000" => "unsupported_feature",
        "42601" => "unsupported_syntax",
        "22003" if has_float(answer) => "float_overflow",
        "22003" => "int_overflow",
        "2201B" => "regex",
        "23503" => "deferrable_constraint",
        "23514" => "check_constraint",
        "23505" => "unique_violation",
        "25006" => "read_only",
        "42501" => "permission",
        code if code.starts_with("23") => "constraint",
        _ => "error_one_side",
    }
}

fn has_float(answer: &Answer) -> bool {
    answer.columns.iter().any(|column| matches!(&*column.ty.base().name, "float4" | "float8"))
}
