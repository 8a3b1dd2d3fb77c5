//! What callers see of changes of the primary: three members in processes of their own, 64
//! clients that write and read, and cutovers and rollbacks in turn.
//!
//! `make bench-cutover`, or `cargo bench --bench cutover -- ROUNDS CLIENTS`; with no rounds, only
//! what the fence costs a write.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod cost;
#[path = "../../tests/cutover/fleet.rs"]
mod fleet;
#[path = "../../tests/ledger/mod.rs"]
mod ledger;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet::{Fleet, said};
use ledger::{Ledger, Load, Mix};

const MEMBERS: usize = 3;
const ROUNDS: u64 = 20;
const CLIENTS: u64 = 64;

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rounds = numbers.first().copied().unwrap_or(ROUNDS);
    let clients = numbers.get(1).copied().unwrap_or(CLIENTS);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        cost::of_the_fence().await;
        cost::of_membership().await;
        if rounds > 0 {
            run(rounds, clients).await;
        }
    });
}

async fn run(rounds: u64, clients: u64) {
    let fleet = Fleet::in_shift(MEMBERS).await;
    let ledger = Arc::new(Ledger::default());
    let mix = (Mix::Calls, rand::random(), 0);
    let load = Load::start(&ledger, &fleet.addresses(), clients.cast_signed(), mix);
    load.acknowledged(clients * 10).await;
    load.longest();
    let _ = ledger.latencies();
    let begun = Instant::now();
    let before = ledger.acknowledged();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let rate = (ledger.acknowledged() - before) as f64 / begun.elapsed().as_secs_f64();
    let calm = load.longest();
    println!("{MEMBERS} members, {clients} clients, {rate:.0} acknowledged writes a second");
    show("longest write of a client in 5 s without a change", calm);

    let (mut seen, mut held, mut off) = (Vec::new(), Vec::new(), 0_u64);
    for round in 0..rounds * 2 {
        let command = if round.is_multiple_of(2) { "cutover" } else { "rollback" };
        loop {
            fleet.settled_at_all().await;
            load.acknowledged(clients * 4).await;
            load.longest();
            let output = fleet.change(0, command, &["--json"]);
            // Those that were held have their answers.
            load.acknowledged(clients * 2).await;
            if output.status.success() {
                seen.extend(load.longest());
                held.push(paused(&said(&output)));
                break;
            }
            off += 1;
            assert!(off < rounds, "{command} is called off again and again: {}", said(&output));
        }
    }
    load.stop().await;
    let (acknowledged, unknown, refused) = ledger.totals();
    println!("{rounds} cutovers and {rounds} rollbacks; called off and made again: {off}");
    show("the pause that a writer sees", seen);
    show("from the first held write to the last release, by segue", held);
    println!("errors: {refused} surely not applied, {unknown} of unknown outcome");
    // Panics with the first row that was lost, or that differs.
    fleet.everything_agrees(&ledger).await;
    println!("{acknowledged} acknowledged writes, 0 lost, 0 rows differ");
    assert_eq!((unknown, refused), (0, 0), "callers got errors: {:#?}", ledger.doubts());
}

fn paused(events: &str) -> Duration {
    let last = events.lines().rev().find(|line| line.contains("paused_ms")).expect("an end");
    let end: serde_json::Value = serde_json::from_str(last).expect("a line of JSON");
    Duration::from_secs_f64(end["paused_ms"].as_f64().expect("a number") / 1000.0)
}

fn show(what: &str, mut of: Vec<Duration>) {
    of.sort_unstable();
    let at = |share: usize| of[(of.len() * share / 100).min(of.len() - 1)].as_secs_f64() * 1000.0;
    let (p50, p99, max) = (at(50), at(99), at(100));
    println!("{what}: p50 {p50:.0} ms, p99 {p99:.0} ms, max {max:.0} ms (n = {})", of.len());
}
