//! What the rewritten statement's answers say about the first verdict.

use crate::compare::faults::SAME_FAULT;
use crate::compare::verdicts::known;
use crate::domain::verdict::{Comparison, Verdict};
use crate::statement::rewrite::Rewrite;

/// Weighs the first verdict by the answers of both sides to a rewrite of the statement.
///
/// A difference that is gone when the statement is written without the construct lay in
/// the construct. One that remains is of the data, as far as this construct goes. Answers
/// that cannot be compared leave the verdict as it was.
#[must_use]
pub fn with_evidence(first: Comparison, rewrite: &Rewrite, rewritten: Comparison) -> Comparison {
    let open = matches!(first.verdict, Verdict::Data) || first.suspected;
    if !open || first.category == "rows_affected" {
        return first;
    }
    match rewritten.verdict {
        // Both sides refuse the rewrite: its construct is not what it looked like.
        Verdict::Match | Verdict::Normalized if rewritten.category == SAME_FAULT => first,
        Verdict::Match | Verdict::Normalized => {
            let category = category(&first, rewrite, &rewritten);
            let found = known(Verdict::Incompatible, category);
            let advice = if rewrite.keeps_meaning && !rewrite.normalized.is_empty() {
                format!("{}: {}", found.rewrite, rewrite.normalized)
            } else {
                found.rewrite.clone()
            };
            Comparison {
                rewrite: advice,
                example: first.example,
                rules: rewritten.rules,
                suspected: false,
                ..found
            }
        }
        Verdict::Data | Verdict::Incompatible if first.category == rewrite.category => {
            Comparison { example: first.example, ..known(Verdict::Data, "data") }
        }
        _ => first,
    }
}

/// The verdict on a difference that is gone where the shadow's session has the primary's settings.
/// `differing` says which are not the same.
#[must_use]
pub fn of_settings(first: &Comparison, differing: &str) -> Comparison {
    let found = known(Verdict::Incompatible, "session_setting");
    Comparison {
        reason: format!("{}: {differing}", found.reason),
        example: first.example.clone(),
        suspected: false,
        ..found
    }
}

/// What a text was the text of shows only when it is selected itself.
fn category(first: &Comparison, rewrite: &Rewrite, rewritten: &Comparison) -> &'static str {
    let used = |prefix: &str| rewritten.rules.iter().any(|rule| rule.starts_with(prefix));
    if rewrite.category != "json_as_text" {
        return rewrite.category;
    }
    // The name's own value was the same.
    if first.category == "object_name_text" {
        return "object_name_text";
    }
    let was_number = first.category == "numeric_exponent_text";
    if !used("json") && (was_number || used("numeric") || used("float")) {
        return "numeric_exponent_text";
    }
    rewrite.category
}
