//! A trial of the limits: what waits passes `outbox.max_bytes`, and rows pass `limits.memory`.

use std::time::{Duration, Instant};

use crate::ledger::Load;
use crate::support::Segue;
use crate::trial::until;
use crate::world::World;

pub const TABLES: &str = "
CREATE TABLE bulk (id int PRIMARY KEY, v int NOT NULL);
INSERT INTO bulk SELECT i, 0 FROM generate_series(1, 20000) AS i;
CREATE TABLE wide (id int PRIMARY KEY, body text NOT NULL);";
/// Eight that go together, and one that is larger than the memory for all.
const WIDE: &str = "INSERT INTO wide
    SELECT i, repeat(md5(random()::text), 32768 * CASE i WHEN 1 THEN 30 ELSE 4 END)
    FROM generate_series(1, 9) AS i ON CONFLICT (id) DO UPDATE SET body = excluded.body";
/// Of a sidecar: three times the largest row, and what it takes beside.
const MEMORY_MAX_KB: u64 = (3 * 30 + 100) << 10;

/// As what callers need has nothing to do with the target; on a loaded machine.
const START_MAX: Duration = Duration::from_secs(10);
/// Writes that show that callers go on.
const WRITES: u64 = 30;

/// A sidecar starts and one statement changes all rows of a table while the target says nothing;
/// callers do not notice, and the table is tracked by ranges. Then come wide rows.
pub async fn begin(world: &mut World, load: &Load) {
    world.target.proxy.pause();
    world.sidecars[0].kill();
    let begun = Instant::now();
    world.sidecars[0].serve().await;
    let took = begun.elapsed();
    assert!(took < START_MAX, "a target that is frozen delayed the start: {took:?}");
    load.acknowledged(WRITES).await;
    world.pair.source.run("UPDATE bulk SET v = v + 1").await;
    until(&world.sidecars[0], "a table of many keys is tracked by ranges", |now| {
        let folded = now["outbox"]["folded"].as_array();
        folded.is_some_and(|all| all.iter().any(|it| it["table"] == "public.bulk"))
    })
    .await;
    load.acknowledged(WRITES).await;
    world.target.proxy.resume();
    world.pair.source.run(WIDE).await;
}

/// It is followed key by key again, in the same phase. That rows are equal is seen when all is still.
pub async fn end(world: &World) {
    until(&world.sidecars[0], "every table is followed key by key", |now| {
        now["outbox"]["folded"].as_array().is_some_and(Vec::is_empty)
            && now["phase"] == "shadow_read"
    })
    .await;
    let peaks: Vec<_> = world.sidecars.iter().map(Segue::memory_peak_kb).collect();
    println!("wide rows took {peaks:?} kB at most");
    assert!(peaks.iter().all(|peak| *peak < MEMORY_MAX_KB), "{peaks:?} kB");
    let gaps = "SELECT capture_gaps FROM segue.outbox_state";
    assert_eq!(world.pair.source.rows(gaps).await, ["0"], "the copy was given up");
}
