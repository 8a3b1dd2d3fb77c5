//! The process itself ends at each place of which the design says 'if we crash here'.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use segue::failpoint::FailPoint;

use crate::World;
use crate::ledger::{Auditor, Ledger, Load, Mix, agree};
use crate::support::{Segue, seed};

const SIGABRT: i32 = 6;
/// At which time of its being passed a place is crashed at.
const TIMES: std::ops::Range<u32> = 1..30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_lost_at_any_crash_point_loses_nothing() {
    let seed = seed("crash points");
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::start().await;
    let mut segue = Segue::prepare(world.pair.source.dsn(), world.pair.target.dsn(), "");
    segue.init_in("shadow_read").await;
    let ledger = Arc::new(Ledger::default());
    let auditor = Auditor::start(&ledger, &world.pair);
    let places = FailPoint::OF_A_WRITE.iter().chain(FailPoint::OF_A_BATCH);
    for (place, generation) in places.zip(0..) {
        let crash = format!("{place}:{}", dice.random_range(TIMES));
        segue.spawn_with(&[("SEGUE_CRASH_AT", &crash)]);
        let mix = (Mix::Everything, seed, generation);
        let load = Load::start(&ledger, &[segue.sql_address()], 6, mix);
        let status = segue.ended().await;
        assert_eq!(status.signal(), Some(SIGABRT), "{crash}: {status}");
        let logs = segue.logs();
        let last = logs.lines().rfind(|line| line.contains("the crash that a test asked for"));
        assert!(last.is_some_and(|line| line.contains(place.name())), "{crash}: {last:?}");
        // What was lost here must be missed before later writes can make up for it.
        segue.serve().await;
        load.stop().await;
        agree(&ledger, &world.pair).await;
        segue.kill();
    }
    let looks = auditor.stop().await;
    println!("{}; looks at source and target: {looks:?}", ledger.summary());
}
