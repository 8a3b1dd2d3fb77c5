//! What segue advises is done as it is said, and the block is gone: for each reason of a key that
//! is stuck, and for the refusals of operators' commands.
//!
//! [`every_entry_of_the_runbook_is_walked`] holds the lists to the runbook: an entry has a walk
//! here, or names the test that provokes it elsewhere.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod primary;
mod refusals;
mod servers;
mod stuck;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use support::{Pair, Segue, eventually};

const LIMIT: Duration = Duration::from_secs(120);

/// One thing that somebody does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Source(&'static str),
    Target(&'static str),
    Segue(&'static [&'static str]),
    /// Both sides set up, in a phase.
    Phase(&'static str),
    /// Something else in the place of what the configuration says, and a restart.
    Configure(&'static str, &'static str),
    /// More of it at its end, and a restart.
    ConfigureMore(&'static str),
    /// Nothing waits in the outbox any more.
    Drained,
    /// Every member works by the phase.
    Settled,
    /// The history says so.
    Noted(&'static str),
}

async fn take(step: Step, pair: &Pair, segue: &mut Segue) {
    match step {
        Step::Source(sql) => pair.source.run(sql).await,
        Step::Target(sql) => pair.target.run(sql).await,
        Step::Segue(arguments) => drop(segue.succeed(arguments)),
        Step::Phase(phase) => drop(segue.init_in(phase).await),
        Step::Configure(old, new) => {
            segue.reconfigure(old, new);
            restarted(segue).await;
        }
        Step::ConfigureMore(more) => {
            segue.configure(more);
            restarted(segue).await;
        }
        Step::Drained => nothing_waits("after the advice", segue).await,
        Step::Settled => settled(segue).await,
        Step::Noted(what) => {
            eventually(what, LIMIT, || async {
                let history = segue.succeed(&["history"]);
                history
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .contains(what)
                    .then_some(())
            })
            .await;
        }
    }
}

async fn settled(segue: &Segue) {
    eventually("the phase settles", LIMIT, || async {
        segue.succeed(&["phase"]).contains("settled at").then_some(())
    })
    .await;
}

/// Where it runs at all.
async fn restarted(segue: &mut Segue) {
    if segue.is_running() {
        assert!(segue.terminate().await, "{}", segue.logs());
        segue.serve().await;
    }
}

fn said(output: &std::process::Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn outbox(segue: &Segue) -> Value {
    let now: Value = serde_json::from_str(&segue.succeed(&["status", "--json"])).unwrap();
    now["outbox"].clone()
}

/// Replays what waits until nothing does: tables are not looked at again within a second.
async fn nothing_waits(what: &str, segue: &Segue) {
    eventually(&format!("{what}: nothing waits"), LIMIT, || async {
        if outbox(segue)["pending"] == 0 {
            return Some(());
        }
        segue.succeed(&["outbox", "retry"]);
        None
    })
    .await;
}

/// The first cells of the runbook's tables under a heading.
fn entries(heading: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides/runbook.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap();
    let end = rest.find("\n#").unwrap_or(rest.len());
    let rows = rest[..end].lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split(" | ").next()).map(|cell| cell.replace('`', "")).collect()
}

/// Whether a test of this name is in a file of `tests/` or `src/`.
fn exists(test: &str) -> bool {
    let (file, name) = test.split_once("::").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("fn {name}(")))
}

fn check(heading: &str, walked: impl Iterator<Item = &'static str>, elsewhere: &[(&str, &str)]) {
    let mut known: BTreeSet<String> = walked.map(str::to_owned).collect();
    for (entry, test) in elsewhere {
        assert!(exists(test), "{entry}: there is no test {test}");
        assert!(known.insert((*entry).to_owned()), "{entry} is walked twice");
    }
    let entries = entries(heading);
    assert!(entries.len() > 10, "{entries:?}");
    assert_eq!(known, entries, "under {heading:?}");
}

#[test]
fn every_entry_of_the_runbook_is_walked() {
    check("## Keys that are stuck", stuck::walked(), &stuck::ELSEWHERE);
    check("### Of operators' commands", refusals::walked(), &refusals::ELSEWHERE);
}
