//! Links between the pages, and from the code to the pages, lead somewhere; the pages of calls and errors are
//! those of the protocol and the code.

#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "docs/protocol.rs"]
mod protocol;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use segue::domain::reason::Reason;

/// What is not of the repository: built, fetched, or Git's own.
const NOT_OURS: [&str; 6] = [".git", "target", ".build", "node_modules", "dist", "build"];
/// How code, rules and scripts name a page: from the repository's root.
const FROM_ROOT: &str = "docs/";
const PAGE: &str = ".md";
/// Files that name pages of another repository, and this one.
const OF_OTHERS: [&str; 2] = ["tests/support/cockroach/dialect.json", "tests/docs.rs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if NOT_OURS.iter().any(|it| name == *it) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// All files of the repository that are text, with their paths from its root.
fn texts() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files_below(root(), &mut found);
    found.sort();
    let text = |path: PathBuf| {
        let text = fs::read_to_string(&path).ok()?;
        Some((path.strip_prefix(root()).unwrap().to_owned(), text))
    };
    found.into_iter().filter_map(text).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "md")
}

/// The lines of a page outside of its blocks of code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// A line without what stands in backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// The anchor that GitHub makes of a heading.
fn slug(heading: &str) -> String {
    let mut shown = String::new();
    let mut rest = heading;
    // Of a link, its text alone is part of the anchor.
    while let Some((before, after)) = rest.split_once("](") {
        shown.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    shown.push_str(rest);
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    let letters = shown.trim().chars().filter(kept).flat_map(char::to_lowercase);
    letters.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// The anchors of a page: of its headings, and those that are written out.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in prose(page) {
        let title = line.trim_start_matches('#');
        if title.len() < line.len() && title.starts_with(' ') {
            let slug = slug(title);
            let again = (1..).map(|count| format!("{slug}-{count}"));
            let free = std::iter::once(slug.clone()).chain(again).find(|it| !found.contains(it));
            found.extend(free);
        }
        for part in line.split("<a id=\"").skip(1) {
            found.extend(part.split('"').next().map(str::to_owned));
        }
    }
    found
}

/// What the links of a page lead to, but for other sites.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        for part in without_code(line).split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// `docs/….md` with its anchor, wherever a text has it.
fn mentions(text: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "/-_.#".contains(letter);
    let mut found = Vec::new();
    for (at, _) in text.match_indices(FROM_ROOT) {
        let begins = text[..at].chars().next_back().is_none_or(|it| !is_part(it));
        let rest = &text[at..];
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches('.');
        if begins && path.split('#').next().is_some_and(|path| path.ends_with(PAGE)) {
            found.push(path.to_owned());
        }
    }
    found
}

/// `a/b/../c` as `a/c`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Why a link of the file leads nowhere.
fn objection(from: &Path, folder: &Path, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let place = if path.is_empty() { from.to_owned() } else { plain(&folder.join(path)) };
    let found = root().join(&place);
    if !found.exists() {
        return Some(format!("{}: {target}: there is no {}", from.display(), place.display()));
    }
    if anchor.is_empty() || !is_page(&place) {
        return None;
    }
    let known = anchors(&fs::read_to_string(found).unwrap());
    (!known.contains(anchor))
        .then(|| format!("{}: {target}: {} has no such heading", from.display(), place.display()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut objections = Vec::new();
    let (mut in_pages, mut in_others) = (0, 0);
    for (path, text) in texts() {
        let folder = path.parent().unwrap();
        if is_page(&path) {
            let links = links(&text);
            in_pages += links.len();
            objections.extend(links.iter().filter_map(|link| objection(&path, folder, link)));
        } else if !OF_OTHERS.iter().any(|it| path == Path::new(it)) {
            let mentions = mentions(&text);
            in_others += mentions.len();
            let from_root = |it: &String| objection(&path, Path::new(""), it);
            objections.extend(mentions.iter().filter_map(from_root));
        }
    }
    assert!(in_pages > 100 && in_others > 50, "{in_pages} links and {in_others} mentions found");
    assert!(objections.is_empty(), "links that lead nowhere:\n{}", objections.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut open = vec![PathBuf::from("README.md")];
    let mut reached = BTreeSet::new();
    while let Some(page) = open.pop() {
        if !is_page(&page) || !reached.insert(page.clone()) {
            continue;
        }
        let Ok(text) = fs::read_to_string(root().join(&page)) else { continue };
        for link in links(&text) {
            let path = link.split('#').next().unwrap_or_default();
            open.push(plain(&page.parent().unwrap().join(path)));
        }
    }
    let pages = texts().into_iter().map(|(path, _)| path).filter(|path| is_page(path));
    let missed: Vec<PathBuf> =
        pages.filter(|path| path.starts_with("docs") && !reached.contains(path)).collect();
    assert!(missed.is_empty(), "no link leads to {missed:?}");
}

/// With this in the environment, what is generated is written instead of compared.
const WRITE: &str = "SEGUE_WRITE_DOCS";
const CALLS: &str = "docs/reference/api.md";
const CALLS_HEAD: &str = "# Calls

Generated from `proto/segue/v1/` by `make docs`; a test fails when it is stale. Applications call `Sql`; operators,
and the `segue` command, call `Migration` on `listen.admin`. Reflection is on, so `grpcurl` needs no files.
";
/// The applications' calls first.
const PROTOCOL: [&str; 5] =
    ["sql.proto", "value.proto", "error.proto", "phase.proto", "migration.proto"];

#[test]
fn the_page_of_calls_is_that_of_the_protocol() {
    let mut page = CALLS_HEAD.to_owned();
    for file in PROTOCOL {
        page += &format!("\n## {file}\n");
        page +=
            &protocol::page(&fs::read_to_string(root().join("proto/segue/v1").join(file)).unwrap());
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(root().join(CALLS), page).unwrap();
        return;
    }
    let found = fs::read_to_string(root().join(CALLS)).unwrap_or_default();
    assert!(found == page, "{CALLS} is stale: run make docs");
}

const ERRORS: &str = "docs/reference/errors.md";
const ERRORS_HEAD: &str = "# Errors

Generated from `src/domain/reason/list.rs` by `make docs`; a test fails when it is stale.

A call that fails has a `google.rpc.Status` with these details, on the pipeline as well:

- `google.rpc.ErrorInfo`: `domain` is `segue`; `reason` is a reason of the tables below in capitals with underscores
  (`REFUSED_DDL` for `refused.ddl`), or `SQLSTATE_` and the code where the database refused.
- `segue.v1.SqlError`: the reason as it stands below, the server's SQLSTATE, detail, hint, constraint and position, the
  side that failed, whether a repeat may help (`retryable`), and what is known of the effect (`outcome`).
- `google.rpc.RetryInfo`: only where nothing was applied and a repeat may help; so long to wait before it.

Commands print the same message, and the way out. [Calls](api.md#errorproto) has the messages.

| gRPC code | when |
|---|---|
| `INVALID_ARGUMENT` | the call itself is wrong, or SQLSTATE 22, 42, 0A and the like |
| `NOT_FOUND` | what the call names does not exist |
| `ALREADY_EXISTS` | SQLSTATE 23505 |
| `FAILED_PRECONDITION` | segue refuses, a state forbids it, or SQLSTATE 23, 25, 55, P0 and the like |
| `PERMISSION_DENIED` | SQLSTATE 42501 |
| `UNAUTHENTICATED` | SQLSTATE 28, or no token on `listen.admin` |
| `RESOURCE_EXHAUSTED` | a limit of segue, or SQLSTATE 53 |
| `ABORTED` | a conflict (SQLSTATE 40001, 40P01, 55P03), or a lost connection of which it is known that nothing was applied |
| `UNAVAILABLE` | the statement was surely not sent: a client library may repeat it by itself |
| `DEADLINE_EXCEEDED`, `CANCELLED` | the call's time was over, or its caller went away; see `outcome` |
| `UNKNOWN` | no one can say whether it was applied: repeat with the same idempotency key, or look |
| `INTERNAL` | a fault of segue or of the server |

What to do about refusals of operators' commands, in more words: [runbook](../guides/runbook.md#every-refusal).
";

#[test]
fn the_page_of_errors_is_that_of_the_code() {
    let cell = |text: &str| text.replace('|', "\\|");
    let mut page = ERRORS_HEAD.to_owned();
    for reason in Reason::ALL {
        if let Some(part) = reason.part() {
            page += &format!("\n## {part}\n\n| reason | why | what to do |\n|---|---|---|\n");
        }
        let (why, way_out) = (cell(reason.why()), cell(reason.way_out()));
        page += &format!("| `{reason}` | {why} | {way_out} |\n");
    }
    if std::env::var_os(WRITE).is_some() {
        fs::write(root().join(ERRORS), page).unwrap();
        return;
    }
    let found = fs::read_to_string(root().join(ERRORS)).unwrap_or_default();
    assert!(found == page, "{ERRORS} is stale: run make docs");
}

#[test]
fn each_reason_is_given_somewhere() {
    let mut code = String::new();
    for (path, text) in texts() {
        if path.starts_with("src") && !path.ends_with("domain/reason/list.rs") {
            code += &text;
        }
    }
    let unused = Reason::ALL.iter().filter(|it| !code.contains(&format!("Reason::{it:?}")));
    let unused: Vec<_> = unused.collect();
    assert!(unused.is_empty(), "nobody gives {unused:?}");
}

#[test]
fn every_table_has_a_head() {
    let mut objections = Vec::new();
    for (path, text) in texts() {
        if !is_page(&path) {
            continue;
        }
        let lines: Vec<&str> = prose(&text).collect();
        for (number, line) in lines.iter().enumerate() {
            let begins = line.starts_with('|')
                && number.checked_sub(1).is_none_or(|before| !lines[before].starts_with('|'));
            let is_rule = |next: &&str| next.starts_with('|') && next.contains("--");
            let rule = lines.get(number + 1).is_some_and(is_rule);
            if begins && !rule {
                objections.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(objections.is_empty(), "tables without a head:\n{}", objections.join("\n"));
}

#[test]
fn an_anchor_is_made_as_github_makes_it() {
    assert_eq!(slug(" Keys that are stuck"), "keys-that-are-stuck");
    assert_eq!(
        slug(" `segue verify`, and [what it](x.md) proves"),
        "segue-verify-and-what-it-proves"
    );
    let page = "# A\n## A\n```sh\n# no heading\n```\n#not one\n<a id=\"b-c\"></a>";
    assert_eq!(anchors(page), ["a", "a-1", "b-c"].map(str::to_owned).into());
}

#[test]
fn links_are_found_outside_of_code() {
    let page = "[a](b.md#c) and `[x](y)` and [s](https://t)\n```\n[d](e)\n```\n[f](#g)";
    assert_eq!(links(page), ["b.md#c", "#g"]);
    assert_eq!(mentions("see docs/a/b.md#c-d. Or cockroachdb/docs/x.md"), ["docs/a/b.md#c-d"]);
}
