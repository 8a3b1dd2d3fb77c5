//! Constraints and indexes as the server writes them out.

use crate::preflight::expression::{gist, literal, word};

/// A constraint or an index without what says nothing of which rows it takes: when it is looked
/// at, where and how it is stored, in which order it is kept. Two that are equal so take the same
/// rows; of two that differ nothing is known.
pub(super) fn rule_of(definition: &str) -> String {
    let tokens = tokens(definition);
    let mut kept: Vec<&str> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1).copied().unwrap_or_default();
        let skipped = match (*token, next) {
            ("INCLUDE" | "WITH", "(") if depth == 0 => 1 + group(&tokens[at + 1..]),
            ("NOT", "VALID" | "ENFORCED") | ("NO", "INHERIT") | ("USING", "INDEX")
                if depth == 0 =>
            {
                2
            }
            ("INITIALLY" | "TABLESPACE", _) if depth == 0 => 2,
            ("DEFERRABLE", _) if depth == 0 => 1,
            ("NULLS", "FIRST" | "LAST") => 2,
            ("DESC" | "ASC", _) => 1,
            _ => 0,
        };
        if skipped > 0 {
            at += skipped;
            continue;
        }
        depth = deeper(depth, token);
        kept.push(token);
        at += 1;
    }
    gist(&joined(&kept))
}

/// With spaces between words alone.
fn joined(tokens: &[&str]) -> String {
    let is_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '"' | '\'');
    let mut sql = String::new();
    for token in tokens {
        if sql.ends_with(is_word) && token.starts_with(is_word) {
            sql.push(' ');
        }
        sql.push_str(token);
    }
    sql
}

/// Texts, names, and single signs.
fn tokens(sql: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(letter) = rest.chars().next() {
        let (token, after) = match letter {
            '\'' => literal(rest),
            _ if letter.is_alphanumeric() || matches!(letter, '_' | '"') => word(rest),
            // The type that follows it is read as one with it.
            ':' if rest.starts_with("::") => rest.split_at(2),
            _ => rest.split_at(letter.len_utf8()),
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// How many tokens the parentheses at the begin take.
fn group(tokens: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        depth = deeper(depth, token);
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn deeper(depth: usize, token: &str) -> usize {
    match token {
        "(" => depth + 1,
        ")" => depth.saturating_sub(1),
        _ => depth,
    }
}

#[cfg(test)]
mod tests {
    use super::rule_of;

    #[test]
    fn what_says_nothing_of_the_rows_is_left_out() {
        let equal = [
            ("btree (lower(a)) WHERE (NOT b)", "btree (lower(a) DESC NULLS LAST) WHERE (NOT b)"),
            ("btree (lower(a))", "btree (lower(a)) INCLUDE (b, c) WITH (fillfactor='70')"),
            ("btree (lower(a))", "btree (lower(a)) TABLESPACE fast"),
            (
                "EXCLUDE USING gist (a WITH =, b WITH &&)",
                "EXCLUDE USING gist (a WITH =, b WITH &&) DEFERRABLE INITIALLY DEFERRED",
            ),
            (
                "EXCLUDE USING gist (a WITH =) WHERE (b)",
                "EXCLUDE USING gist (a WITH =) WITH (fillfactor='90') WHERE (b) DEFERRABLE",
            ),
            ("CHECK ((a > 0))", "CHECK ((a > 0)) NO INHERIT NOT VALID"),
            ("CHECK (a < (1.5)::numeric(4,2))", "CHECK (a < 1.5) NOT VALID"),
        ];
        for (one, other) in equal {
            assert_eq!(rule_of(one), rule_of(other));
        }
    }

    #[test]
    fn what_says_something_of_the_rows_is_kept() {
        let differ = [
            ("btree (a) NULLS NOT DISTINCT", "btree (a)"),
            ("btree (a) WHERE b", "btree (a)"),
            ("EXCLUDE USING gist (a WITH =)", "EXCLUDE USING gist (a WITH &&)"),
            ("CHECK ((a <> ' DESC'))", "CHECK ((a <> ''))"),
            ("btree (\"DESC\")", "btree (a)"),
        ];
        for (one, other) in differ {
            assert_ne!(rule_of(one), rule_of(other));
        }
    }
}
