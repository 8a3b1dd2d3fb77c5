//! While the world moves: what writes on their way explain is never called a difference.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use segue::domain::verify::Discrepancy;
use segue::ports::reconcile::OutboxWork;
use segue::postgres::verify::{Between, Params};

use crate::support::{Pair, Segue, eventually};
use crate::world;

const SOURCE: &str = "CREATE TABLE item (id int PRIMARY KEY, v int, note text, at timestamptz(6)); \
    INSERT INTO item SELECT n, n, 'cold', '2024-01-01 00:00:00.5+00' FROM generate_series(1000, 21000) AS n";
const TARGET: &str = "CREATE TABLE item (id bigint PRIMARY KEY, v bigint, note varchar, at timestamptz(3)); \
    INSERT INTO item SELECT n, n, 'cold', '2024-01-01 00:00:00.5+00' FROM generate_series(1000, 21000) AS n";

/// Inserts, updates, deletes and inserts again, on a few hot keys.
async fn write(pair: &Pair, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let client = pair.source.client().await;
    while !stop.load(Ordering::Relaxed) {
        let (key, value) = (rand::random_range(1..300), rand::random_range(0..1_000_000));
        let sql = match value % 4 {
            0 => format!("DELETE FROM item WHERE id = {key}"),
            1 => format!("UPDATE item SET v = {value}, at = clock_timestamp() WHERE id = {key}"),
            2 => format!("UPDATE item SET note = 'n' || v WHERE id BETWEEN {key} AND {key} + 5"),
            _ => format!(
                "INSERT INTO item VALUES ({key}, {value}, NULL, clock_timestamp()) \
                 ON CONFLICT (id) DO UPDATE SET v = excluded.v"
            ),
        };
        client.batch_execute(&sql).await.unwrap();
        written.fetch_add(1, Ordering::Relaxed);
        // Not all that the machine can do: the other tests want some of it.
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..20))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reported_under_load_but_what_is_wrong() {
    let pair = Arc::new(Pair::fresh(SOURCE, TARGET).await);
    let mut segue = Segue::serving(&pair, "dual_write", "").await;
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (pair, stop, written) =
                (Arc::clone(&pair), Arc::clone(&stop), Arc::clone(&written));
            tokio::spawn(async move { write(&pair, stop, written).await })
        })
        .collect();
    let params =
        || Params { chunk_rows: 500, pending_max: Duration::from_secs(120), ..Params::default() };
    let verifier = world::verifier(&pair, params());
    let mut read = 0;
    for _ in 0..3 {
        // Each round has its share of writes, however slow the machine is.
        let before = written.load(Ordering::Relaxed);
        eventually("the load goes on", Duration::from_secs(60), || async {
            (written.load(Ordering::Relaxed) > before + 50).then_some(())
        })
        .await;
        let all = world::verify(&verifier).await;
        let chunks = all.values().flatten();
        read += chunks.clone().map(|done| done.rows_read).sum::<u64>();
        let findings: Vec<_> = chunks.flat_map(|done| &done.findings).collect();
        assert!(findings.is_empty(), "{findings:?}");
    }
    assert!(read > 0, "no write ever crossed a sum: the load proves nothing");
    // A difference that no write explains is seen through the load.
    pair.target.run_as_copy("UPDATE item SET note = 'spoilt' WHERE id = 12345").await;
    assert_eq!(world::found(&verifier).await, ["public.item 12345 different note"]);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let repairing = world::verifier(&pair, Params { repair: true, ..params() });
    let repaired = world::verify(&repairing).await;
    assert!(repaired.values().flatten().all(segue::postgres::verify::chunk::ChunkDone::is_equal));
    assert_eq!(world::found(&verifier).await, Vec::<String>::new());
    let sql = "SELECT id, v, note, extract(epoch FROM at::timestamptz(3)) FROM item ORDER BY id";
    assert_eq!(pair.source.rows(sql).await, pair.target.rows(sql).await);
    segue.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_waits_is_pending_and_equal_once_it_is_reconciled() {
    let tables = &[("public.item", "public.item", "{id}")];
    let pair = world::pair(SOURCE, TARGET, tables).await;
    pair.source.run(&format!("UPDATE item SET v = 0 WHERE id = 5000; {}", note("'{5000}'"))).await;
    // Nobody captured this one.
    pair.source.run("UPDATE item SET v = 0 WHERE id = 6000").await;
    let verifier = world::verifier(&pair, world::params());
    let found = world::found(&verifier).await;
    assert_eq!(found, ["public.item 5000 pending", "public.item 6000 different v"]);
    world::worker(&pair).work().await.unwrap();
    assert_eq!(world::found(&verifier).await, ["public.item 6000 different v"]);
    // After TRUNCATE one row of the outbox stands for all.
    pair.source.run(&note("NULL")).await;
    assert_eq!(world::found(&verifier).await, ["public.item 6000 pending"]);
    // A row that keeps failing says why.
    pair.source
        .run(
            "UPDATE segue.outbox SET attempts = 9, last_error = 'poison', \
             next_attempt_at = 'infinity' WHERE forgotten_at IS NULL",
        )
        .await;
    let all = world::verify(&verifier).await;
    let findings: Vec<_> = all.values().flatten().flat_map(|done| &done.findings).collect();
    let expected = Discrepancy::Pending { attempts: 9, last_error: "poison".to_owned() };
    assert_eq!(findings.iter().map(|it| &it.what).collect::<Vec<_>>(), [&expected]);
}

/// What a run under load meets once in a while, made sure of: between the two sides' readings a
/// row is written, reconciled and forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_comes_and_goes_between_two_readings_is_no_difference() {
    let tables = &[("public.item", "public.item", "{id}")];
    let pair = Arc::new(world::pair(SOURCE, TARGET, tables).await);
    // The reason to read the rows beside it.
    pair.target.run("UPDATE item SET note = 'spoilt' WHERE id = 5001").await;
    let written = Arc::new(AtomicU64::new(0));
    let (pair_there, count) = (Arc::clone(&pair), Arc::clone(&written));
    let between = Between::new(move || {
        let (pair, count) = (Arc::clone(&pair_there), Arc::clone(&count));
        Box::pin(async move {
            count.fetch_add(1, Ordering::Relaxed);
            pair.source
                .run(&format!("UPDATE item SET v = v + 1 WHERE id = 5000; {}", note("'{5000}'")))
                .await;
            world::drain(&world::worker(&pair)).await;
        })
    });
    let patient = Duration::from_secs(120);
    let params = Params { between, workers: 1, pending_max: patient, ..Params::default() };
    let all = world::verify(&world::verifier(&pair, params)).await;
    let findings: Vec<String> =
        all.values().flatten().flat_map(|done| &done.findings).map(world::told).collect();
    assert_eq!(findings, ["5001 different note"]);
    assert_eq!(all.values().flatten().map(|done| done.moving).sum::<u64>(), 1);
    assert!(written.load(Ordering::Relaxed) > 2);
    let sql = "SELECT v FROM item WHERE id = 5000";
    assert_eq!(pair.source.rows(sql).await, pair.target.rows(sql).await);
}

/// Captures a key by hand.
fn note(key: &str) -> String {
    format!(
        "INSERT INTO segue.outbox (slot, table_id, key) VALUES \
         ((floor(extract(epoch FROM clock_timestamp()) / 600)::int8 % 12)::int2, 1, {key})"
    )
}
