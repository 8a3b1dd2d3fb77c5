//! Trials with all reads on the target: the sums that traps read there are right whatever comes, and
//! nothing but a cause changes the percentage.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::direct::{SLOW, stay_open};
use crate::ledger::Load;
use crate::support::eventually;
use crate::traps::Traps;
use crate::trial::{LIMIT, done, printed, until};
use crate::world::{LEASE, World};

pub const ROUTING: &str = "[read_routing]\ntarget_percentage = 100\nescalation_schedule = []\n\
    [read_routing.rollback_trigger]\nlatency_p99_threshold = \"30s\"\n\
    outbox_age_threshold = \"10m\"\n";
const RESTARTS: usize = 3;
/// Writes that show that callers go on.
const WRITES: u64 = 30;
/// A change of the percentage, with the start of the command, on a loaded machine. Beside old
/// snapshots that held up the control row it used to fail.
const CHANGE_MAX: Duration = Duration::from_secs(4);
/// What segue promises beyond the longer one of its leases, and a loaded machine besides.
const OUTAGE_MAX: Duration = Duration::from_secs(LEASE.as_secs() + 2 + 3);
const STOPPED_TIME: Duration = Duration::from_secs(LEASE.as_secs() + 4);

/// All reads are on the target.
pub struct Shifted {
    /// Writes of the program on the target that were taken before.
    drifted: i64,
}

fn settled(now: &Value, phase: &str) -> bool {
    now["phase"] == phase
        && now["fleet"]["settled_at"].is_string()
        && now["fleet"]["settled"] == true
}

// === impl Shifted ===

impl Shifted {
    /// Goes on to `shift`, with programs writing past segue on both sides.
    pub async fn begin(world: &World, traps: &Traps) -> Self {
        let segue = &world.sidecars[0];
        let advance = ["phase", "advance", "--to", "shift", "--force", "--reason", "a soak"];
        eventually("the phase is shift", LIMIT, || async {
            let now = printed(segue, &["status", "--json"])?;
            if now["phase"] != "shift" {
                segue.run(&advance);
            }
            settled(&now, "shift").then_some(())
        })
        .await;
        done(segue, &["phase", "percentage", "100", "--reason", "a soak"]).await;
        until(segue, "all reads are shifted", |now| {
            now["fleet"]["target_percentage"] == 100.0 && settled(now, "shift")
        })
        .await;
        let shifted = Self { drifted: traps.drifted() };
        traps.target_answers().await;
        shifted
    }

    /// Nobody has written on the target past segue; back to where reads are not shifted.
    pub async fn end(self, world: &World, traps: &Traps) {
        assert_eq!(traps.drifted(), self.drifted, "a program wrote on the target in `shift`");
        let segue = &world.sidecars[0];
        eventually("the phase is shadow_read", LIMIT, || async {
            let now = printed(segue, &["status", "--json"])?;
            if now["phase"] == "shift" {
                segue.run(&["phase", "back", "--reason", "a soak"]);
            }
            settled(&now, "shadow_read").then_some(())
        })
        .await;
    }
}

/// The source is shut down in order and started again, under load: no percentage changes.
pub async fn restart(world: &World, traps: &Traps, load: &Load) {
    let segue = &world.sidecars[0];
    let changes = || {
        let all = printed(segue, &["history", "--json"]).unwrap_or_default();
        let all = all.as_array().cloned().unwrap_or_default();
        // Reads that wait until the target is a state of the primary again keep their share.
        let changed = |it: &Value| it["kind"] == "percentage" && it["to_percentage"] != 100.0;
        all.into_iter().filter(changed).collect::<Vec<_>>()
    };
    let before = changes();
    for _ in 0..RESTARTS {
        world.source.server.stop_fast();
        world.source.server.restart();
        load.acknowledged(WRITES).await;
    }
    traps.target_answers().await;
    assert_eq!(changes(), before, "a clean restart has changed the percentage");
    until(segue, "all reads are shifted still", |now| now["fleet"]["target_percentage"] == 100.0)
        .await;
}

/// The percentage is changed beside transactions of old snapshots: soon, and without an error there.
pub async fn control(world: &World) {
    const WRITERS: usize = 8;
    const EACH: usize = 10;
    let mut open = JoinSet::new();
    for number in SLOW..SLOW + WRITERS {
        let client = world.pair.source.client().await;
        open.spawn(async move {
            for _ in 0..EACH {
                let ended = match stay_open(&client, number).await {
                    Ok(()) => client.batch_execute("COMMIT").await,
                    failed => failed,
                };
                // SERIALIZABLE ones depend on each other, too.
                if number % 2 == 0 {
                    ended?;
                } else if ended.is_err() {
                    client.batch_execute("ROLLBACK").await?;
                }
            }
            Ok::<_, tokio_postgres::Error>(())
        });
    }
    let segue = &world.sidecars[1];
    for _ in 0..2 {
        let begun = Instant::now();
        done(segue, &["phase", "percentage", "0", "--reason", "beside old snapshots"]).await;
        let took = begun.elapsed();
        assert!(took < CHANGE_MAX, "the reads were put back after {took:?}");
        // Refused while a key of before waits.
        done(segue, &["phase", "percentage", "100", "--reason", "beside old snapshots"]).await;
    }
    while let Some(ended) = open.join_next().await {
        ended.unwrap().expect("a change of the percentage fails no open transaction");
    }
}

/// Whoever leads is stopped within a rehearsed cutover: writes go on at the other, soon.
pub async fn stop_the_coordinator(world: &World, load: &Load, round: i64) {
    let leads = |at: &usize| {
        let port = world.sidecars[*at].admin_address();
        let port = port.rsplit(':').next().unwrap().to_owned();
        let now = printed(&world.sidecars[0], &["status", "--json"]).unwrap_or_default();
        let members = now["fleet"]["members"].as_array().cloned().unwrap_or_default();
        members.iter().any(|it| {
            it["is_leader"] == true && it["address"].as_str().is_some_and(|it| it.ends_with(&port))
        })
    };
    let leader =
        eventually("a sidecar leads", LIMIT, || async { (0..world.sidecars.len()).find(leads) })
            .await;
    let coordinator = &world.sidecars[leader];
    let rehearse = ["cutover", "--rehearse", "--yes", "--force", "--reason", "a soak"];
    let command = coordinator.running(&rehearse);
    eventually("the rehearsal has begun, or is over", LIMIT, || async {
        let announced = "SELECT count(*) FROM segue.pause";
        let begun = world.pair.source.rows(announced).await != ["0"];
        (begun || !command.runs()).then_some(())
    })
    .await;
    // Wherever it is by then.
    tokio::time::sleep(Duration::from_millis(round.unsigned_abs() * 97 % 400)).await;
    let still = command.runs();
    coordinator.signal("STOP");
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < STOPPED_TIME {
        let since = Instant::now();
        load.acknowledged(1).await;
        longest = longest.max(since.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    coordinator.signal("CONT");
    println!("stopped within the rehearsal: {still}; longest time without a write: {longest:?}");
    assert!(longest < OUTAGE_MAX, "no write for {longest:?}: {}", command.output());
    eventually("the rehearsal is over", LIMIT, || async { (!command.runs()).then_some(()) }).await;
    load.acknowledged(WRITES).await;
}
