//! Several sidecars at once on the same rows: hot keys, swaps of unique values, insert, delete
//! and insert again, in transactions and apart.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::ledger::{Auditor, Ledger, Load, Mix, SOURCE_SCHEMA, TARGET_SCHEMA, agree};
use crate::support::{Pair, Segue, seed};

/// So many members, each with its own clients; one is killed, another stopped for a while and
/// let go on with whatever it was at.
async fn converge(members: usize) {
    let seed = seed(&format!("{members} members"));
    let mut dice = StdRng::seed_from_u64(seed);
    let pair = Pair::fresh(SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let sections = "[outbox]\nbatch_keys_max = 20\n[sampling]\nrate = 0.5";
    let mut fleet = vec![Segue::serving(&pair, "shadow_read", sections).await];
    while fleet.len() < members {
        let mut member = Segue::prepare(pair.source.dsn(), pair.target.dsn(), sections);
        member.serve().await;
        fleet.push(member);
    }
    let addresses: Vec<_> = fleet.iter().map(Segue::sql_address).collect();
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &addresses, 9, (Mix::Everything, seed, 0));
    let auditor = Auditor::start(&ledger, &pair);
    for _ in 0..3 {
        load.acknowledged(300).await;
        let lost = dice.random_range(0..members);
        fleet[lost].kill();
        load.acknowledged(50).await;
        fleet[lost].serve().await;
        let stopped = dice.random_range(0..members);
        fleet[stopped].signal("STOP");
        tokio::time::sleep(Duration::from_millis(dice.random_range(100..1000))).await;
        fleet[stopped].signal("CONT");
    }
    load.acknowledged(300).await;
    load.stop().await;
    agree(&ledger, &pair).await;
    let looks = auditor.stop().await;
    println!("{members} members: {}; looks at source and target: {looks:?}", ledger.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_on_the_same_rows_converge() {
    converge(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_sidecars_on_the_same_rows_converge() {
    converge(3).await;
}
