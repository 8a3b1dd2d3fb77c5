//! What segue sends to a CockroachDB side, held against CockroachDB's own parser and against what
//! its public texts say of its dialect. Nothing here runs on CockroachDB.
//!
//! The statements are recorded while a migration runs (`pass`); recordings of other suites are read
//! as well where `SEGUE_COCKROACH_STATEMENTS` names their folder. What is known to be wrong stands
//! in `known.json`; what is not in it fails the test, and so does what stands there and is gone.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../cutover/fleet.rs"]
mod fleet;
#[path = "../ledger/mod.rs"]
mod ledger;
#[path = "../support/mod.rs"]
mod support;

mod dialect;
mod known;
mod pass;
mod places;
mod refusing;
mod served;
mod stand_in;

use std::collections::{BTreeMap, BTreeSet};

use support::cockroach::facts::{Facts, Release};
use support::cockroach::walk::{self, Violation};
use support::cockroach::{Recorder, Sent, parser};

/// Releases that are asked about, and the statements that each violation was seen in.
type Found = BTreeMap<Violation, (BTreeSet<Release>, String)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_there_is_taken_there_but_for_what_is_known() {
    let sent = pass::sent().await;
    assert!(sent.len() > STATEMENTS_MIN, "{} statements are not a migration", sent.len());
    let of_pass = found_in(sent);
    let elsewhere = found_in(&Recorder::recorded());
    let known = known::load();

    let mut wrong = Vec::new();
    for (violation, (releases, sql)) in of_pass.iter().chain(&elsewhere) {
        if !known.iter().any(|it| it.is(violation)) {
            let releases: Vec<_> = releases.iter().map(ToString::to_string).collect();
            wrong.push(format!("{violation:?} in {}:\n    {sql}", releases.join(" and ")));
        }
    }
    for it in &known {
        if !it.elsewhere && !of_pass.keys().any(|violation| it.is(violation)) {
            wrong.push(format!("{it:?} is no more: take it out of known.json"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What nobody sends here nobody has checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_place_that_holds_sql_is_reached_or_it_is_said_why_not() {
    let sent: Vec<_> = pass::sent().await.iter().map(|it| places::plain(&it.sql)).collect();
    let (all, list) = (places::all(), places::unreached());
    let mut wrong = Vec::new();
    for (place, texts) in &all {
        let is_reached = places::is_reached(texts, &sent);
        if !is_reached && !list.iter().any(|it| it.covers(place)) {
            wrong.push(format!("{place:?} is not reached"));
        }
        if let Some(it) = list.iter().find(|it| is_reached && it.names(place) && !it.sometimes) {
            wrong.push(format!("{place:?} is reached, and unreached.json says {:?}", it.why));
        }
    }
    for place in list.iter().flat_map(|it| &it.places) {
        let of_file = place.strip_suffix('*');
        let is_there =
            |it: &String| it == place || of_file.is_some_and(|file| it.starts_with(file));
        if !all.keys().any(is_there) {
            wrong.push(format!("{place:?} is gone: take it out of unreached.json"));
        }
    }
    let help = "reach it in pass.rs, or say in unreached.json why it is not reached";
    assert!(wrong.is_empty(), "{}\n{help}", wrong.join("\n"));
}

/// Fewer are no migration from end to end.
const STATEMENTS_MIN: usize = 250;

/// What stands against any of these in any release.
fn found_in(sent: &[Sent]) -> Found {
    let (facts, mut found) = (Facts::known(), Found::new());
    // What callers send is theirs, where segue says nothing with it.
    let sent: Vec<_> = sent.iter().filter(|it| it.own || is_segues(&it.sql)).collect();
    for (one, parsed) in sent.iter().zip(parser::parse(sent.iter().map(|it| &*it.sql))) {
        let mut add = |violation, release| {
            let entry = found.entry(violation).or_insert_with(|| {
                (BTreeSet::new(), one.sql.split_whitespace().collect::<Vec<_>>().join(" "))
            });
            entry.0.insert(release);
        };
        for release in [Release::OLDEST, Release::LATEST] {
            parsed.refusals.iter().for_each(|it| add(known::syntax(it), release));
            let violations = walk::violations(facts, release, one, &parsed);
            violations.into_iter().flatten().for_each(|it| add(it, release));
        }
    }
    found
}

/// Segue's own statements name their schemas, as those of callers do not.
fn is_segues(sql: &str) -> bool {
    ["pg_catalog.", "segue.", "SET "].iter().any(|part| sql.contains(part))
}
