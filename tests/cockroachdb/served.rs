//! What `make test-cockroach` asks of a server besides the suites: each statement that segue sends is
//! prepared there. Without `COCKROACH_URL` the server is the stand-in.

use std::collections::BTreeMap;
use std::process::Command;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::fleet::schemas;
use crate::support::cockroach::{Recorder, Sent, walk};
use crate::support::database::COCKROACH_URL;
use crate::support::stand_in::{Cockroach, Served};
use crate::support::{
    Database, Major, Options, Segue, Server, connect, free_port, shared, try_connect,
};
use crate::{is_segues, pass};

/// The test below, by its full name.
const EACH: &str = "served::each_statement_that_segue_sends_can_be_prepared";
/// A command to run with the URL of a stand-in, in the place of that test.
const RUNS: &str = "SEGUE_STAND_IN_RUNS";
/// The folder that [`Recorder::recorded`] reads.
const RECORDED: &str = "SEGUE_COCKROACH_STATEMENTS";
/// Kinds of statements whose preparation finds what they name, and what types they have.
const PREPARED: [&str; 4] = ["SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"];
/// Fewer are no migration.
const PREPARED_MIN: usize = 100;
/// Of a statement in a table of them.
const SHOWN_CHARS: usize = 160;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_statement_that_segue_sends_can_be_prepared() {
    let recorded = Recorder::recorded();
    let sent = if recorded.is_empty() { pass::sent().await } else { &recorded };
    let (on_source, on_target) = pass::tables();
    let (on_source, on_target) = schemas(&on_source, &on_target);
    let source = Database::create(shared(Major::V15), &on_source).await;
    let there = Cockroach::create(shared(Major::V18), &on_target).await;
    let segue = Segue::prepare(source.dsn(), &there.dsn, "");
    segue.succeed(&["init"]);
    segue.succeed(&["capture", "install"]);

    let client = connect(&there.dsn).await;
    let own = "SELECT pg_catalog.set_config('row_security', 'off', false)";
    client.batch_execute(own).await.unwrap_or_else(|error| panic!("{own}: {error:?}"));
    let mut answers = BTreeMap::new();
    for one in sent.iter().filter(|it| it.own || is_segues(&it.sql)) {
        for sql in statements(&one.sql) {
            let answer = prepared(&client, one, sql).await;
            answers.insert(shown(sql), answer);
        }
    }
    let refused: Vec<_> =
        answers.iter().filter_map(|(sql, it)| Some((sql, it.as_ref()?))).collect();
    println!("prepared: {} statements, of which refused: {}", answers.len(), refused.len());
    for (sql, message) in &refused {
        println!("refused: {sql}\t{message}");
    }
    assert!(answers.len() > PREPARED_MIN, "{} statements are not a migration", answers.len());
    assert!(refused.is_empty(), "the server does not take all of them");
}

/// Those of a text that are prepared.
fn statements(text: &str) -> Vec<&str> {
    let Some(tree) = walk::tree_of(text) else { return Vec::new() };
    let all: Vec<_> = walk::located(&tree).collect();
    let ends = all.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let of_kind =
        |it: &serde_json::Value| walk::node(it).is_some_and(|(kind, _)| PREPARED.contains(&kind));
    all.iter()
        .zip(ends)
        .filter(|((_, statement), _)| of_kind(statement))
        .map(|((at, _), end)| text[*at..end].trim().trim_end_matches(';'))
        .collect()
}

/// What the server says against it.
async fn prepared(client: &Client, sent: &Sent, sql: &str) -> Option<String> {
    let types = sent.types.iter().map(|oid| Type::from_oid(*oid).unwrap_or(Type::UNKNOWN));
    let types: Vec<_> = types.collect();
    let error = client.prepare_typed(sql, &types).await.err()?;
    Some(match error.as_db_error() {
        Some(said) => format!("{} {}", said.code().code(), said.message()),
        None => format!("{error:?}"),
    })
}

fn shown(sql: &str) -> String {
    let line = sql.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN_CHARS).collect()
}

/// What all else would fail at, one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_that_is_named_is_one_and_lets_databases_be_made() {
    let (_stand_in, url) = match std::env::var(COCKROACH_URL) {
        Ok(url) => (None, url),
        Err(_) => {
            let there = Cockroach::create(shared(Major::V18), "").await;
            let dsn = there.dsn.clone();
            (Some(there), dsn)
        }
    };
    let client = try_connect(&url).await;
    let client = client.unwrap_or_else(|error| panic!("no connection: {}", said(&error)));
    let row = client.query_one("SELECT version()", &[]).await;
    let row = row.unwrap_or_else(|error| panic!("not asked for its version: {}", said(&error)));
    let version: &str = row.get(0);
    assert!(version.contains("CockroachDB"), "it is no CockroachDB: {version}");
    println!("server: {version}");
    let name = format!("t{}_first", std::process::id());
    for sql in [format!("CREATE DATABASE {name}"), format!("DROP DATABASE {name}")] {
        let done = client.batch_execute(&sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {}", said(&error)));
    }
}

/// Both of what the driver says and why.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(it) => format!("{} {}", it.code().code(), it.message()),
        None => {
            let why = std::error::Error::source(error).map(|it| format!(": {it}"));
            format!("{error}{}", why.unwrap_or_default())
        }
    }
}

/// Statements of the pass, for processes that would make it again, and some more.
async fn recorded(more: &[Sent]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let recorder = Recorder::to(&folder.path().join("pass.jsonl"));
    pass::sent().await.iter().chain(more).for_each(|it| recorder.note(it));
    folder
}

/// `make test-cockroach` of the suite that this is.
fn table() -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/test-cockroach"));
    let own = std::env::current_exe().expect("it has a path");
    let program = format!("--program=cockroachdb={}", own.display());
    command.args(["--only=cockroachdb", &program]);
    command
}

/// Its exit and all that it says.
async fn run(mut command: Command, url: &str) -> (Option<i32>, String) {
    command.env(COCKROACH_URL, url).env_remove(RUNS);
    let running = tokio::task::spawn_blocking(move || command.output().expect("it can be run"));
    let output = running.await.expect("it has run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    (output.status.code(), said)
}

/// As whoever has a CockroachDB names it. What runs is the fast part, or the command that the
/// environment gives, such as `make test-cockroach`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_taken_by_its_url() {
    let served = Served::start().await;
    let folder = recorded(&[]).await;
    let command = match std::env::var(RUNS) {
        Ok(text) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(text);
            shell
        }
        Err(_) => {
            let mut command = table();
            command.env(RECORDED, folder.path());
            command
        }
    };
    let (exit, said) = run(command, &served.url()).await;
    assert_eq!(exit, Some(0), "it does not hold on a server that is named by its URL");
    for row in ["| server: a stand-in for CockroachDB | yes |  |", "| statements prepared: "] {
        assert!(said.contains(row), "{row} is missing");
    }
    assert!(said.contains("refused: 0") && said.contains(" held, 0 did not"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_is_refused_stands_in_the_table_with_what_was_said() {
    let planted = Sent {
        application: String::new(),
        own: true,
        extended: true,
        in_transaction: false,
        types: Vec::new(),
        sql: "SELECT pg_catalog.row_security_active('t')".to_owned(),
        integers: Vec::new(),
    };
    let served = Served::start().await;
    let folder = recorded(std::slice::from_ref(&planted)).await;
    let mut command = table();
    command.env(RECORDED, folder.path());
    let (exit, said) = run(command, &served.url()).await;
    assert_eq!(exit, Some(1));
    let row =
        format!("| `{}` | **no** | 42883 no such function: row_security_active |", planted.sql);
    assert!(said.contains(&row), "{row} is missing");
    let test = format!("| cockroachdb: {EACH} | **no** | the server does not take all of them |");
    assert!(said.contains(&test), "{test} is missing");
    assert!(said.contains(" held, 3 did not"));
}

/// Before anything else is tried there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_used_is_said_and_nothing_else_is_run() {
    let served = Served::start().await;
    let client = connect(&served.url()).await;
    client.batch_execute("CREATE ROLE reader LOGIN").await.expect("a role can be made");
    let options = Options { password: Some("right".to_owned()), ..Options::default() };
    let guarded = Server::start(Major::V18, &options);
    let plain = shared(Major::V18);
    let away = format!("postgres://root@127.0.0.1:{}/defaultdb", free_port());
    for (url, said_there) in [
        (away, "no connection: error connecting to server: Connection refused"),
        (
            guarded.dsn("postgres").replace("right", "wrong"),
            "28P01 password authentication failed for user \"postgres\"",
        ),
        (plain.dsn("postgres"), "it is no CockroachDB: PostgreSQL 18"),
        (
            served.url().replace("postgres@", "reader@"),
            "42501 permission denied to create database",
        ),
    ] {
        let (exit, said) = run(table(), &url).await;
        assert_eq!(exit, Some(1), "{said_there}");
        let rows: Vec<_> = said.lines().filter(|it| it.contains("| **no** |")).collect();
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows[0].contains(said_there), "{said_there}: {rows:?}");
        assert!(rows[1].contains("not run, since the first step did not hold"), "{rows:?}");
        assert!(!said.contains("wrong@") && !said.contains(EACH), "{said}");
    }
    let mut command = table();
    command.env_remove(COCKROACH_URL);
    let output = command.output().expect("it can be run");
    assert_eq!(output.status.code(), Some(2));
}
