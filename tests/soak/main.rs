//! A soak: mixed load, trials and random faults from a plan, and the ledger held against both
//! databases all along.
//!
//! `make soak` runs it for an hour, or for `SOAK_SECONDS`; `make test` for twenty seconds. The
//! plan is a pure function of `SOAK_SEED` and the time, and is printed; `SOAK_PLAN=file` runs
//! one as it was printed. What is planned comes again; how the processes interleave is the
//! machine's doing.

// Helpers outside of test functions may fail as tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]
#![allow(clippy::print_stdout)]

mod direct;
mod drift;
mod exotic;
#[path = "../ledger/mod.rs"]
mod ledger;
mod left;
mod limits;
mod plan;
mod shifted;
mod stuck;
#[path = "../support/mod.rs"]
mod support;
mod traps;
mod trial;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use direct::Slow;
use ledger::{Auditor, Ledger, Load, Mix, agree};
use plan::{Plan, ROUND};
use traps::Traps;
use world::World;

const SECONDS_DEFAULT: u64 = 20;
/// The plan of a run that asks for none: whether it passes is to be a matter of the code.
const SEED_DEFAULT: u64 = 21;
const CLIENTS: i64 = 10;
/// Writes at least that a round must bring, faults or not.
const PROGRESS: u64 = 100;

/// A variable's value where it is set.
fn given<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} cannot be read")))
}

/// The seed, its plan, and for how long rounds are begun: all of a plan that was given. What a round
/// takes beside its faults, to come to rest and to be compared, would make an hour's plan last for
/// hours on a busy machine.
fn planned() -> (u64, Plan, Duration) {
    let drawn =
        || if std::env::var("SOAK_SECONDS").is_ok() { rand::random() } else { SEED_DEFAULT };
    let seed = given("SOAK_SEED").unwrap_or_else(drawn);
    match std::env::var("SOAK_PLAN") {
        Ok(path) => std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse())
            .map(|plan| (seed, plan, Duration::MAX))
            .unwrap_or_else(|error| panic!("SOAK_PLAN={path}: {error}")),
        Err(_) => {
            let length = Duration::from_secs(given("SOAK_SECONDS").unwrap_or(SECONDS_DEFAULT));
            (seed, Plan::from_seed(seed, length), length)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_is_planned() {
    let (seed, plan, lasting) = planned();
    println!("SOAK_SEED={seed} plans the same again:\n{plan}");
    let mut world = World::start().await;
    let ledger = Arc::new(Ledger::default());
    let auditor = Auditor::start(&ledger, &world.pair);
    let slow = Arc::new(Slow::default());
    let mut drifted = 0;
    let first = Instant::now();
    for (round, generation) in plan.rounds().into_iter().zip(0..) {
        if first.elapsed() >= lasting {
            println!("{lasting:?} are over, and with them the plan");
            break;
        }
        let mix = (Mix::Everything, seed, generation);
        let load = Load::start(&ledger, &world.addresses(), CLIENTS, mix);
        let trap_seed = seed.wrapping_add(generation.unsigned_abs() << 32);
        let (told, addresses) = ((&ledger, &slow), world.addresses());
        let traps = Traps::start(told, &world.pair, &addresses, trap_seed).await;
        let trial = trial::begin(round.trial, generation, &mut world, (&load, &traps));
        let trial = Box::pin(trial).await;
        let begun = Instant::now();
        world.let_one_stray();
        Box::pin(world.suffer(&round.faults, || load.is_whole())).await;
        world.has_written_nothing().await;
        tokio::time::sleep(ROUND.saturating_sub(begun.elapsed())).await;
        load.acknowledged(PROGRESS).await;
        Box::pin(trial.end(&mut world, &traps)).await;
        drifted += traps.stop().await;
        load.stop().await;
        agree(&ledger, &world.pair).await;
        traps::agree(&world.pair, drifted).await;
        let named = trial::said(&world.sidecars[0].run(&["drift"]));
        assert!(drifted == 0 || named.contains(direct::DRIFTING), "{drifted} writes: {named}");
        slow.agree(&world.pair).await;
        let (trial, faults) = (round.trial, round.faults.len());
        println!("round {generation}, {trial:?}, {faults} faults: {}", ledger.summary());
    }
    let looks = auditor.stop().await;
    println!("looks at source and target: {looks:?}; sidecars hold {:?} kB", world.memory_kb());
    assert!(looks.iter().all(|looks| *looks > 0), "nobody looked while everything moved");
    world.is_sound();
}
