//! What `make test-cockroach` asks of a server besides the suites: each statement that segue sends is
//! prepared there. Without `COCKROACH_URL` the server is the stand-in.

use std::collections::BTreeMap;
use std::process::Command;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::fleet::schemas;
use crate::support::cockroach::{Recorder, Sent, walk};
use crate::support::stand_in::{Cockroach, Served};
use crate::support::{Database, Major, Segue, connect, shared};
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

/// As whoever has a CockroachDB names it. What runs is the test above, or the command that the
/// environment gives, such as `make test-cockroach`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_taken_by_its_url() {
    let served = Served::start().await;
    let (variable, url) = served.url();
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut command = match std::env::var(RUNS) {
        Ok(text) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(text);
            shell
        }
        Err(_) => {
            let recorder = Recorder::to(&folder.path().join("pass.jsonl"));
            pass::sent().await.iter().for_each(|it| recorder.note(it));
            let mut test = Command::new(std::env::current_exe().expect("it has a path"));
            test.args([EACH, "--exact", "--nocapture"]).env(RECORDED, folder.path());
            test
        }
    };
    command.env(variable, url).env_remove(RUNS);
    let running = tokio::task::spawn_blocking(move || command.output().expect("it can be run"));
    let output = running.await.expect("it has run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    assert!(output.status.success(), "it does not hold on a server that is named by its URL");
    assert!(said.contains("refused: 0"), "nothing was prepared there");
}
