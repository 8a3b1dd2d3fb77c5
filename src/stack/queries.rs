//! Named statements: `queries/*.sql`, in the notation of sqlc.
//!
//! ```sql
//! -- name: get_order :one
//! SELECT id, total FROM orders WHERE id = $1;
//! ```
//!
//! A pure parser; whoever knows the files reads them.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::statement::{self, Analysis};

/// What the caller expects of a statement. It tells readers of the file, and generated
/// clients, what to make of the answer; segue runs all of them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// One row or none.
    One,
    /// Any number of rows.
    Many,
    /// No rows.
    Exec,
    /// The number of affected rows.
    ExecRows,
}

/// One statement of a query file.
#[derive(Debug, Clone)]
pub struct NamedStatement {
    /// Its name.
    pub name: Arc<str>,
    /// What is expected of it.
    pub command: Command,
    /// Its SQL, without the closing semicolon.
    pub sql: Arc<str>,
    /// What is known of it.
    pub analysis: Arc<Analysis>,
}

/// All named statements.
#[derive(Debug, Clone, Default)]
pub struct NamedStatements {
    by_name: HashMap<Arc<str>, NamedStatement>,
}

/// What is wrong with a query file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryFault {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and the way out.
    pub message: String,
}

impl fmt::Display for QueryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

impl std::error::Error for QueryFault {}

// === impl Command ===

impl FromStr for Command {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            ":one" => Ok(Self::One),
            ":many" => Ok(Self::Many),
            ":exec" => Ok(Self::Exec),
            ":execrows" => Ok(Self::ExecRows),
            _ => Err(()),
        }
    }
}

// === impl NamedStatements ===

impl NamedStatements {
    /// Reads files, given as name and contents, and analyses what is in them.
    ///
    /// # Errors
    ///
    /// All faults of all files at once.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<QueryFault>> {
        let mut faults = Vec::new();
        let mut all = Self::default();
        for (file, contents) in files {
            for section in sections(contents) {
                if let Err(message) = all.add(&section) {
                    faults.push(QueryFault { file: file.to_owned(), line: section.line, message });
                }
            }
        }
        if faults.is_empty() { Ok(all) } else { Err(faults) }
    }

    /// The statement of that name.
    pub fn get(&self, name: &str) -> Option<&NamedStatement> {
        self.by_name.get(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &NamedStatement> {
        self.by_name.values()
    }

    fn add(&mut self, section: &Section<'_>) -> Result<(), String> {
        let (name, command) = section.head()?;
        if self.by_name.contains_key(name) {
            return Err(format!("the name {name:?} is taken already: choose another"));
        }
        let sql = section.sql();
        if sql.is_empty() {
            return Err(format!("{name:?} has no statement: write it below its name"));
        }
        let analysis = statement::analyse(sql).map_err(|fault| format!("{name:?}: {fault}"))?;
        if let Some(refusal) = &analysis.refusal {
            return Err(format!("{name:?} would be refused: {refusal}"));
        }
        let name: Arc<str> = name.into();
        let statement = NamedStatement {
            name: Arc::clone(&name),
            command,
            sql: sql.into(),
            analysis: Arc::new(analysis),
        };
        self.by_name.insert(name, statement);
        Ok(())
    }
}

/// From one `-- name:` to the next.
struct Section<'a> {
    line: usize,
    /// What follows `-- name:`; nothing where SQL stands before the first name.
    head: Option<&'a str>,
    body: &'a str,
}

impl<'a> Section<'a> {
    fn head(&self) -> Result<(&'a str, Command), String> {
        let form = "write `-- name: get_order :one`";
        let head = self.head.ok_or_else(|| format!("a statement has no name: {form} above it"))?;
        let mut words = head.split_whitespace();
        let (Some(name), Some(command), None) = (words.next(), words.next(), words.next()) else {
            return Err(format!("{head:?} is not a name and a command: {form}"));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if !name.chars().all(plain) {
            return Err(format!("the name {name:?} has other than letters, digits, '_' and '.'"));
        }
        let command = command.parse().map_err(|()| {
            format!("unknown command {command:?}: one of :one, :many, :exec, :execrows")
        })?;
        Ok((name, command))
    }

    /// The body between its comments, without the semicolon that closes it.
    fn sql(&self) -> &'a str {
        let body = without_leading_comments(self.body).trim();
        body.strip_suffix(';').unwrap_or(body).trim_end()
    }
}

fn without_leading_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    while let Some(comment) = rest.strip_prefix("--") {
        rest = comment.split_once('\n').map_or("", |(_, below)| below).trim_start();
    }
    rest
}

fn name_line(line: &str) -> Option<&str> {
    let comment = line.trim_start().strip_prefix("--")?;
    comment.trim_start().strip_prefix("name:").map(str::trim)
}

fn sections(contents: &str) -> Vec<Section<'_>> {
    let mut found = Vec::new();
    let mut current = Section { line: 1, head: None, body: "" };
    let (mut offset, mut body_start) = (0, 0);
    for (index, line) in contents.split_inclusive('\n').enumerate() {
        if let Some(head) = name_line(line) {
            current.body = contents.get(body_start..offset).unwrap_or_default();
            found.push(current);
            current = Section { line: index + 1, head: Some(head), body: "" };
            body_start = offset + line.len();
        }
        offset += line.len();
    }
    current.body = contents.get(body_start..).unwrap_or_default();
    found.push(current);
    // Comments before the first name belong to the file.
    found.retain(|section| section.head.is_some() || !section.sql().is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(contents: &str) -> Vec<String> {
        let faults = NamedStatements::parse([("orders.sql", contents)]).unwrap_err();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn statements_are_found_by_name() {
        let contents = "-- Orders.\n\n-- name: get_order :one\n-- By its id.\n\
                        SELECT id -- the key\nFROM orders WHERE id = $1;\n\n\
                        --name: add_order :execrows\nINSERT INTO orders VALUES ($1)\n";
        let all = NamedStatements::parse([("orders.sql", contents)]).unwrap();
        let get = all.get("get_order").unwrap();
        assert_eq!(get.command, Command::One);
        assert_eq!(&*get.sql, "SELECT id -- the key\nFROM orders WHERE id = $1");
        let add = all.get("add_order").unwrap();
        assert_eq!((add.command, &*add.sql), (Command::ExecRows, "INSERT INTO orders VALUES ($1)"));
        assert!(add.analysis.writes && !get.analysis.writes);
        assert_eq!((all.len(), all.get("other").is_none()), (2, true));
    }

    #[test]
    fn all_faults_come_at_once_with_their_lines() {
        let contents = "SELECT 1;\n-- name: a :one\nSELECT 1;\n-- name: a :one\nSELECT 2;\n\
                        -- name: b :some\nSELECT 1;\n-- name: c\nSELECT 1;\n-- name: d :exec\n-- nothing\n\
                        -- name: e :exec\nSELEC 1;\n-- name: f :exec\nDROP TABLE orders;\n";
        let found = faults(contents);
        let lines: Vec<_> = found.iter().filter_map(|fault| fault.split(':').nth(1)).collect();
        assert_eq!(lines, ["1", "4", "6", "8", "10", "12", "14"], "{found:#?}");
        assert!(found[1].contains("\"a\" is taken"), "{}", found[1]);
        assert!(found[2].contains(":some"), "{}", found[2]);
    }

    #[test]
    fn a_name_is_unique_over_all_files() {
        let file = "-- name: a :one\nSELECT 1";
        let faults = NamedStatements::parse([("a.sql", file), ("b.sql", file)]).unwrap_err();
        assert_eq!((faults.len(), faults[0].file.as_str()), (1, "b.sql"));
    }
}
