//! What is proven of each chunk, what was written since, and when that is void.

use std::time::Duration;

use segue::domain::key_range::KeyRange;
use segue::postgres::verify::{Params, Table, Verifier};

use crate::support::{Pair, Segue, eventually};
use crate::world;

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, v int); \
    INSERT INTO item SELECT n, n FROM generate_series(1, 1000) AS n";

/// Transactions of other tests on the same server last less long.
const OTHERS_END: Duration = Duration::from_secs(60);

async fn table(verifier: &Verifier) -> Table {
    let tables = verifier.tables().await.unwrap();
    let found = tables.into_iter().find(|(name, _)| name.name == "item");
    found.unwrap().1.unwrap()
}

/// Verifies every chunk and notes what came of it.
async fn prove(verifier: &Verifier, table: &Table) {
    let ranges = verifier.cut(table).await.unwrap();
    verifier.set_chunks(table, &ranges).await.unwrap();
    for (chunk, range) in (0..).zip(ranges) {
        let standing = verifier.standing().await.unwrap();
        let done = verifier.one_chunk(table, range).await.unwrap();
        verifier.note(table, chunk, &done, &standing).await.unwrap();
    }
}

/// Proves until nothing is open. A snapshot's horizon is the whole server's: while some other
/// test's transaction is open, rows of before count as perhaps not seen.
async fn prove_all(verifier: &Verifier, table: &Table) {
    eventually("all chunks to be proven", OTHERS_END, || async {
        prove(verifier, table).await;
        open(verifier, table).await.is_empty().then_some(())
    })
    .await;
}

/// The last keys of the chunks that are open; `…` for the last chunk's.
async fn open(verifier: &Verifier, table: &Table) -> Vec<String> {
    let ranges = verifier.open_ranges(table).await.unwrap();
    let end = |key: Option<Vec<String>>| key.map_or("…".to_owned(), |key| key.join(","));
    ranges.into_iter().map(|range| end(range.until)).collect()
}

async fn set_up() -> (Pair, Segue, Verifier) {
    let pair = Pair::fresh(TABLE, TABLE).await;
    let segue = Segue::prepare(pair.source.dsn(), pair.target.dsn(), "");
    segue.init_in("dual_write").await;
    let params = Params { chunk_rows: 250, ..world::params() };
    let verifier = world::verifier(&pair, params);
    (pair, segue, verifier)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_since_the_proof_is_open_and_nothing_else() {
    let (pair, _segue, verifier) = set_up().await;
    let item = table(&verifier).await;
    assert_eq!(open(&verifier, &item).await, ["…"], "nothing was ever proven");
    prove_all(&verifier, &item).await;

    // A transaction that was open all through the proof, and commits after it.
    let writer = pair.source.client().await;
    writer.batch_execute("BEGIN; UPDATE item SET v = 0 WHERE id = 300").await.unwrap();
    prove_all(&verifier, &item).await;
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(open(&verifier, &item).await, ["500"]);
    // Reconciled and forgotten, it is written since all the same.
    world::drain(&world::worker(&pair)).await;
    pair.source.run("UPDATE item SET v = 1 WHERE id IN (250, 251)").await;
    world::drain(&world::worker(&pair)).await;
    assert_eq!(open(&verifier, &item).await, ["250", "500"]);
    prove_all(&verifier, &item).await;

    // What differs is not proven.
    pair.target.run_as_copy("UPDATE item SET v = -1 WHERE id = 900").await;
    prove(&verifier, &item).await;
    assert_eq!(open(&verifier, &item).await, ["1000"]);
    pair.source.run("TRUNCATE item").await;
    assert_eq!(open(&verifier, &item).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn proofs_are_void_when_a_server_is_another_or_the_outbox_was_emptied_unseen() {
    let (pair, _segue, verifier) = set_up().await;
    let item = table(&verifier).await;
    prove_all(&verifier, &item).await;
    // As the upkeep notes it when it empties a part of the ring.
    pair.source.run("UPDATE segue.outbox_state SET removed_until = clock_timestamp()").await;
    assert_eq!(open(&verifier, &item).await.len(), 5);
    prove_all(&verifier, &item).await;
    pair.source.run("UPDATE segue.outbox_state SET capture_gaps = capture_gaps + 1").await;
    assert_eq!(open(&verifier, &item).await.len(), 5);
    prove(&verifier, &item).await;
    // As if the target had been restarted since.
    pair.source.run("UPDATE segue.verify SET target_server = 'another' WHERE chunk = 2").await;
    assert_eq!(open(&verifier, &item).await, ["750"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_the_proven_share_and_a_run_of_verify_proves() {
    let (pair, mut segue, _) = set_up().await;
    segue.serve().await;
    let never = segue.succeed(&["status"]);
    assert!(never.contains("verified  never"), "{never}");
    segue.succeed(&["verify", "--table", "item", "--chunk-rows", "250"]);
    let all = segue.succeed(&["status"]);
    assert!(
        all.contains("100.0 % of 5 chunks proven when last looked at; the oldest proof"),
        "{all}"
    );
    pair.source.run("UPDATE item SET v = 7 WHERE id = 1").await;
    segue.succeed(&["verify", "--table", "item", "--chunk-rows", "250"]);
    let again = segue.succeed(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(status["verify"]["chunks"], 5);
}

/// Of a chunk that was read while the primary changed nothing is noted: the shadow was ahead.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_noted_by_whom_the_primary_has_left() {
    let (pair, _segue, verifier) = set_up().await;
    let item = table(&verifier).await;
    prove(&verifier, &item).await;
    let standing = verifier.standing().await.unwrap();
    // The flip, and a caller's write on the new primary.
    pair.source.run("UPDATE segue.control SET phase = 'reversed', epoch = epoch + 1").await;
    pair.target.run("UPDATE item SET v = -1 WHERE id = 1").await;
    let range = verifier.cut(&item).await.unwrap().remove(0);
    let done = verifier.one_chunk(&item, range).await.unwrap();
    assert!(done.differs(), "it looks like a difference from here");
    assert!(!verifier.note(&item, 0, &done, &standing).await.unwrap());
    assert_eq!(pair.source.rows("SELECT FROM segue.verify WHERE differs").await.len(), 0);
}

/// A command beside the sweep.
#[tokio::test(flavor = "multi_thread")]
async fn two_who_cut_a_table_at_once_leave_the_chunks_of_one() {
    let (pair, _segue, coarse) = set_up().await;
    let fine = world::verifier(&pair, Params { chunk_rows: 20, ..world::params() });
    let item = table(&coarse).await;
    let (few, many) = (coarse.cut(&item).await.unwrap(), fine.cut(&item).await.unwrap());
    assert!(few.len() < many.len());
    let count = "SELECT count(*) FROM segue.verify";
    for _ in 0..20 {
        let (one, other) =
            tokio::join!(coarse.set_chunks(&item, &few), fine.set_chunks(&item, &many));
        one.unwrap();
        other.unwrap();
        let left: usize = pair.source.rows(count).await.remove(0).parse().unwrap();
        assert!([few.len(), many.len()].contains(&left), "{left} chunks");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_is_not_noted_for_another_chunk_of_the_same_number() {
    let (_pair, _segue, coarse) = set_up().await;
    let item = table(&coarse).await;
    let ranges = coarse.cut(&item).await.unwrap();
    coarse.set_chunks(&item, &ranges).await.unwrap();
    let standing = coarse.standing().await.unwrap();
    let first = coarse.one_chunk(&item, ranges[0].clone()).await.unwrap();
    // Meanwhile somebody cuts the table anew, and its first chunk is all of it.
    coarse.set_chunks(&item, &[KeyRange::all()]).await.unwrap();
    assert!(!coarse.note(&item, 0, &first, &standing).await.unwrap());
    assert_eq!(open(&coarse, &item).await, ["…"], "a quarter of the rows was read");
    coarse.set_chunks(&item, &ranges).await.unwrap();
    assert!(coarse.note(&item, 0, &first, &standing).await.unwrap());
}
