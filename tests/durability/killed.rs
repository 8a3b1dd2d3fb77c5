//! The sidecar ends: by `kill -9` at any moment, or in order.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::World;
use crate::ledger::{Auditor, Ledger, Load, Mix, SOURCE_SCHEMA, TARGET_SCHEMA, agree};
use crate::support::{Pair, Segue, seed};

const KILLS: u32 = 20;
/// From its being ready to the next kill, in milliseconds.
const MOMENTS: std::ops::Range<u64> = 20..1500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_sidecar_is_killed_under_load() {
    let seed = seed("killed under load");
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::start().await;
    let mut segue = Segue::serving(&world.pair, "shadow_read", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, &[segue.sql_address()], 8, (Mix::Everything, seed, 0));
    let auditor = Auditor::start(&ledger, &world.pair);
    for _ in 0..KILLS {
        // At any moment, but not before there is something to lose.
        load.acknowledged(20).await;
        tokio::time::sleep(Duration::from_millis(dice.random_range(MOMENTS))).await;
        segue.kill();
        segue.serve().await;
    }
    load.acknowledged(100).await;
    load.stop().await;
    agree(&ledger, &world.pair).await;
    let looks = auditor.stop().await;
    println!("{KILLS} kills: {}; looks at source and target: {looks:?}", ledger.summary());
    assert!(looks.iter().all(|looks| *looks > 5), "{looks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_the_calls_in_progress() {
    let pair = Pair::fresh(SOURCE_SCHEMA, TARGET_SCHEMA).await;
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let ledger = Arc::new(Ledger::default());
    let load = Load::statements(&ledger, &[segue.sql_address()]);
    load.acknowledged(200).await;
    assert!(segue.terminate().await, "{}", segue.logs());
    load.stop().await;
    let (_, unknown, _) = ledger.totals();
    assert_eq!(unknown, 0, "a call in progress was not finished: {:#?}", ledger.doubts());
    segue.serve().await;
    agree(&ledger, &pair).await;
}
