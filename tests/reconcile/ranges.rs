//! Keys past the limit are folded into ranges of their table's key, and these are copied again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use segue::failpoint::{FailPoint, FailPoints};
use segue::ports::reconcile::{OutboxWork, Upkeep};
use segue::postgres::outbox::upkeep::{OutboxUpkeep, UpkeepParams};
use segue::postgres::reconcile::Params;
use segue::postgres::reconcile::batch::BatchParams;

use crate::support::Pair;
use crate::world::{self, Way, drain, waiting};

const LIMIT: u64 = 1 << 20;
/// Rows of a table that is cut into ranges.
const ROWS: u32 = 40_000;

fn upkeep(way: &Way, bytes_max: u64) -> OutboxUpkeep {
    let params = UpkeepParams {
        window: Duration::from_secs(3600),
        lock_wait: Duration::from_millis(200),
        bytes_max,
        idempotency_kept: Duration::from_secs(24 * 3600),
        rows_max: 10_000,
    };
    OutboxUpkeep::new(way.outbox(), params)
}

/// Both sides have the same parents, and nothing waits.
async fn filled() -> (Pair, Way) {
    let pair = world::pair().await;
    let way = Way::forth(&pair);
    for (side, schema) in [(&pair.source, "app"), (&pair.target, "moved")] {
        side.run_as_copy(&format!(
            "ALTER TABLE {schema}.parent DISABLE TRIGGER USER; \
             INSERT INTO {schema}.parent SELECT n, 'p' || n FROM generate_series(1, {ROWS}) AS n; \
             ALTER TABLE {schema}.parent ENABLE TRIGGER USER"
        ))
        .await;
    }
    world::assert_equal(&pair).await;
    (pair, way)
}

async fn one(pair: &Pair, sql: &str) -> String {
    pair.source.rows(sql).await.concat()
}

/// Between two looks of a member that found nothing due.
const PAUSE: Duration = Duration::from_millis(10);

const NOTES: &str = "SELECT count(*) FROM segue.outbox WHERE key IS NULL AND forgotten_at IS NULL";
const UNNOTICED: &str = "ALTER TABLE moved.parent DISABLE TRIGGER USER; \
    UPDATE moved.parent SET name = 'unnoticed ' || id WHERE id IN (5, 39000); \
    DELETE FROM moved.parent WHERE id = 9; \
    INSERT INTO moved.parent VALUES (70000, 'unnoticed'); \
    ALTER TABLE moved.parent ENABLE TRIGGER USER";

/// A batch job writes in one part of a table: the others are not gone through for it.
#[tokio::test]
async fn only_the_ranges_that_were_written_are_copied_again() {
    let (pair, way) = filled().await;
    pair.source
        .run(
            "UPDATE app.parent SET name = 'new ' || id WHERE id BETWEEN 1 AND 15000; \
             DELETE FROM app.parent WHERE id BETWEEN 7000 AND 8000",
        )
        .await;
    // What nobody noted differs: the pass shows where it has been.
    pair.target.run_as_copy(UNNOTICED).await;
    let size = upkeep(&way, LIMIT).check_size().await.unwrap();
    assert_eq!(size.folded, 16_001);
    assert!(size.pending_bytes < LIMIT / 10, "{size:?}");
    let folded = way.outbox().status().await.unwrap().folded.remove(0);
    assert!(folded.ranges_of > 20, "{folded:?}");
    assert!(folded.ranges > 0 && folded.ranges * 2 < folded.ranges_of, "{folded:?}");
    assert!(folded.rows_left() < 20_000, "{folded:?}");
    let told = one(&pair, "SELECT reason FROM segue.history").await;
    assert!(told.starts_with("app.parent is pending as ranges of its key: "), "{told}");
    let listed = way.outbox().list(&world::first(1000), false).await.unwrap().items;
    let listed = listed.iter().map(|entry| entry.key.values.clone().unwrap()[0].clone());
    assert!(listed.clone().all(|key| key.starts_with('(')), "{:?}", listed.collect::<Vec<_>>());
    drain(&way.worker()).await;
    assert_eq!(waiting(&pair.source).await, [""; 0]);
    let differ = "SELECT id FROM moved.parent WHERE name LIKE 'unnoticed%' ORDER BY 1";
    assert_eq!(pair.target.rows(differ).await, ["39000", "70000"]);
    pair.target
        .run_as_copy(
            "ALTER TABLE moved.parent DISABLE TRIGGER USER; \
             DELETE FROM moved.parent WHERE id = 70000; \
             UPDATE moved.parent SET name = 'p39000' WHERE id = 39000",
        )
        .await;
    world::assert_equal(&pair).await;
    assert_eq!(one(&pair, "SELECT count(*) FROM segue.pending_table").await, "0");
    assert_eq!(one(&pair, "SELECT count(*) FROM segue.key_range").await, "0");
}

/// What stands for ranges is bounded as well: past the limit it gives way to the whole table.
#[tokio::test]
async fn ranges_past_the_limit_give_way_to_the_whole_table() {
    let (pair, way) = filled().await;
    pair.source.run("UPDATE app.parent SET name = 'new ' || id").await;
    pair.target.run_as_copy(UNNOTICED).await;
    let limit = 2000;
    let size = upkeep(&way, limit).check_size().await.unwrap();
    assert!(size.pending_bytes < limit, "{size:?}");
    assert_eq!(one(&pair, NOTES).await, "1");
    let folded = way.outbox().status().await.unwrap().folded.remove(0);
    assert_eq!(folded.ranges, 0, "{folded:?}");
    let told = one(&pair, "SELECT reason FROM segue.history ORDER BY at DESC LIMIT 1").await;
    assert!(told.starts_with("app.parent is pending as a whole table: "), "{told}");
    // More keys go to the row of the whole table.
    pair.source.run("UPDATE app.parent SET name = 'newer ' || id").await;
    upkeep(&way, limit).check_size().await.unwrap();
    let notes: u32 = one(&pair, NOTES).await.parse().unwrap();
    assert!(notes <= 3, "{notes}");
    drain(&way.worker()).await;
    assert_eq!(waiting(&pair.source).await, [""; 0]);
    world::assert_equal(&pair).await;
}

/// The key was changed since it was cut: its ranges mean nothing any more.
#[tokio::test]
async fn ranges_of_another_key_are_taken_for_the_whole_table() {
    let (pair, way) = filled().await;
    pair.source.run("UPDATE app.parent SET name = 'new ' || id WHERE id <= 15000").await;
    upkeep(&way, LIMIT).check_size().await.unwrap();
    pair.target.run_as_copy(UNNOTICED).await;
    pair.source.run("UPDATE segue.key_range SET key_form = '{\"\\\"id\\\" text\"}'").await;
    drain(&way.worker()).await;
    assert_eq!(waiting(&pair.source).await, [""; 0]);
    world::assert_equal(&pair).await;
}

/// Keys that are no values of the key's type stand in nobody's way.
#[tokio::test]
async fn keys_that_are_no_values_of_the_key_are_folded_into_the_whole_table() {
    let (pair, way) = filled().await;
    pair.source.run("UPDATE app.parent SET name = 'new ' || id WHERE id <= 15000").await;
    pair.source.run("SELECT segue.test_note(1, '{x}'), segue.test_note(1, '{1,2}')").await;
    pair.target.run_as_copy(UNNOTICED).await;
    let size = upkeep(&way, LIMIT).check_size().await.unwrap();
    assert_eq!(size.folded, 15_002);
    drain(&way.worker()).await;
    assert_eq!(waiting(&pair.source).await, [""; 0]);
    world::assert_equal(&pair).await;
}

/// Texts in any collation, and a key of two columns.
#[tokio::test]
async fn a_key_of_texts_and_of_two_columns_is_folded_and_equal_in_the_end() {
    let pair = world::pair().await;
    let way = Way::forth(&pair);
    let rows = "INSERT INTO app.pair SELECT \
        (ARRAY['a', 'B', 'ä', 'Z', 'z z', '_', '𝒳', ''])[n % 8 + 1] || n % 900, gen_random_uuid(), n \
        FROM generate_series(1, 30000) AS n";
    pair.source.run(rows).await;
    drain(&way.worker()).await;
    pair.source.run("UPDATE app.pair SET v = v + 1; DELETE FROM app.pair WHERE v % 5 = 0").await;
    pair.source.run(&rows.replace("30000", "5000")).await;
    upkeep(&way, LIMIT).check_size().await.unwrap();
    assert!(waiting(&pair.source).await.len() < 1000);
    drain(&way.worker()).await;
    assert_eq!(waiting(&pair.source).await, [""; 0]);
    world::assert_equal(&pair).await;
}

/// Writes go on while keys are folded again and again and two members go through the ranges, a page
/// a turn, and are lost at every place of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ranges_converge_under_writes_folds_and_crashes() {
    let (pair, way) = filled().await;
    let limit = 300_000;
    let places = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&places);
    let failpoints = FailPoints::losing_where(move |place| {
        let passed = FailPoint::OF_A_BATCH.contains(&place);
        passed && counted.fetch_add(1, Ordering::SeqCst) % 37 == 36
    });
    let batch = BatchParams { whole_table_max: Duration::ZERO, ..world::batch() };
    let working: Vec<_> = (0..2)
        .map(|_| {
            let params = Params { failpoints: failpoints.clone(), ..world::params() };
            let worker = way.worker_with(params, batch);
            tokio::spawn(async move {
                loop {
                    // Lost or not, the next batch follows; where nothing is due, a little later.
                    let idle = worker.work().await.is_ok_and(|done| !done.more);
                    let pause = if idle { PAUSE } else { Duration::ZERO };
                    tokio::time::sleep(pause).await;
                }
            })
        })
        .collect();
    let mut folded = 0;
    for round in 1..=12 {
        let (from, to) = (round * 3000 - 2000, round * 3000 + 3000);
        pair.source
            .run(&format!(
                "UPDATE app.parent SET name = name || '.{round}' WHERE id BETWEEN {from} AND {to}; \
                 DELETE FROM app.parent WHERE id BETWEEN {from} AND {from} + 300; \
                 INSERT INTO app.parent SELECT n, 'again {round} ' || n \
                     FROM generate_series({from}, {from} + 150) AS n; \
                 UPDATE app.parent SET id = id + 100000 WHERE id BETWEEN {to} - 20 AND {to}"
            ))
            .await;
        folded += upkeep(&way, limit).check_size().await.unwrap().folded;
    }
    for member in working {
        member.abort();
        assert!(member.await.unwrap_err().is_cancelled());
    }
    assert!(folded > 10_000, "{folded}");
    assert!(places.load(Ordering::SeqCst) > 37, "nobody was lost");
    drain(&way.worker()).await;
    pair.source
        .run("UPDATE segue.outbox SET next_attempt_at = now() WHERE forgotten_at IS NULL")
        .await;
    drain(&way.worker()).await;
    assert_eq!(waiting(&pair.source).await, [""; 0]);
    world::assert_equal(&pair).await;
}
