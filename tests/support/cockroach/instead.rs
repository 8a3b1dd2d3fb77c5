//! A statement put so that PostgreSQL does with it what CockroachDB does.
//!
//! The text is edited at the places of PostgreSQL's own tokens and parse tree, so that what stands in
//! quotes or in a comment is left alone.

use std::ops::Range;

use serde_json::Value;

use super::catalog;
use super::facts::{Facts, Release};
use super::walk::{self, DDL};

const CATALOGUE: &str = "pg_catalog.";

/// The text that PostgreSQL is given. `in_transaction` says that one is open where it begins, and
/// is to be committed by its first statement, where that is one that does.
pub fn instead(facts: &Facts, release: Release, sql: &str, in_transaction: bool) -> String {
    let tokens = tokens(sql);
    let mut edits = Vec::new();
    let Some(tree) = walk::tree_of(sql) else {
        // In words that PostgreSQL does not know.
        with_caches_of_sessions(sql, &tokens, &mut edits);
        return edited(sql, edits);
    };
    with_row_security(facts, release, sql, &tokens, &mut edits);
    without_shared_locks(sql, &tokens, &mut edits);
    without_definers(sql, &tree, &tokens, &mut edits);
    with_its_catalogue(facts, sql, &tree, &mut edits);
    bodies_with_its_catalogue(facts, sql, &tokens, &mut edits);
    with_its_integers(facts, sql, &tree, &tokens, &mut edits);
    with_commits(&tree, in_transaction, &mut edits);
    edited(sql, edits)
}

/// Whether its first statement commits what is open.
pub fn commits_first(sql: &str) -> bool {
    walk::tree_of(sql).is_some_and(|tree| walk::statements(&tree).next().is_some_and(is_ddl))
}

/// What stands in a range is replaced.
type Edit = (Range<usize>, String);

fn edited(sql: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(range, text)| (range.start, range.end, text.clone()));
    edits.dedup();
    let (mut out, mut at) = (String::with_capacity(sql.len()), 0);
    for (range, text) in edits {
        assert!(range.start >= at, "two edits of one place in {sql}");
        out += &sql[at..range.start];
        out += &text;
        at = range.end;
    }
    out + &sql[at..]
}

/// Its words and signs, without comments.
fn tokens(sql: &str) -> Vec<Range<usize>> {
    let Ok(scanned) = pg_query::scan(sql) else { return Vec::new() };
    let place = |it: i32| usize::try_from(it).expect("a place is not negative");
    let ranges = scanned.tokens.iter().map(|it| place(it.start)..place(it.end));
    ranges
        .filter(|it| !sql[it.clone()].starts_with("--") && !sql[it.clone()].starts_with("/*"))
        .collect()
}

/// How many tokens from `at` on are these words.
fn words(sql: &str, tokens: &[Range<usize>], at: usize, wanted: &[&str]) -> usize {
    let are = wanted.iter().enumerate().all(|(number, word)| {
        tokens.get(at + number).is_some_and(|it| sql[it.clone()].eq_ignore_ascii_case(word))
    });
    if are { wanted.len() } else { 0 }
}

/// They lock nothing in a serializable transaction.
fn without_shared_locks(sql: &str, tokens: &[Range<usize>], edits: &mut Vec<Edit>) {
    let is = |at: usize, wanted: &[&str]| words(sql, tokens, at, wanted);
    for begin in 0..tokens.len() {
        let lock = is(begin, &["FOR", "SHARE"]).max(is(begin, &["FOR", "KEY", "SHARE"]));
        if lock == 0 {
            continue;
        }
        let mut end = begin + lock;
        if is(end, &["OF"]) > 0 {
            end += 2;
            // A name, or one more of a list or behind a schema.
            while is(end, &[","]).max(is(end, &["."])) > 0 {
                end += 2;
            }
        }
        end += is(end, &["NOWAIT"]).max(is(end, &["SKIP", "LOCKED"]));
        edits.push((tokens[begin].start..tokens[end - 1].end, String::new()));
    }
}

/// A cache of a node is played by one of each session.
fn with_caches_of_sessions(sql: &str, tokens: &[Range<usize>], edits: &mut Vec<Edit>) {
    for at in 0..tokens.len() {
        if words(sql, tokens, at, &["PER", "NODE", "CACHE"]) > 0 {
            edits.push((tokens[at].start..tokens[at + 1].end, String::new()));
        }
    }
}

/// Before it has an effect, `row_security = off` is taken and hides rows all the same.
fn with_row_security(
    facts: &Facts,
    release: Release,
    sql: &str,
    tokens: &[Range<usize>],
    edits: &mut Vec<Edit>,
) {
    const NAME: &str = "row_security";
    const OFF: [&str; 2] = ["off", "'off'"];
    if facts.settings.effective_since.get(NAME).is_none_or(|since| *since <= release) {
        return;
    }
    for (at, range) in tokens.iter().enumerate() {
        let Some(value) = tokens.get(at + 2).filter(|_| {
            let name = sql[range.clone()].trim_matches('\'');
            name.eq_ignore_ascii_case(NAME)
                && ["=", "TO", ","].iter().any(|it| words(sql, tokens, at + 1, &[it]) > 0)
        }) else {
            continue;
        };
        if OFF.iter().any(|it| sql[value.clone()].eq_ignore_ascii_case(it)) {
            edits.push((value.clone(), "'on'".to_owned()));
        }
    }
}

/// A function of a trigger runs as whoever fires it.
fn without_definers(sql: &str, tree: &Value, tokens: &[Range<usize>], edits: &mut Vec<Edit>) {
    let statements: Vec<_> = walk::located(tree).collect();
    for (number, (begin, statement)) in statements.iter().enumerate() {
        let is_of_trigger = walk::node(statement).is_some_and(|(kind, body)| {
            let returns = walk::strings(&body["return_type"]["names"]);
            kind == "CreateFunctionStmt" && returns.last() == Some(&"trigger")
        });
        let end = statements.get(number + 1).map_or(sql.len(), |(at, _)| *at);
        for at in (0..tokens.len()).filter(|_| is_of_trigger) {
            let count = words(sql, tokens, at, &["SECURITY", "DEFINER"]);
            if count > 0 && (*begin..end).contains(&tokens[at].start) {
                edits.push((tokens[at].start..tokens[at + count - 1].end, String::new()));
            }
        }
    }
}

/// Tables of the catalogue that have other values there are read from views that have them.
fn with_its_catalogue(facts: &Facts, sql: &str, tree: &Value, edits: &mut Vec<Edit>) {
    let mut point = |location: &Value, schema: &str, name: &str| {
        let at = location.as_u64().and_then(|it| usize::try_from(it).ok());
        let Some(at) = at.filter(|_| catalog::is_view(facts, name)) else { return };
        let there = &sql[at..];
        if schema == "pg_catalog" && there.starts_with(CATALOGUE) {
            edits.push((at..at + CATALOGUE.len(), format!("{}.", catalog::SCHEMA)));
        } else if schema.is_empty() && there.starts_with(name) {
            edits.push((at..at, format!("{}.", catalog::SCHEMA)));
        }
    };
    for statement in walk::statements(tree) {
        walk::visit(statement, &mut |kind, body| match kind {
            "RangeVar" => {
                let (schema, name) = (walk::text(body, "schemaname"), walk::text(body, "relname"));
                point(&body["location"], schema, name);
            }
            "ColumnRef" => {
                if let [schema @ "pg_catalog", name, _, ..] = walk::strings(&body["fields"])[..] {
                    point(&body["location"], schema, name);
                }
            }
            _ => {}
        });
    }
}

/// The same in the bodies of functions.
fn bodies_with_its_catalogue(
    facts: &Facts,
    sql: &str,
    tokens: &[Range<usize>],
    edits: &mut Vec<Edit>,
) {
    for range in tokens {
        let text = &sql[range.clone()];
        if text.len() > 2 && text.starts_with('$') && text.ends_with('$') {
            let pointed = catalog::pointed(facts, text);
            if pointed != text {
                edits.push((range.clone(), pointed));
            }
        }
    }
}

/// An integer that is written out, or that a function gives, has eight bytes there, where PostgreSQL
/// gives one of four. What is seen of it are columns of results.
fn with_its_integers(
    facts: &Facts,
    sql: &str,
    tree: &Value,
    tokens: &[Range<usize>],
    edits: &mut Vec<Edit>,
) {
    for statement in walk::statements(tree) {
        walk::visit(statement, &mut |kind, body| {
            if kind != "SelectStmt" {
                return;
            }
            for target in body["target_list"].as_array().into_iter().flatten() {
                let Some(("ResTarget", target)) = walk::node(target) else { continue };
                if is_integer(facts, &target["val"])
                    && let Some(end) = end_of_value(sql, tokens, &target["val"])
                {
                    edits.push((end..end, "::int8".to_owned()));
                }
            }
        });
    }
}

fn is_integer(facts: &Facts, value: &Value) -> bool {
    match walk::node(value) {
        Some(("AConst", body)) => body["val"].get("Ival").is_some(),
        Some(("FuncCall", body)) => {
            let name = walk::strings(&body["funcname"]).last().copied().unwrap_or_default();
            facts.functions.get(name).is_some_and(super::facts::Function::gives_integer)
        }
        // What is no such thing in it decides, whatever the others are.
        Some(("CoalesceExpr", body)) => {
            let all = body["args"].as_array().into_iter().flatten();
            all.into_iter().all(|it| is_integer(facts, it))
        }
        Some(("CaseExpr", body)) => {
            let all = body["args"].as_array().into_iter().flatten();
            let results = all.filter_map(|it| Some(&walk::node(it)?.1["result"]));
            let results =
                results.chain([&body["defresult"]].into_iter().filter(|it| !it.is_null()));
            results.into_iter().all(|it| is_integer(facts, it))
        }
        _ => false,
    }
}

/// Where a value ends of which it is known where it begins; none where that is not simple.
fn end_of_value(sql: &str, tokens: &[Range<usize>], value: &Value) -> Option<usize> {
    let (kind, body) = walk::node(value)?;
    let begin = usize::try_from(body["location"].as_u64()?).ok()?;
    let first = tokens.iter().position(|it| it.start == begin)?;
    let is = |at: usize, wanted: &str| words(sql, tokens, at, &[wanted]) > 0;
    let last = match kind {
        "AConst" if is(first, "-") => first + 1,
        "AConst" => first,
        "CaseExpr" => closing(first, tokens.len(), |at| is(at, "CASE"), |at| is(at, "END"))?,
        _ => {
            let last = closing(first, tokens.len(), |at| is(at, "("), |at| is(at, ")"))?;
            let goes_on = ["FILTER", "OVER", "WITHIN"].into_iter().any(|it| is(last + 1, it));
            (!goes_on).then_some(last)?
        }
    };
    Some(tokens.get(last)?.end)
}

/// The token that closes the first one that opens.
fn closing(
    from: usize,
    to: usize,
    opens: impl Fn(usize) -> bool,
    closes: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut depth = 0_usize;
    (from..to).find(|at| {
        depth += usize::from(opens(*at));
        let is_closing = closes(*at);
        depth = depth.saturating_sub(usize::from(is_closing));
        is_closing && depth == 0
    })
}

/// What changes the schema commits what is open, of this text or from before it
/// (`autocommit_before_ddl`).
fn with_commits(tree: &Value, in_transaction: bool, edits: &mut Vec<Edit>) {
    for (number, (at, statement)) in walk::located(tree).enumerate() {
        if is_ddl(statement) && (number > 0 || in_transaction) {
            edits.push((at..at, "COMMIT; ".to_owned()));
        }
    }
}

/// How a text ends the transaction that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By the COMMIT that begins there.
    Commit(usize),
    /// Otherwise.
    Other,
}

/// Where a text ends the transaction that it is sent in, or that it begins itself.
pub fn end_of_transaction(sql: &str, mut is_open: bool) -> Option<End> {
    // Most texts have none, and need not be parsed for it.
    let has = |word: &str| sql.len() >= word.len() && sql.to_uppercase().contains(word);
    if !["COMMIT", "ROLLBACK", "END", "ABORT"].into_iter().any(has) {
        return None;
    }
    let tree = walk::tree_of(sql)?;
    for (at, statement) in walk::located(&tree) {
        let Some(("TransactionStmt", body)) = walk::node(statement) else { continue };
        match walk::transaction_kind(body) {
            "begin" => is_open = true,
            "commit" if is_open => return Some(End::Commit(at)),
            "rollback" if is_open => return Some(End::Other),
            _ => {}
        }
    }
    None
}

fn is_ddl(statement: &Value) -> bool {
    walk::node(statement).is_some_and(|(kind, _)| DDL.contains(&kind))
}
