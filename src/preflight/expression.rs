//! Expressions of two catalogues, brought into a form in which equal ones are mostly equal.

/// Words that follow the first of a type's name.
const MORE_WORDS: [&str; 6] = ["varying", "precision", "without", "with", "time", "zone"];
const FIRST_WORDS: [&str; 6] = ["character", "double", "timestamp", "time", "bit", "interval"];

/// An expression without casts, parentheses, white space, quotes around names and the schema of
/// the system, in lower case but for texts. Two that are equal so may be taken for equal; of two
/// that differ nothing is known.
pub(super) fn gist(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(letter) = rest.chars().next() {
        if letter == '\'' {
            let (text, after) = literal(rest);
            out.push_str(text);
            rest = after;
        } else if rest.starts_with("::") {
            rest = after_type(rest.trim_start_matches(':').trim_start());
        } else {
            if !letter.is_whitespace() && !matches!(letter, '(' | ')' | '"') {
                out.extend(letter.to_lowercase());
            }
            rest = &rest[letter.len_utf8()..];
        }
    }
    out.replace("pg_catalog.", "")
}

/// The text at the begin, its quotes included, and what comes after it.
pub(super) fn literal(sql: &str) -> (&str, &str) {
    let mut end = 1;
    while let Some(found) = sql[end..].find('\'') {
        end += found + 1;
        if !sql[end..].starts_with('\'') {
            return sql.split_at(end);
        }
        end += 1;
    }
    (sql, "")
}

/// What comes after the name of a type.
fn after_type(sql: &str) -> &str {
    let (first, mut rest) = word(sql);
    let has_more = FIRST_WORDS.contains(&first.to_lowercase().as_str());
    if has_more {
        rest = after_words(rest);
    }
    for (open, close) in [('(', ')'), ('[', ']')] {
        while let Some(inside) = rest.strip_prefix(open) {
            match inside.split_once(close) {
                Some((_, after)) => rest = after,
                None => return rest,
            }
        }
    }
    // `timestamp(3) without time zone` has its modifier in between.
    if has_more { after_words(rest) } else { rest }
}

fn after_words(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        let (next, after) = word(rest.trim_start());
        if !MORE_WORDS.contains(&next.to_lowercase().as_str()) {
            return rest;
        }
        rest = after;
    }
}

/// A name at the begin, quoted and qualified ones included, and what comes after it.
pub(super) fn word(sql: &str) -> (&str, &str) {
    let mut quoted = false;
    let end = sql.find(|letter: char| {
        if letter == '"' {
            quoted = !quoted;
        }
        !(quoted || letter.is_alphanumeric() || matches!(letter, '_' | '.' | '"'))
    });
    sql.split_at(end.unwrap_or(sql.len()))
}

/// What a default is, as far as it matters where its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A sequence, by `nextval`.
    Sequence,
    /// `unique_rowid()` and its like: integers of 63 bits.
    RowId,
    /// A random uuid.
    Uuid,
    /// Anything else.
    Other(String),
}

/// Whether a default is the next number of a sequence and nothing else.
pub fn is_plain_nextval(default: &str) -> bool {
    let gist = gist(default);
    let named = gist.strip_prefix("nextval");
    named.is_some_and(|rest| rest.starts_with('\'') && literal(rest).1.is_empty())
}

/// Reads a default.
pub(super) fn source_of(default: &str) -> Source {
    let gist = gist(default);
    // The function's name without its schema.
    let call = gist.split('\'').next().unwrap_or_default();
    let name = call.rsplit('.').next().unwrap_or_default();
    match name {
        "nextval" => Source::Sequence,
        "unique_rowid" | "unordered_unique_rowid" => Source::RowId,
        "gen_random_uuid" | "uuid_generate_v4" | "gen_random_ulid" | "uuidv4" | "uuidv7" => {
            Source::Uuid
        }
        _ => Source::Other(gist),
    }
}
