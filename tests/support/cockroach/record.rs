//! What segue sends to a CockroachDB side, each text once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// A folder for the statements that the suites send; each process writes files of its own there.
const FOLDER: &str = "SEGUE_COCKROACH_STATEMENTS";

/// A statement, or several in one text, as it came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Sent {
    /// As the session named itself at login.
    pub application: String,
    /// Whether the session is segue's own, and not for statements of callers.
    pub own: bool,
    /// By `Parse`, and not by `Query`.
    pub extended: bool,
    /// Whether the server had said last that the session stands in a transaction.
    pub in_transaction: bool,
    /// The types that `Parse` gives its parameters; 0 leaves one to the server.
    pub types: Vec<u32>,
    pub sql: String,
    /// Columns of its result, from 0, that PostgreSQL gives as integers of less than eight bytes,
    /// and which are no table's.
    #[serde(default)]
    pub integers: Vec<usize>,
}

impl Sent {
    /// The same without what changes from one time to the next: numbers and ids in it.
    fn shape(&self) -> Self {
        let (mut sql, mut in_number) = (String::with_capacity(self.sql.len()), false);
        for character in self.sql.chars() {
            let is_of_number = character.is_ascii_digit()
                || in_number && matches!(character, 'a'..='f' | '-' | '.');
            if !is_of_number {
                sql.push(character);
            } else if !in_number {
                sql.push('0');
            }
            in_number = is_of_number;
        }
        // An id may begin with a letter, and its parts are of any length.
        let mut shape = String::with_capacity(sql.len());
        for part in sql.split_inclusive(|it: char| !it.is_ascii_alphanumeric()) {
            let word = part.trim_end_matches(|it: char| !it.is_ascii_alphanumeric());
            match word.contains('0') && word.chars().all(|it| matches!(it, 'a'..='f' | '0')) {
                true => {
                    let _ = write!(shape, "0{}", &part[word.len()..]);
                }
                false => shape.push_str(part),
            }
        }
        Self { sql: shape, ..self.clone() }
    }
}

/// Where statements are written down.
#[derive(Debug)]
pub struct Recorder {
    kept: Mutex<(BTreeSet<Sent>, File)>,
    path: PathBuf,
}

impl Recorder {
    /// One that the environment asks for.
    pub fn asked_for() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let folder = PathBuf::from(std::env::var_os(FOLDER)?);
        std::fs::create_dir_all(&folder).expect("the folder for statements can be made");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Self::to(&folder.join(format!("{}-{number}.jsonl", std::process::id()))))
    }

    /// One that appends to a file.
    pub fn to(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { kept: Mutex::new((BTreeSet::new(), file)), path: path.to_owned() }
    }

    /// Where it writes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a statement down, unless one of its shape was before.
    pub fn note(&self, sent: &Sent) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0.insert(sent.shape()) {
            let line = serde_json::to_string(sent).expect("a statement is text");
            writeln!(kept.1, "{line}").expect("a statement can be written down");
        }
    }

    /// What the environment's folder holds; nothing where it names none.
    pub fn recorded() -> Vec<Sent> {
        let Some(folder) = std::env::var_os(FOLDER) else { return Vec::new() };
        let entries = std::fs::read_dir(&folder).expect("the folder for statements is there");
        let paths = entries.map(|it| it.expect("it can be read").path());
        let files = paths.filter(|path| path.extension().is_some_and(|it| it == "jsonl"));
        files.flat_map(|path| Self::read(&path)).collect()
    }

    /// What a file holds.
    pub fn read(path: &Path) -> Vec<Sent> {
        let text = std::fs::read_to_string(path);
        let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
            })
            .collect()
    }
}
