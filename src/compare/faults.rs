//! Faults on one side or both.

use crate::compare::verdicts::{known, same_by};
use crate::domain::answer::{Answer, Observed};
use crate::domain::fault::{FaultKind, Routine, SqlFault};
use crate::domain::sqlstate::{self, class};
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
        sqlstate::UNDEFINED_FUNCTION | sqlstate::INVALID_PARAMETER_VALUE => {
            sqlstate::UNDEFINED_FUNCTION
        }
        // Try again.
        sqlstate::DEADLOCK_DETECTED | sqlstate::SERIALIZATION_FAILURE => {
            sqlstate::SERIALIZATION_FAILURE
        }
        // A type or function that is not there at all.
        sqlstate::UNDEFINED_OBJECT | sqlstate::FEATURE_NOT_SUPPORTED => {
            sqlstate::FEATURE_NOT_SUPPORTED
        }
        other => other.get(..2).unwrap_or(other),
    }
}

/// Faults that say nothing about the statement.
fn circumstance(fault: &SqlFault) -> Option<Comparison> {
    if matches!(
        fault.sqlstate.as_str(),
        sqlstate::SERIALIZATION_FAILURE | sqlstate::DEADLOCK_DETECTED
    ) {
        return Some(known(Verdict::Skipped, "statement_retry"));
    }
    if fault.sqlstate == sqlstate::LOCK_NOT_AVAILABLE {
        return Some(known(Verdict::Skipped, "lock_timeout"));
    }
    let by_kind = !matches!(
        fault.kind,
        FaultKind::Database | FaultKind::InvalidArgument | FaultKind::Refused
    );
    let by_class = class::OF_CIRCUMSTANCES.iter().any(|class| fault.sqlstate.starts_with(class));
    (by_kind || by_class || fault.sqlstate == sqlstate::STATEMENT_COMPLETION_UNKNOWN)
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
    let has = |pattern| shape.patterns.contains(pattern);
    match fault.sqlstate.as_str() {
        sqlstate::UNDEFINED_TABLE | sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE
            if calls(&["nextval", "currval", "setval", "lastval"]) =>
        {
            "sequence_state"
        }
        sqlstate::UNDEFINED_TABLE | sqlstate::INVALID_SCHEMA_NAME => "missing_table",
        sqlstate::UNDEFINED_COLUMN if has("system_column") => "system_column",
        sqlstate::UNDEFINED_COLUMN => "missing_column",
        sqlstate::UNDEFINED_FUNCTION if by(Routine::NoOperator) || says("operator") => {
            "unsupported_operator"
        }
        sqlstate::UNDEFINED_FUNCTION => "unsupported_function",
        sqlstate::UNDEFINED_OBJECT => "unsupported_type",
        sqlstate::INVALID_PARAMETER_VALUE
            if by(Routine::JsonConcat) || says("jsonb") || says("concatenation") =>
        {
            "json_concat"
        }
        sqlstate::INVALID_PARAMETER_VALUE => "unsupported_operator",
        sqlstate::FEATURE_NOT_SUPPORTED if says("json") && !shape.order_by.is_empty() => {
            "json_sort"
        }
        sqlstate::FEATURE_NOT_SUPPORTED if says("mutat") => "multiple_mutations",
        sqlstate::FEATURE_NOT_SUPPORTED if has("with_without_returning") => {
            "with_without_returning"
        }
        sqlstate::FEATURE_NOT_SUPPORTED => "unsupported_feature",
        sqlstate::SYNTAX_ERROR if has("overriding_value") => "overriding_value",
        sqlstate::SYNTAX_ERROR if analysis.sql.to_ascii_lowercase().contains("pg_catalog.") => {
            "qualified_name"
        }
        sqlstate::SYNTAX_ERROR => "unsupported_syntax",
        sqlstate::INDETERMINATE_DATATYPE => "untyped_parameter",
        sqlstate::TRIGGERED_DATA_CHANGE_VIOLATION => "trigger_cascade",
        sqlstate::NUMERIC_VALUE_OUT_OF_RANGE if has_float(answer) => "float_overflow",
        sqlstate::NUMERIC_VALUE_OUT_OF_RANGE => "int_overflow",
        sqlstate::INVALID_REGULAR_EXPRESSION => "regex",
        sqlstate::FOREIGN_KEY_VIOLATION => "deferrable_constraint",
        sqlstate::CHECK_VIOLATION => "check_constraint",
        sqlstate::UNIQUE_VIOLATION => "unique_violation",
        sqlstate::READ_ONLY_SQL_TRANSACTION => "read_only",
        sqlstate::INSUFFICIENT_PRIVILEGE => "permission",
        code if code.starts_with(class::INTEGRITY_CONSTRAINT_VIOLATION) => "constraint",
        _ => "error_one_side",
    }
}

fn has_float(answer: &Answer) -> bool {
    answer.columns.iter().any(|column| matches!(&*column.ty.base().name, "float4" | "float8"))
}
