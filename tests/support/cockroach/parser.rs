//! CockroachDB's own parser, a program of its own (`parser/main.go`, built by `scripts/setup`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

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

/// A parser that is asked one text after the other.
#[derive(Debug)]
pub struct Parser {
    child: Child,
    into: ChildStdin,
    from: BufReader<ChildStdout>,
    asked: usize,
}

impl Parser {
    pub fn start() -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "CockroachDB's parser is not there: install Go 1.23 or later, then run scripts/setup"
        );
        let mut child = Command::new(PROGRAM)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the parser can be run");
        let into = child.stdin.take().expect("it is piped");
        let from = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, into, from, asked: 0 }
    }

    /// What it says of a text.
    pub fn parse(&mut self, sql: &str) -> Parsed {
        self.asked += 1;
        let question = serde_json::json!({"id": self.asked, "sql": sql, "kind": "sql"});
        writeln!(self.into, "{question}").expect("the parser reads");
        let mut line = String::new();
        self.from.read_line(&mut line).expect("the parser answers in UTF-8");
        let parsed: Parsed = serde_json::from_str(&line).expect("it answers in JSON");
        assert_eq!(parsed.id, self.asked, "answers come in the order of the questions");
        parsed
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it says of each text, in their order.
pub fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Parsed> {
    let mut parser = Parser::start();
    texts.map(|sql| parser.parse(sql)).collect()
}
