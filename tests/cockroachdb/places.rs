//! The places in the source that hold SQL, and whether what they hold was seen to be sent.
//!
//! A place is a constant or a function. It is reached where one of its texts was sent: every piece
//! of it between what is filled in, in one statement, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
const POSTGRES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/postgres");
const DIALECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/dialect");
const TESTS_BEGIN: &str = "#[cfg(test)]\nmod ";
/// Shorter texts and pieces are found in everything.
const TEXT_CHARS_MIN: usize = 24;
const PIECE_CHARS_MIN: usize = 8;
/// What SQL has and other texts have not, in capital letters.
const WORDS: [&str; 16] = [
    "SELECT",
    "INSERT INTO",
    "UPDATE",
    "DELETE FROM",
    "CREATE",
    "ALTER",
    "DROP",
    "COPY",
    "WITH",
    "BEGIN",
    "SET",
    "FROM",
    "WHERE",
    "VALUES",
    "TRUNCATE",
    "LOCK",
];

/// A constant or a function, as `postgres/control.rs CHANGE`.
pub type Place = String;

/// Places that the pass does not reach, and why: `unreached.json`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unreached {
    pub why: String,
    /// Whether the pass may come by all the same.
    #[serde(default)]
    pub sometimes: bool,
    /// With `*` in the place of a name, all of a file.
    pub places: BTreeSet<Place>,
}

impl Unreached {
    /// Whether it names the place itself.
    pub fn names(&self, place: &str) -> bool {
        self.places.contains(place)
    }

    /// Whether it speaks of the place, or of its whole file.
    pub fn covers(&self, place: &str) -> bool {
        let file = place.split(' ').next().unwrap_or_default();
        self.names(place) || self.places.contains(&format!("{file} *"))
    }
}

/// The list, in which no place stands twice.
pub fn unreached() -> Vec<Unreached> {
    let list: Vec<Unreached> =
        serde_json::from_str(include_str!("unreached.json")).expect("unreached.json has this form");
    let mut seen = BTreeSet::new();
    for place in list.iter().flat_map(|it| &it.places) {
        assert!(seen.insert(place), "{place} stands in unreached.json twice");
    }
    list
}

/// The texts of each place that hold SQL, each in its pieces.
pub fn all() -> BTreeMap<Place, Vec<Vec<String>>> {
    let mut places: BTreeMap<Place, Vec<Vec<String>>> = BTreeMap::new();
    for path in files(Path::new(POSTGRES)).into_iter().chain(files(Path::new(DIALECT))) {
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        let text = text.split(TESTS_BEGIN).next().unwrap_or_default();
        let file = path.strip_prefix(SOURCE).expect("it is below").display().to_string();
        for (item, literal) in literals(text) {
            let pieces = pieces(&literal);
            if is_sql(&literal) && !pieces.is_empty() {
                places.entry(format!("{file} {item}")).or_default().push(pieces);
            }
        }
    }
    places
}

/// Whether one of a place's texts is in one of these statements.
pub fn is_reached(texts: &[Vec<String>], sent: &[String]) -> bool {
    texts.iter().any(|pieces| sent.iter().any(|sql| holds(sql, pieces)))
}

/// All on one line.
pub fn plain(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn holds(sql: &str, pieces: &[String]) -> bool {
    let mut rest = sql;
    pieces.iter().all(|piece| match rest.split_once(piece.as_str()) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

fn is_sql(literal: &str) -> bool {
    let has = |word: &str| {
        literal.match_indices(word).any(|(at, _)| {
            let is_free = |it: Option<char>| it.is_none_or(|it| !it.is_alphanumeric() && it != '_');
            is_free(literal[..at].chars().next_back())
                && is_free(literal[at + word.len()..].chars().next())
        })
    };
    plain(literal).chars().count() >= TEXT_CHARS_MIN && WORDS.iter().any(|word| has(word))
}

/// What stands between what is filled in.
fn pieces(literal: &str) -> Vec<String> {
    let (mut pieces, mut piece, mut depth) = (Vec::new(), String::new(), 0_u32);
    for character in literal.chars() {
        match character {
            '{' => {
                depth += 1;
                pieces.push(std::mem::take(&mut piece));
            }
            '}' => depth = depth.saturating_sub(1),
            _ if depth == 0 => piece.push(character),
            _ => {}
        }
    }
    pieces.push(piece);
    let pieces = pieces.iter().map(|it| plain(it));
    pieces.filter(|it| it.chars().count() >= PIECE_CHARS_MIN).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            found.extend(files(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// String literals, each with the constant or function that it stands in.
fn literals(text: &str) -> Vec<(String, String)> {
    let (mut found, mut item, mut rest) = (Vec::new(), String::new(), text);
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        // `'static` is a lifetime.
        let is_word_begin = !before.is_alphanumeric() && !['_', '\''].contains(&before);
        let mut taken = first.len_utf8();
        if rest.starts_with("//") {
            taken = rest.find('\n').unwrap_or(rest.len());
        } else if let Some((name, length)) = named(rest).filter(|_| is_word_begin) {
            (item, taken) = (name, length);
        } else if let Some((literal, length)) = raw(rest).filter(|_| is_word_begin) {
            found.push((item.clone(), literal));
            taken = length;
        } else if first == '"' {
            let (literal, length) = quoted(&rest[1..]);
            found.push((item.clone(), literal));
            taken = length + 1;
        } else if let Some(length) = character(rest) {
            taken = length;
        }
        before = rest[..taken].chars().next_back().unwrap_or(' ');
        rest = &rest[taken..];
    }
    found
}

/// The name after `fn`, `const` or `static`, and how much text that is.
fn named(rest: &str) -> Option<(String, usize)> {
    let word = ["fn ", "const ", "static "].into_iter().find(|word| rest.starts_with(word))?;
    let is_of_name = |it: &char| it.is_alphanumeric() || *it == '_';
    let name: String = rest[word.len()..].chars().take_while(is_of_name).collect();
    // `const fn` names what comes after.
    (!name.is_empty() && name != "fn").then(|| (name.clone(), word.len() + name.len()))
}

fn raw(rest: &str) -> Option<(String, usize)> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end)?;
    Some((inside[..length].to_owned(), 1 + hashes + 1 + length + end.len()))
}

/// What is between the quotes, and how much text that is with the closing one.
fn quoted(rest: &str) -> (String, usize) {
    let (mut literal, mut at) = (String::new(), 0);
    while let Some(next) = rest[at..].chars().next() {
        at += next.len_utf8();
        match next {
            '"' => break,
            '\\' => {
                let escaped = rest[at..].chars().next().unwrap_or_default();
                at += escaped.len_utf8();
                match escaped {
                    // What follows on the next line begins at its first word.
                    '\n' => at += rest[at..].len() - rest[at..].trim_start().len(),
                    'n' => literal.push('\n'),
                    other => literal.push(other),
                }
            }
            other => literal.push(other),
        }
    }
    (literal, at)
}

/// The length of a character in quotes; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    let length = if first == '\\' { 1 + inside[1..].find('\'')? } else { first.len_utf8() };
    inside[length..].starts_with('\'').then_some(length + 2)
}

#[test]
fn texts_are_found_with_their_places_and_in_their_pieces() {
    let source = r##"
        // "SELECT in a comment, which is none"
        const ONE: &str = "SELECT a \
            FROM segue.one WHERE b = '{'";
        fn two<'a>(of: char) -> String {
            let _ = ('"', '\'', 'x');
            format!("INSERT INTO {} VALUES ({of}) RETURNING \"id\"", r#"a "raw" text"#)
        }
    "##;
    let found = literals(source);
    let found: Vec<_> = found.iter().map(|(item, text)| (item.as_str(), text.as_str())).collect();
    assert_eq!(
        found,
        [
            ("ONE", "SELECT a FROM segue.one WHERE b = '{'"),
            ("two", "INSERT INTO {} VALUES ({of}) RETURNING \"id\""),
            ("two", "a \"raw\" text"),
        ]
    );
    assert_eq!(pieces(found[1].1), ["INSERT INTO", "VALUES (", ") RETURNING \"id\""]);
    let sent = [plain("INSERT INTO  t VALUES (1) RETURNING \"id\"")];
    assert!(is_reached(&[pieces(found[1].1)], &sent));
    assert!(!is_reached(&[pieces(found[0].1)], &sent));
    assert!(is_sql(found[1].1) && !is_sql("what is SELECTED here is no SQL"));
}
