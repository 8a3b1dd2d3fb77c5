//! CockroachDB's own parser, a program of its own (`parser/main.go`, built by `scripts/setup`).

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.build/cockroachdb-parser/parser");

/// What the parser says against a text.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Refusal {
    /// Empty for the statement itself, or whose body it is.
    #[serde(rename = "where")]
    pub place: String,
    pub code: String,
    pub message: String,
    /// The text with a mark below the place.
    #[serde(default)]
    pub detail: String,
}

/// What the parser says of a text.
#[derive(Debug, serde::Deserialize)]
pub struct Parsed {
    id: usize,
    pub refusals: Vec<Refusal>,
    /// The SQL in the bodies of functions, as CockroachDB writes it.
    pub parts: Vec<String>,
    /// The kinds of their statements in PL/pgSQL.
    pub kinds: Vec<String>,
}

/// What it says of each text, in their order.
pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Parsed> {
    assert!(
        Path::new(PROGRAM).exists(),
        "CockroachDB's parser is not there: install Go 1.23 or later, then run scripts/setup"
    );
    let questions: Vec<_> = texts
        .enumerate()
        .map(|(id, sql)| serde_json::json!({"id": id, "sql": sql, "kind": "sql"}).to_string())
        .collect();
    let mut parser = Command::new(PROGRAM)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the parser can be run");
    let mut into = parser.stdin.take().expect("it is piped");
    // It answers while it is asked.
    let asking = std::thread::spawn(move || {
        for question in questions {
            writeln!(into, "{question}").expect("the parser reads");
        }
    });
    let output = parser.wait_with_output().expect("the parser ends");
    asking.join().expect("all was asked");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers = String::from_utf8(output.stdout).expect("it answers in UTF-8");
    let answers = answers.lines().enumerate().map(|(at, line)| {
        let parsed: Parsed = serde_json::from_str(line).expect("it answers in JSON");
        assert_eq!(parsed.id, at, "answers come in the order of the questions");
        parsed
    });
    answers.collect()
}
