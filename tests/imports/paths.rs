//! The paths that a Rust file names: `a::b::c`, with the groups of `use` multiplied out.

/// What a `use` brings in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    /// As it is written; `*` is everything, and a `self` at the end is left out.
    pub(crate) path: Vec<String>,
    /// What the file calls it.
    pub(crate) name: String,
    /// Whether others see it there: `pub use`, of whatever reach.
    pub(crate) public: bool,
}

/// What a file names, its tests left out.
#[derive(Debug, Default)]
pub(crate) struct Named {
    pub(crate) uses: Vec<Use>,
    /// Paths of two segments or more that stand in no `use`.
    pub(crate) paths: Vec<Vec<String>>,
    /// Modules that the file declares for its tests alone.
    pub(crate) tests: Vec<String>,
}

impl Named {
    pub(crate) fn of(code: &str) -> Self {
        let (tokens, tests) = without_tests(&tokens_of(&without_comments_and_texts(code)));
        let mut named = Self { tests, ..Self::default() };
        // Where modules within the file end: `super` in them leads no further than the file.
        let mut inner: Vec<usize> = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            inner.retain(|end| at < *end);
            if let [module, _, open, ..] = &tokens[at..]
                && module == "mod"
                && open == "{"
            {
                inner.push(end_of_block(&tokens, at + 2));
                at += 3;
                continue;
            }
            let after_name = at > 0 && matches!(tokens[at - 1].as_str(), "." | "'");
            if tokens[at] == "use" {
                let public = at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
                let end = tokens[at..].iter().position(|token| token == ";");
                let end = end.map_or(tokens.len(), |length| at + length);
                let found = uses(&tokens[at + 1..end], public)
                    .into_iter()
                    .filter_map(|it| Some(Use { path: from_file(it.path, inner.len())?, ..it }));
                named.uses.extend(found);
                at = end;
            } else if is_name(&tokens[at]) && !after_name {
                let mut path = Vec::new();
                at = tree(&tokens, at, &mut Vec::new(), &mut path);
                let whole = path.into_iter().filter(|path| path.len() > 1);
                named.paths.extend(whole.filter_map(|path| from_file(path, inner.len())));
            } else {
                at += 1;
            }
        }
        named
    }
}

/// A path of a module within the file, so deep in it, as one of the file; nothing where it stays
/// inside.
fn from_file(path: Vec<String>, depth: usize) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|segment| *segment == "super").count();
    match ups {
        0 => Some(path),
        _ if ups > depth => Some(path[depth..].to_vec()),
        _ => None,
    }
}

/// The place after the block that opens at `open`.
fn end_of_block(tokens: &[String], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" => depth += 1,
            "}" if depth == 1 => return at + 1,
            "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The leaves of the tree of one `use`.
fn uses(tokens: &[String], public: bool) -> Vec<Use> {
    let mut found = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut name = None;
    let mut at = 0;
    let mut leaf = |path: &[String], name: Option<String>| {
        let mut path = path.to_vec();
        if path.last().is_some_and(|last| last == "self") && path.len() > 1 {
            path.pop();
        }
        if let Some(last) = path.last().cloned() {
            found.push(Use { path, name: name.unwrap_or(last), public });
        }
    };
    while let Some(token) = tokens.get(at) {
        let depth = open.last().copied().unwrap_or_default();
        match token.as_str() {
            "{" => open.push(path.len()),
            "," | "}" => {
                if path.len() > depth {
                    leaf(&path, name.take());
                }
                if token == "}" {
                    open.pop();
                    // What stood before the group is not a leaf as well.
                    path.truncate(open.last().copied().unwrap_or_default());
                } else {
                    path.truncate(depth);
                }
            }
            "as" => {
                name = tokens.get(at + 1).cloned();
                at += 1;
            }
            token if is_name(token) || token == "*" => path.push(token.to_owned()),
            _ => {}
        }
        at += 1;
    }
    if !path.is_empty() {
        leaf(&path, name);
    }
    found
}

/// Leaves out what stands under `#[cfg(test)]`; gives the modules that are declared so.
fn without_tests(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut tests) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].iter().take(MARK.len()).eq(MARK.iter()) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        let item = at;
        let mut depth = 0_usize;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(token.as_str(), "}" | ";") {
                break;
            }
        }
        let whole = &tokens[item..at];
        if let [.., module, name, end] = whole
            && module == "mod"
            && end == ";"
        {
            tests.push(name.clone());
        }
    }
    (kept, tests)
}

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
