//! The shape of `src/`: which module may use which, what stays pure, how long a file may be, and that
//! files do not import each other in circles.
//!
//! The order of the layers is read from the `# Layout` of `src/lib.rs`, and the order inside a
//! folder from that of its `mod.rs`, so that the map and the rule cannot differ. Code under
//! `#[cfg(test)]` is free.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "imports/graph.rs"]
mod graph;
#[path = "imports/paths.rs"]
mod paths;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use graph::{Files, Module, Reference, cycles, module_of};
use paths::{names_in, paths_in};

const LINES_MAX: usize = 400;
const TESTS_BEGIN: &str = "#[cfg(test)]\nmod ";
/// Opens the list of what lies above what, in a module's doc.
const LAYOUT: &str = "# Layout";

/// Groups of files that import each other, one a line after their reason: values within values, and
/// knots that are not untied yet. A group must not grow, and leaves the list when it is gone.
const CYCLES: &str = include_str!("imports/cycles.txt");

/// Any module may use it, and it may use nothing but the words of the domain.
const LEAF: &str = "telemetry";
const WORDS: &str = "domain";

/// Crates that only some modules may name.
const KEPT_TO: [(&str, &[&str]); 12] = [
    ("tokio_postgres", &["postgres"]),
    ("deadpool_postgres", &["postgres"]),
    ("tokio_postgres_rustls", &["postgres"]),
    ("tonic", &["grpc", "app", "cli"]),
    ("tonic_health", &["grpc", "app", "cli"]),
    ("tonic_prost", &["grpc", "app", "cli"]),
    ("tonic_reflection", &["grpc", "app", "cli"]),
    ("tonic_types", &["grpc", "app", "cli"]),
    ("prost", &["grpc", "app", "cli", "postgres"]),
    ("prost_types", &["grpc", "app", "cli"]),
    ("pg_query", &["statement"]),
    ("anyhow", &["cli", "main"]),
];

/// Modules that do no I/O and read no clock and no dice.
const PURE: [&str; 7] = ["dialect", "domain", "compare", "dsn", "preflight", "statement", "value"];

/// The module that knows which database it is, and what no name outside has in it.
const DIALECT: &str = "dialect";
const ENGINES: [&str; 3] = ["cockroach", "crdb", "postgresql"];
/// How a text is asked for in a condition.
const ASKED: [&str; 5] = ["contains(\"", "starts_with(\"", "== \"", "!= \"", "Some(\""];

/// Where SQLSTATEs are named.
const CODES: &str = "domain/sqlstate.rs";
/// Their classes, by PostgreSQL's Appendix A. A number of five digits that is in none is no code.
const CLASSES: [&str; 43] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23",
    "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42",
    "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX",
];

/// What they may not name: beginnings of paths.
const IMPURE: [&[&str]; 7] = [
    &["tokio"],
    &["rand"],
    &["std", "net"],
    &["std", "fs"],
    &["std", "env"],
    &["std", "process"],
    &["std", "io", "stdin"],
];

/// What they may not name: ends of paths.
const CLOCKS: [[&str; 2]; 3] = [["Instant", "now"], ["SystemTime", "now"], ["thread", "sleep"]];

/// The layers from the top down; the modules of one layer are siblings.
struct Layout(Vec<Vec<String>>);

impl Layout {
    /// Reads the list under `# Layout`: the names before the colon of each item.
    fn of(library: &str) -> Self {
        let doc = library.lines().skip_while(|line| !line.contains(LAYOUT));
        let items = doc.filter_map(|line| line.strip_prefix("//! - "));
        let names = |item: &str| {
            let (names, _) = item.split_once(':')?;
            Some(names.split('`').skip(1).step_by(2).map(str::to_owned).collect())
        };
        Self(items.filter_map(names).collect())
    }

    fn layer_of(&self, module: &str) -> Option<usize> {
        self.0.iter().position(|layer| layer.iter().any(|name| name == module))
    }

    /// Why `from` may not use `to`, if it may not.
    fn objection(&self, from: &str, to: &str) -> Option<String> {
        if from == to || from == "main" || from == "lib" || (to == LEAF && from != WORDS) {
            return None;
        }
        if to == LEAF {
            return Some(format!("{from} may not use {to}"));
        }
        if from == LEAF {
            return (to != WORDS).then(|| format!("{LEAF} is a leaf and may not use {to}"));
        }
        match (self.layer_of(from), self.layer_of(to)) {
            (None, _) => Some(format!("{from} has no place in the layout of src/lib.rs")),
            // A name at the root that is no module, such as a generated one.
            (_, None) => None,
            (Some(above), Some(below)) if above < below => None,
            (Some(same), Some(layer)) if same == layer => {
                Some(format!("{from} may not use its sibling {to}"))
            }
            _ => Some(format!("{from} may not use {to}, which lies above it")),
        }
    }
}

/// What imports upwards or aside within a folder whose `mod.rs` says in which order its modules lie.
fn faults_inside(folder: &[String], text: &str, files: &Files) -> Vec<String> {
    let layout = Layout::of(text);
    let name = folder.join("::");
    fn child<'a>(folder: &[String], module: &'a Module) -> Option<&'a str> {
        module.strip_prefix(folder)?.first().map(String::as_str)
    }
    let modules: BTreeSet<&str> =
        files.modules().filter_map(|module| child(folder, module)).collect();
    let listed: BTreeSet<&str> = layout.0.iter().flatten().map(String::as_str).collect();
    let mut faults: Vec<_> = modules
        .symmetric_difference(&listed)
        .map(|module| format!("{module} is a module of {name}, or stands in its layout, not both"))
        .collect();
    for Reference { from, written, to } in files.references() {
        let Some(below) = child(folder, &from) else { continue };
        for target in [written, to] {
            let objection =
                child(folder, &target).and_then(|target| layout.objection(below, target));
            faults.extend(objection.map(|it| format!("{}: {it} (in {name})", from.join("::"))));
        }
    }
    faults.sort();
    faults.dedup();
    faults
}

/// The groups of a list: the names after the colon and blank of each line.
fn listed(list: &str) -> Vec<Vec<&str>> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split_once(": ")?.1.split(", ").collect())).collect()
}

/// Cycles that are not listed, and listed ones that are none.
fn faults_of_cycles(found: &[Vec<Module>], listed: &[Vec<&str>]) -> Vec<String> {
    let told = |cycle: &Vec<Module>| cycle.iter().map(|it| it.join("::")).collect::<Vec<_>>();
    let found: Vec<_> = found.iter().map(told).collect();
    let new = found.iter().filter(|cycle| !listed.iter().any(|known| *cycle == known));
    let gone = listed.iter().filter(|known| !found.iter().any(|cycle| cycle == *known));
    new.map(|cycle| format!("{} files import each other: {}", cycle.len(), cycle.join(", ")))
        .chain(gone.map(|known| format!("listed as a cycle, and none: {}", known.join(", "))))
        .collect()
}

/// The text without the module of tests at its end.
fn without_tests(text: &str) -> &str {
    let is_block = |at: &usize| {
        let rest = &text[at + TESTS_BEGIN.len()..];
        rest.find(['{', ';']).is_some_and(|end| rest[end..].starts_with('{'))
    };
    let begins = text.match_indices(TESTS_BEGIN).map(|(at, _)| at).find(is_block);
    begins.map_or(text, |at| &text[..at])
}

/// What is wrong in one file; `place` is its path below `src/`.
fn faults(layout: &Layout, place: &str, text: &str) -> Vec<String> {
    let code = without_tests(text);
    let module = place.split(['/', '.']).next().unwrap_or(place);
    let mut faults = Vec::new();
    let lines = code.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{lines} lines without tests, more than {LINES_MAX}"));
    }
    for path in paths_in(code) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        faults.extend(objection(layout, module, &absolute(place, &path)));
    }
    // What a trace calls the kind of a database is no question.
    if module != DIALECT && module != LEAF {
        faults.extend(engines_in(code));
    }
    if place != CODES {
        faults.extend(codes_in(code));
    }
    faults.sort();
    faults.dedup();
    faults.into_iter().map(|fault| format!("src/{place}: {fault}")).collect()
}

/// Where code goes by which database it is: by a name, or by a text that is looked for.
fn engines_in(code: &str) -> Vec<String> {
    let is_one = |text: &str| ENGINES.iter().any(|it| text.to_lowercase().contains(it));
    let names = names_in(code).into_iter().filter(|name| is_one(name));
    let texts = ASKED.iter().flat_map(|asked| {
        let after = code.match_indices(asked).map(|(at, _)| &code[at + asked.len()..]);
        after.map(|text| text.split('"').next().unwrap_or_default().to_owned())
    });
    let all = names.chain(texts.filter(|text| is_one(text)));
    all.map(|what| format!("{what:?} names a database: ask {DIALECT} what differs there")).collect()
}

/// SQLSTATEs that are written out, and names that the driver has for them.
fn codes_in(code: &str) -> Vec<String> {
    let is_code = |text: &&str| {
        let of_a_code = |c: u8| c.is_ascii_digit() || c.is_ascii_uppercase();
        text.bytes().all(of_a_code) && CLASSES.iter().any(|class| text.starts_with(class))
    };
    let quoted = code.match_indices('"').filter_map(|(at, _)| {
        let rest = &code[at + 1..];
        rest.get(..5).filter(|_| rest.get(5..6) == Some("\"")).filter(is_code)
    });
    let named = code.match_indices("SqlState::").filter_map(|(at, found)| {
        let rest = &code[at + found.len()..];
        rest.starts_with(|c: char| c.is_ascii_uppercase()).then_some("SqlState::")
    });
    let say = |what: &str| format!("{what:?} is an SQLSTATE: {CODES} names them");
    quoted.chain(named).map(say).collect()
}

/// A path through `super` as one from `crate`, where it leaves its own top module.
fn absolute<'a>(place: &'a str, path: &[&'a str]) -> Vec<&'a str> {
    let ups = path.iter().take_while(|segment| **segment == "super").count();
    if ups == 0 {
        return path.to_vec();
    }
    let own: Vec<&str> =
        place.trim_end_matches(".rs").split('/').filter(|segment| *segment != "mod").collect();
    let kept = own.len().saturating_sub(ups);
    let mut full = vec!["crate"];
    full.extend(&own[..kept]);
    full.extend(&path[ups..]);
    full
}

fn objection(layout: &Layout, module: &str, path: &[&str]) -> Option<String> {
    match path {
        ["crate", to, ..] => return layout.objection(module, to),
        // Only the command's own file sees the library from outside.
        ["segue", ..] if module != "main" => {
            return Some("says `segue::` where it means `crate::`".to_owned());
        }
        _ => {}
    }
    let written = path.join("::");
    let first = path.first()?;
    if let Some((name, homes)) = KEPT_TO.iter().find(|(name, _)| name == first)
        && !homes.contains(&module)
    {
        return Some(format!("{name} is kept to {}, here: {written}", homes.join(", ")));
    }
    let impure = IMPURE.iter().any(|beginning| path.starts_with(beginning))
        || CLOCKS.iter().any(|end| path.ends_with(end));
    (PURE.contains(&module) && impure)
        .then(|| format!("{module} is pure and may not name {written}"))
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        // A file of tests alone is declared under `#[cfg(test)]` by its parent.
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn imports_point_down_and_files_stay_short() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let library = std::fs::read_to_string(source.join("lib.rs")).unwrap();
    let layout = Layout::of(&library);
    assert!(layout.0.len() >= 7, "the layout of src/lib.rs was not understood: {:?}", layout.0);
    let mut files = Vec::new();
    files_below(&source, &mut files);
    let mut found = Vec::new();
    for (place, text) in texts(&files, &source) {
        found.extend(faults(&layout, &place, &text));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Each file's place below `src/`, and its text.
fn texts(files: &[PathBuf], source: &Path) -> Vec<(String, String)> {
    let text = |file: &PathBuf| {
        let place = file.strip_prefix(source).unwrap().to_str().unwrap().to_owned();
        (place, std::fs::read_to_string(file).unwrap())
    };
    files.iter().map(text).collect()
}

fn whole_source() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    files_below(&source, &mut files);
    texts(&files, &source)
}

#[test]
fn inside_a_folder_with_a_layout_imports_point_down() {
    let texts = whole_source();
    let files = Files::of(texts.iter().map(|(place, text)| (place.as_str(), text.as_str())));
    let laid_out: Vec<_> = texts
        .iter()
        .filter(|(place, text)| place.ends_with("/mod.rs") && text.contains(LAYOUT))
        .collect();
    assert!(laid_out.iter().any(|(place, _)| place == "postgres/mod.rs"), "{}", laid_out.len());
    let found: Vec<_> = laid_out
        .iter()
        .flat_map(|(place, text)| faults_inside(&module_of(place), text, &files))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let texts = whole_source();
    let files = Files::of(texts.iter().map(|(place, text)| (place.as_str(), text.as_str())));
    let references = files.references();
    // A checker that understood nothing would find nothing.
    assert!(references.len() > files.modules().count(), "{} references", references.len());
    let cycles = cycles(&references);
    let sizes: Vec<_> = cycles.iter().map(Vec::len).collect();
    println!("{} files, {} cycles of {sizes:?} files", files.modules().count(), cycles.len());
    let mut found = faults_of_cycles(&cycles, &listed(CYCLES));
    for cycle in &cycles {
        let within = |it: &&Reference| cycle.contains(&it.from) && cycle.contains(&it.to);
        let told = references.iter().filter(within).filter(|it| it.from != it.to);
        found.extend(told.map(|it| format!("  {} → {}", it.from.join("::"), it.to.join("::"))));
    }
    assert!(faults_of_cycles(&cycles, &listed(CYCLES)).is_empty(), "\n{}\n", found.join("\n"));
}

#[cfg(test)]
mod planted {
    use super::*;

    const LIBRARY: &str = "//! # Layout\n//!\n//! - [`cli`]: commands\n//! - [`app`]: parts\n\
        //! - [`grpc`], [`postgres`]: the world: all of it\n//! - [`stack`]: the path\n\
        //! - [`compare`], [`ports`]: judging\n//! - [`dialect`], [`value`]: values\n//! - [`domain`]: words\n";

    #[track_caller]
    fn check(place: &str, text: &str, wanted: &[&str]) {
        let found = faults(&Layout::of(LIBRARY), place, text);
        let wanted: Vec<_> = wanted.iter().map(|fault| format!("src/{place}: {fault}")).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_path_upwards_or_aside_is_found_however_it_is_written() {
        let aside = "grpc may not use its sibling postgres";
        check("grpc/mod.rs", "use crate::postgres::Pool;", &[aside]);
        check("grpc/sql.rs", "use crate::{domain::key, postgres};", &[aside]);
        check("grpc/sql.rs", "fn f() { crate::postgres::go() }", &[aside]);
        check("grpc/sql.rs", "use super::super::postgres::Pool;", &[aside]);
        check("grpc/mod.rs", "use super::postgres::Pool;", &[aside]);
        let upwards = "stack may not use grpc, which lies above it";
        check(
            "stack/mod.rs",
            "use crate::{\n    domain,\n    grpc::{self, server},\n};",
            &[upwards],
        );
        check(
            "elsewhere.rs",
            "use crate::domain;",
            &["elsewhere has no place in the layout of src/lib.rs"],
        );
        check("grpc/mod.rs", "use segue::stack;", &["says `segue::` where it means `crate::`"]);
    }

    #[test]
    fn paths_downwards_tests_comments_and_texts_are_free() {
        check("grpc/mod.rs", "use crate::{stack, telemetry, domain::key::Key};", &[]);
        check("grpc/sql.rs", "use super::server::Server;", &[]);
        check("main.rs", "fn main() { segue::cli::run() }", &[]);
        check("grpc/mod.rs", "#[cfg(test)]\nmod tests { use crate::postgres; }", &[]);
        check("grpc/mod.rs", "// crate::postgres\n/* crate::postgres /* */ crate::cli */", &[]);
        check("grpc/mod.rs", "const A: &str = \"\\\"crate::postgres\";", &[]);
        check(
            "grpc/mod.rs",
            "const A: &str = r#\"\"crate::postgres\"#; const Q: char = '\"';",
            &[],
        );
        check("grpc/mod.rs", "fn f<'a>(s: &'a str) { g('\\'', s) } // crate::cli", &[]);
    }

    #[test]
    fn inside_a_folder_a_path_upwards_or_aside_is_found() {
        let folder = "//! # Layout\n//!\n//! - [`verify`], [`backfill`]: above\n\
            //! - [`pool`]: below\npub mod verify; pub mod backfill; pub mod pool;";
        let inside = |place: &str, text: &str| {
            let all = ["verify", "backfill", "pool"].map(|name| format!("postgres/{name}/mod.rs"));
            let mut files: Vec<(&str, &str)> = all.iter().map(|it| (it.as_str(), "")).collect();
            files.push(("postgres/mod.rs", folder));
            files.push((place, text));
            faults_inside(&["postgres".to_owned()], folder, &Files::of(files))
        };
        let upwards = "pool::reset: pool may not use verify, which lies above it (in postgres)";
        let upwards = format!("postgres::{upwards}");
        let place = "postgres/pool/reset.rs";
        assert_eq!(inside(place, "use crate::postgres::verify::Proof;"), [upwards.as_str()]);
        assert_eq!(inside(place, "fn f() { super::super::verify::go() }"), [upwards.as_str()]);
        let aside = "postgres::verify::rows: verify may not use its sibling backfill (in postgres)";
        assert_eq!(inside("postgres/verify/rows.rs", "use super::super::backfill::Plan;"), [aside]);
        let unlisted = "elsewhere is a module of postgres, or stands in its layout, not both";
        assert_eq!(inside("postgres/elsewhere.rs", ""), [unlisted]);
        let none: [&str; 0] = [];
        assert_eq!(inside("postgres/verify/rows.rs", "use crate::postgres::pool::Pool;"), none);
        assert_eq!(inside(place, "use super::Pool; use crate::domain::side::Side;"), none);
    }

    #[test]
    fn a_cycle_is_told_unless_it_is_listed_and_a_listed_one_must_be_there() {
        let cycle = [vec![vec!["a".to_owned()], vec!["b".to_owned(), "c".to_owned()]]];
        let told = "2 files import each other: a, b::c";
        assert_eq!(faults_of_cycles(&cycle, &[]), [told]);
        let listed = listed("# why\nthey nest: a, b::c\n");
        assert!(faults_of_cycles(&cycle, &listed).is_empty());
        let gone = "listed as a cycle, and none: a, b::c";
        assert_eq!(faults_of_cycles(&[], &listed), [gone]);
        assert_eq!(
            faults_of_cycles(&cycle, &[vec!["a"]]),
            [told, "listed as a cycle, and none: a"]
        );
    }

    #[test]
    fn crates_are_kept_to_their_modules() {
        check(
            "stack/mod.rs",
            "use tonic::Status;",
            &["tonic is kept to grpc, app, cli, here: tonic::Status"],
        );
        check("app/mod.rs", "use tonic::Status; use ::prost::Message;", &[]);
        check(
            "grpc/mod.rs",
            "fn f(c: &tokio_postgres::Client) {}",
            &["tokio_postgres is kept to postgres, here: tokio_postgres::Client"],
        );
        check("postgres/mod.rs", "use tokio_postgres::Client;", &[]);
        check(
            "app/mod.rs",
            "fn f() -> anyhow::Result<()> { Ok(()) }",
            &["anyhow is kept to cli, main, here: anyhow::Result"],
        );
    }

    #[test]
    fn the_core_is_pure() {
        check(
            "domain/key.rs",
            "use std::{fmt, fs::File}; use std::time::Instant;",
            &["domain is pure and may not name std::fs::File"],
        );
        check(
            "compare/mod.rs",
            "fn f() { let a = std::time::Instant::now(); }",
            &["compare is pure and may not name std::time::Instant::now"],
        );
        check(
            "value/mod.rs",
            "use tokio::sync::Mutex; use tokio_util::sync::X; use rand::Rng;",
            &[
                "value is pure and may not name rand::Rng",
                "value is pure and may not name tokio::sync::Mutex",
            ],
        );
        check("stack/mod.rs", "fn f() { std::time::Instant::now(); }", &[]);
    }

    #[test]
    fn no_code_but_the_dialects_goes_by_which_database_it_is() {
        let named =
            |what: &str| format!("{what:?} names a database: ask dialect what differs there");
        let wanted = named("is_cockroach");
        check("stack/mod.rs", "fn f(it: &Facts) { if it.is_cockroach {} }", &[&wanted]);
        let wanted = named("CockroachDb");
        check("stack/mod.rs", "fn f() { match it { Engine::CockroachDb => {} } }", &[&wanted]);
        let wanted = named("POSTGRESQL");
        check("stack/mod.rs", "fn f() { it == Dialect::POSTGRESQL; }", &[&wanted]);
        let wanted = named("CockroachDB");
        check("stack/mod.rs", "fn f() { it.contains(\"CockroachDB\"); }", &[&wanted]);
        let wanted = named("crdb_version");
        check("stack/mod.rs", "fn f() { it == \"crdb_version\"; }", &[&wanted]);
        check("stack/mod.rs", "// CockroachDB\nconst A: &str = \"not on CockroachDB\";", &[]);
        check("dialect/mod.rs", "enum Engine { PostgreSql, CockroachDb }", &[]);
    }

    #[test]
    fn an_sqlstate_is_written_out_in_one_place() {
        let wanted = "\"40P01\" is an SQLSTATE: domain/sqlstate.rs names them";
        check("stack/mod.rs", "fn f() { it.sqlstate == \"40P01\" }", &[wanted]);
        check("stack/mod.rs", "match it { \"40P01\" | \"40P01\" => {} }", &[wanted]);
        let wanted = "\"SqlState::\" is an SQLSTATE: domain/sqlstate.rs names them";
        check("postgres/mod.rs", "fn f() { *it == SqlState::UNIQUE_VIOLATION }", &[wanted]);
        check("postgres/mod.rs", "fn f() { it.code().map(SqlState::code) }", &[]);
        check("stack/mod.rs", "const A: &str = \"90000\"; const B: &str = \"40P011\";", &[]);
        check("stack/mod.rs", "#[cfg(test)]\nmod tests { const A: &str = \"40P01\"; }", &[]);
        check("domain/sqlstate.rs", "pub const DEADLOCK_DETECTED: &str = \"40P01\";", &[]);
    }

    #[test]
    fn the_leaf_stays_a_leaf() {
        check(
            "telemetry/mod.rs",
            "use crate::domain::side::Side; use crate::stack;",
            &["telemetry is a leaf and may not use stack"],
        );
        check("domain/mod.rs", "use crate::telemetry;", &["domain may not use telemetry"]);
    }

    #[test]
    fn a_long_file_is_found_without_its_tests() {
        let long = "//\n".repeat(LINES_MAX + 1);
        check("stack/long.rs", &long, &["401 lines without tests, more than 400"]);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}", "//\n".repeat(LINES_MAX));
        check("stack/long.rs", &tested, &[]);
        // A file of tests that is declared at the beginning ends nothing.
        let declared = format!("#[cfg(test)]\nmod tests;\n{}", "//\n".repeat(LINES_MAX - 1));
        check("stack/long.rs", &declared, &["401 lines without tests, more than 400"]);
    }
}
