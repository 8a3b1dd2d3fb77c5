//! Every setting, command and flag that a message, a help text or a page names exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory;

use crate::cli::args::Cli;
use crate::config::keys;
use crate::domain::reason::Reason;

/// What stands in the place of a value.
const IN_PLACE_OF_VALUES: [&str; 2] = ["…", "..."];
/// A message that a page quotes, which begins with segue's name.
const NO_COMMANDS: [&str; 1] = ["segue connects as "];
/// The page that lists reasons, whose names may look like settings.
const ERRORS: &str = "docs/reference/errors.md";
/// Names with a dot that are files.
const FILES: [&str; 2] = [".md", ".rs"];

fn files(root: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|it| it == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The texts of a Rust file that people may read: string literals outside of its tests, with
/// escapes undone, and doc comments of the command line's arguments.
fn literals(source: &str, with_docs: bool) -> Vec<String> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut texts = Vec::new();
    let mut letters = source.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            let line: String = rest.chars().take_while(|letter| *letter != '\n').collect();
            if with_docs && line.starts_with("/// ") {
                texts.push(line[4..].to_owned());
            }
            for _ in 1..line.chars().count() {
                letters.next();
            }
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            let end = rest[2..].find('\'').unwrap_or(0) + 2;
            while letters.next_if(|(next, _)| *next <= at + end).is_some() {}
        } else if rest.starts_with("r#\"") || rest.starts_with("r\"") {
            let hashes = rest[1..].chars().take_while(|letter| *letter == '#').count();
            let (begin, close) = (2 + hashes, format!("\"{}", "#".repeat(hashes)));
            let Some(length) = rest[begin..].find(&close) else { continue };
            texts.push(rest[begin..begin + length].to_owned());
            let end = at + begin + length + close.len();
            while letters.next_if(|(next, _)| *next < end).is_some() {}
        } else if letter == '"' {
            let mut text = String::new();
            while let Some((_, letter)) = letters.next() {
                match letter {
                    '"' => break,
                    '\\' => match letters.next() {
                        Some((_, '\n')) => {
                            while letters.next_if(|(_, next)| next.is_whitespace()).is_some() {}
                        }
                        Some((_, 'n')) => text.push('\n'),
                        Some((_, other)) => text.push(other),
                        None => {}
                    },
                    letter => text.push(letter),
                }
            }
            texts.push(text);
        }
    }
    texts
}

/// All texts with the file that each is of.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = Vec::new();
    for path in files(&root.join("src"), "rs") {
        let source = std::fs::read_to_string(&path).unwrap();
        if source.contains("//! Every setting, command and flag") || path.ends_with("tests.rs") {
            continue;
        }
        let of_arguments = path.to_string_lossy().contains("/cli/");
        let place = path.strip_prefix(root).unwrap().display().to_string();
        texts.extend(literals(&source, of_arguments).into_iter().map(|text| (place.clone(), text)));
    }
    let mut pages = files(&root.join("docs"), "md");
    pages.push(root.join("README.md"));
    pages.extend(files(&root.join("proto"), "proto"));
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        texts.push((path.strip_prefix(root).unwrap().display().to_string(), page));
    }
    texts
}

fn is_sql(text: &str) -> bool {
    ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", " FROM ", " AND ", "ALTER", "TRUNCATE"]
        .iter()
        .any(|word| text.contains(word) && !text.contains("segue "))
}

/// `section.name` of known sections, alone or in a sentence.
fn settings(text: &str) -> BTreeSet<String> {
    let sections: BTreeSet<&str> = keys::all().map(|key| key.section).collect();
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = BTreeSet::new();
    for word in text.split(|letter: char| !(is_part(letter) || matches!(letter, '.' | '/' | '-'))) {
        let word = word.trim_end_matches('.');
        let Some((section, name)) = word.rsplit_once('.') else { continue };
        let is_name =
            !name.is_empty() && name.chars().all(|it| it.is_ascii_lowercase() || it == '_');
        if sections.contains(section) && is_name {
            found.insert(word.to_owned());
        }
    }
    found
}

#[test]
fn every_setting_that_is_named_exists() {
    let known: BTreeSet<String> = keys::all().map(|key| key.path()).collect();
    let sections: BTreeSet<&str> = keys::all().map(|key| key.section).collect();
    let mut unknown = Vec::new();
    for (place, text) in texts() {
        // A code of a fault stands alone; so does a key that the configuration reads by, whose
        // absence `config` reports itself.
        if is_sql(&text) || (place.starts_with("src/") && !text.contains(' ')) {
            continue;
        }
        for name in settings(&text) {
            let is_section = sections.contains(name.as_str());
            let is_file = FILES.iter().any(|ending| name.ends_with(ending));
            let is_reason = place == ERRORS && Reason::ALL.iter().any(|it| it.as_str() == name);
            if !known.contains(&name) && !is_section && !is_file && !is_reason {
                unknown.push(format!("{place}: {name}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no such settings:\n{}", unknown.join("\n"));
}

fn flags_of(command: &clap::Command, flags: &mut BTreeSet<String>) {
    for argument in command.get_arguments() {
        flags.extend(argument.get_long().map(|long| format!("--{long}")));
    }
    for subcommand in command.get_subcommands() {
        flags_of(subcommand, flags);
    }
}

/// The words of a command line, as a shell tells them apart.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if matches!(letter, '\'' | '"') => quote = Some(letter),
            None if letter == ' ' => words.push(String::new()),
            _ => words.last_mut().unwrap().push(letter),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What `segue …` in a text asks for: the words up to the first that no command line has.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    // In pages whole lines are shown; in sentences commands stand between grave accents.
    let lines = text.lines().filter_map(|line| {
        line.trim_start().strip_prefix("$ ").filter(|line| line.starts_with("segue "))
    });
    found.extend(lines.map(str::to_owned));
    let quoted = text.split('`').skip(1).step_by(2).filter(|it| it.starts_with("segue "));
    found.extend(quoted.map(str::to_owned));
    let bare = text.split("segue ").skip(1).filter_map(|rest| {
        let begin = rest.find("--")?;
        let before = &rest[..begin];
        let is_command = !before.trim().is_empty()
            && before
                .split_whitespace()
                .all(|word| word.chars().all(|letter| letter.is_ascii_lowercase()));
        let end = rest.find(['`', '\n', ',', ';', ':', ')']).unwrap_or(rest.len());
        (is_command && begin < end).then(|| format!("segue {}", &rest[..end]))
    });
    found.extend(bare);
    found
}

/// Whether clap takes the command; what stands for a value is given one that fits.
pub(super) fn fault_of(command: &str) -> Option<String> {
    let line = command.split(['|', '>', '#', '&']).next().unwrap_or_default();
    let is_placeholder = |word: &&String| {
        !IN_PLACE_OF_VALUES.contains(&word.as_str())
            && !word.starts_with('[')
            && !word.chars().all(|letter| letter.is_uppercase() || matches!(letter, '.' | '_'))
    };
    let words: Vec<String> = words(line);
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    let mut rest = words.iter().skip(1);
    let mut known = BTreeSet::new();
    let mut begun = false;
    for word in rest.by_ref() {
        for argument in at.get_arguments() {
            known.extend(argument.get_long().map(|long| format!("--{long}")));
        }
        if let Some(next) = at.find_subcommand(word) {
            at = next;
            begun = true;
        } else if let Some(flag) = word.strip_prefix("--") {
            let flag = format!("--{}", flag.split('=').next().unwrap_or_default());
            for argument in at.get_arguments() {
                known.extend(argument.get_long().map(|long| format!("--{long}")));
            }
            if !known.contains(&flag) && !["--help", "--version"].contains(&flag.as_str()) {
                return Some(format!("{line}: there is no {flag}"));
            }
        } else if !begun && is_placeholder(&word) && !word.starts_with('-') {
            return Some(format!("{line}: there is no command {word}"));
        }
    }
    None
}

#[test]
fn every_command_that_is_named_exists() {
    let mut unknown = Vec::new();
    for (place, text) in texts() {
        unknown.extend(
            commands(&text)
                .iter()
                .filter(|command| !NO_COMMANDS.iter().any(|it| command.starts_with(it)))
                .filter_map(|command| fault_of(command))
                .map(|fault| format!("{place}: {fault}")),
        );
    }
    assert!(unknown.is_empty(), "no such commands:\n{}", unknown.join("\n"));
}

#[test]
fn every_flag_that_a_message_names_exists() {
    let mut known = BTreeSet::new();
    flags_of(&Cli::command(), &mut known);
    known.extend(["--help".to_owned(), "--version".to_owned()]);
    let mut unknown = Vec::new();
    for (place, text) in texts().into_iter().filter(|(place, _)| place.starts_with("src/")) {
        for word in text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '-')) {
            let is_flag = word.starts_with("--") && word[2..].starts_with(char::is_alphabetic);
            if is_flag && !known.contains(word) {
                unknown.push(format!("{place}: {word} in {text:?}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no such flags:\n{}", unknown.join("\n"));
}

/// What a key that failed says, in the words of the code and of the runbook.
const STUCK_REASONS: [&str; 11] = [
    "cannot be read on the",
    "is missing on the shadow",
    "has no default there",
    "which do not name the same keys",
    "primary key is not the one that",
    "is unfit",
    "a unique value that it needs is held by another row",
    "rows that refer to it keep changing",
    "stand in its way",
    "not done within",
    "has two rows with one key",
];

fn runbook() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join("docs/guides/runbook.md")).unwrap()
}

/// The rows of the runbook's tables: the first cell, without accents, and the last.
fn entries(page: &str) -> Vec<(String, String)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let entry = |row: &str| {
        let cells: Vec<&str> = row.split(" | ").collect();
        Some((cells.first()?.trim_matches('`').to_owned(), (*cells.last()?).to_owned()))
    };
    rows.filter_map(entry).collect()
}

#[test]
fn every_refusal_has_an_entry_in_the_runbook_and_every_entry_a_refusal() {
    let entries = entries(&runbook());
    let of_code: BTreeSet<String> = texts()
        .into_iter()
        .filter(|(place, text)| place.starts_with("src/") && text.starts_with("refused."))
        .map(|(_, text)| text)
        .filter(|text| text.chars().all(|it| it.is_ascii_lowercase() || matches!(it, '_' | '.')))
        .collect();
    assert!(of_code.len() > 50, "{of_code:?}");
    let of_page = entries.iter().filter(|(code, _)| code.starts_with("refused."));
    let of_page: BTreeSet<String> = of_page.map(|(code, _)| code.clone()).collect();
    let missing: Vec<_> = of_code.difference(&of_page).collect();
    assert!(missing.is_empty(), "not in docs/guides/runbook.md: {missing:?}");
    let stale: Vec<_> = of_page.difference(&of_code).collect();
    assert!(stale.is_empty(), "docs/guides/runbook.md has what nothing refuses by: {stale:?}");
    assert!(entries.iter().all(|(_, way_out)| !way_out.is_empty()));
}

#[test]
fn every_reason_of_a_stuck_key_has_an_entry_in_the_runbook() {
    const PLACES: [&str; 2] = ["src/postgres/mapping/", "src/postgres/reconcile/"];
    let entries = entries(&runbook());
    let texts = texts();
    for reason in STUCK_REASONS {
        let in_code = texts.iter().any(|(place, text)| {
            PLACES.iter().any(|it| place.starts_with(it)) && text.contains(reason)
        });
        assert!(in_code, "nothing says {reason:?} any more");
        assert!(entries.iter().any(|(found, _)| found == reason), "no entry for {reason:?}");
    }
}

#[test]
fn what_does_not_exist_is_noticed() {
    assert!(fault_of("segue outbox --stuck").is_none());
    assert!(fault_of("segue phase advance --to shift --force --reason 'x'").is_none());
    assert!(fault_of("segue outbox --stucked").is_some());
    assert!(fault_of("segue nothing").is_some());
    assert_eq!(settings("raise limits.message_bytes_max, please").len(), 1);
    let source = "fn a() { b('\"'); c(\"raise \\\n    x.y\"); // \"no\"\n d(r#\"raw\"#) }";
    assert_eq!(literals(source, false), ["raise x.y", "raw"]);
}
