//! The paths that a Rust file names: `a::b::c`, with the groups of `use` multiplied out.

/// All paths of two segments or more, and single names that a `use` brings in.
pub(crate) fn paths_in(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens_of(&without_comments_and_texts(code));
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let used = at > 0 && tokens[at - 1] == "use";
        if !is_name(&tokens[at]) {
            at += 1;
            continue;
        }
        let begin = found.len();
        at = tree(&tokens, at, &mut Vec::new(), &mut found);
        if !used && found[begin..].iter().all(|path| path.len() < 2) {
            found.truncate(begin);
        }
    }
    found
}

/// Reads the path or tree of paths at `at`; gives the place after it.
fn tree(
    tokens: &[String],
    mut at: usize,
    before: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> usize {
    let depth = before.len();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let next =
                        if tokens[at] == "," { at + 1 } else { tree(tokens, at, before, found) };
                    at = next.max(at + 1);
                }
                at += 1;
                break;
            }
            Some(name) if is_name(name) || name == "*" => {
                before.push(name.to_owned());
                at += 1;
                let goes_on = tokens.get(at).is_some_and(|token| token == "::")
                    && tokens
                        .get(at + 1)
                        .is_some_and(|next| next == "{" || next == "*" || is_name(next));
                if !goes_on {
                    found.push(before.clone());
                    break;
                }
                at += 1;
            }
            _ => break,
        }
    }
    before.truncate(depth);
    at
}

/// All names in the code: of variables, functions, types, modules, fields.
pub(crate) fn names_in(code: &str) -> Vec<String> {
    let tokens = tokens_of(&without_comments_and_texts(code));
    tokens.into_iter().filter(|token| is_name(token)).collect()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn tokens_of(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

/// The code with a blank in place of each comment, text and character.
fn without_comments_and_texts(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let after_name = kept.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            text(rest)
        } else if first == '\'' {
            character(rest)
        } else if !after_name && (first == 'r' || rest.starts_with("br")) {
            raw_text(rest)
        } else {
            0
        };
        if skipped > 0 {
            kept.push(' ');
            rest = &rest[skipped..];
        } else {
            kept.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    kept
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn text(rest: &str) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character in quotes; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        // The escaped character itself may be a quote.
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

/// A raw text; 0 for a name that begins with `r`.
fn raw_text(rest: &str) -> usize {
    let after = rest.trim_start_matches('b').trim_start_matches('r');
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return 0;
    }
    let opening = rest.len() - after.len() + hashes + 1;
    let closing = format!("\"{}", "#".repeat(hashes));
    rest[opening..].find(&closing).map_or(rest.len(), |at| opening + at + closing.len())
}
