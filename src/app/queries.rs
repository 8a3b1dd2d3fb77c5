//! Reads the query files that the configuration names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::stack::queries::{NamedStatements, QueryFault};

/// The ending of query files in a directory.
const EXTENSION: &str = "sql";

/// Query files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum QueriesError {
    /// A file or directory cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What is in them is wrong.
    #[error("{}", lines(.0))]
    Faults(Vec<QueryFault>),
}

/// All named statements of files and of the `*.sql` files of directories, in the order of
/// their paths.
///
/// # Errors
///
/// [`QueriesError`] with every fault of every file.
pub fn load(paths: &[PathBuf]) -> Result<NamedStatements, QueriesError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(of_directory(path).map_err(unreadable(path))?);
        } else {
            files.push(path.clone());
        }
    }
    let mut contents = Vec::with_capacity(files.len());
    for path in &files {
        let text = fs::read_to_string(path).map_err(unreadable(path))?;
        contents.push((path.display().to_string(), text));
    }
    let named = contents.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    NamedStatements::parse(named).map_err(QueriesError::Faults)
}

fn of_directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<_> = entries.collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == EXTENSION));
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> QueriesError + '_ {
    move |error| QueriesError::Unreadable { path: path.to_owned(), error }
}

fn lines(faults: &[QueryFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        file("a.sql", "-- name: a :one\nSELECT 1;\n");
        file("b.sql", "-- name: b :one\nSELECT 2;\n");
        file("notes.txt", "nothing");
        let named = load(&[folder.path().to_owned()]).unwrap();
        assert!(named.get("a").is_some() && named.get("b").is_some());
        let twice = [folder.path().to_owned(), folder.path().join("b.sql")];
        let error = load(&twice).unwrap_err().to_string();
        assert!(error.contains("b.sql:1: the name \"b\" is taken"), "{error}");
        let error = load(&[folder.path().join("c.sql")]).unwrap_err().to_string();
        assert!(error.contains("c.sql cannot be read"), "{error}");
    }
}
