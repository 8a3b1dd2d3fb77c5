//! Under a load that inserts, updates, deletes and inserts again all through the copy.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::support::{self, Pair, Segue, eventually};
use crate::world::{self, ENDS, Load, arguments, assert_equal, backfill, outbox_is_empty};

const ROWS: u32 = 12_000;

async fn settle(pair: &Pair, load: Load) {
    load.stop().await;
    outbox_is_empty(&pair.source).await;
    assert_equal(pair).await;
}

/// Chunks that are done, by the target's claims.
async fn done(pair: &Pair) -> usize {
    let sql = "SELECT count(*) FROM segue.backfill WHERE state = 'done'";
    pair.target.rows(sql).await[0].parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_is_equal_when_the_load_has_stopped() {
    let pair = world::pair(ROWS).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let load = Load::start(pair.source.dsn(), 4, u64::from(ROWS));
    load.more(50).await;
    // Slow enough for writes to fall between each chunk's snapshot and its commit.
    let printed = backfill(&segue, &["--empty-target", "--max-rows-per-s", "10000"]);
    assert!(printed.contains("complete: "), "{printed}");
    load.more(50).await;
    settle(&pair, load).await;
    // A second run has nothing left to do, and does nothing.
    let before = pair.target.rows("SELECT table_id, chunk, generation FROM segue.backfill").await;
    backfill(&segue, &[]);
    let after = pair.target.rows("SELECT table_id, chunk, generation FROM segue.backfill").await;
    assert_eq!(before, after);
    assert!(after.len() > 50, "{} chunks", after.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_and_started_again_it_ends_equal() {
    let mut dice = StdRng::seed_from_u64(support::seed("killed_at_random_moments"));
    let pair = world::pair(ROWS).await;
    let segue = Segue::serving(&pair, "dual_write", "[backfill]\nlease = \"3s\"").await;
    let load = Load::start(pair.source.dsn(), 4, u64::from(ROWS));
    let mut more = vec!["--empty-target"];
    for _ in 0..5 {
        let running = segue.running(&arguments(&more));
        more.clear();
        // The claims are there: the target has been emptied.
        let begun = done(&pair).await;
        eventually("some chunks are done", ENDS, || async {
            (!running.output().is_empty() || done(&pair).await > begun).then_some(())
        })
        .await;
        // At a moment of the seed's, since that is what is to be survived.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..300))).await;
        running.kill();
    }
    let finished = done(&pair).await;
    let kept =
        "SELECT table_id, chunk, generation FROM segue.backfill WHERE state = 'done' ORDER BY 1, 2";
    let before = pair.target.rows(kept).await;
    backfill(&segue, &[]);
    let after = pair.target.rows(kept).await;
    assert_eq!(before.len(), finished);
    assert!(before.iter().all(|chunk| after.contains(chunk)), "no finished chunk is copied again");
    settle(&pair, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_the_chunks() {
    let pair = world::pair(ROWS).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let load = Load::start(pair.source.dsn(), 3, u64::from(ROWS));
    // The first one empties the target; the second comes when there is something to share.
    let slow = ["--empty-target", "--max-rows-per-s", "4000"];
    let first = segue.running(&arguments(&slow));
    eventually("the first has begun", ENDS, || async {
        assert!(first.runs(), "{}", first.output());
        let sql = "SELECT to_regclass('segue.backfill') IS NOT NULL AND EXISTS \
            (SELECT FROM segue.backfill WHERE state = 'claimed')";
        (pair.target.rows(sql).await == ["t"]).then_some(())
    })
    .await;
    let second = segue.running(&arguments(&["--max-rows-per-s", "4000"]));
    for running in [&first, &second] {
        let (code, output) = running.ended(ENDS).await;
        assert_eq!(code, Some(0), "{output}");
    }
    let owners = "SELECT count(DISTINCT owner) FROM segue.backfill WHERE rows > 0";
    assert_eq!(pair.target.rows(owners).await, ["2"]);
    settle(&pair, load).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_checkpoint_file_it_is_killed_and_goes_on_alone() {
    let pair = world::pair(ROWS).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let load = Load::start(pair.source.dsn(), 3, u64::from(ROWS));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json").display().to_string();
    let with_file = ["--checkpoint-file", file.as_str(), "--max-rows-per-s", "20000"];
    let mut more = vec!["--empty-target"];
    for _ in 0..3 {
        let running = segue.running(&arguments(&[&with_file[..], &more].concat()));
        let first = more.pop().is_some();
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        eventually("the file changes", ENDS, || async {
            let now = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(running.runs(), "{}", running.output());
            (now != before && now.contains("\"begun_at\": ")).then_some(())
        })
        .await;
        if first {
            let second = segue.run(&arguments(&with_file));
            let error = String::from_utf8_lossy(&second.stderr).into_owned();
            assert_eq!(second.status.code(), Some(4), "{error}");
            assert!(error.contains("is in use by another backfill"), "{error}");
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..200))).await;
        running.kill();
    }
    backfill(&segue, &with_file);
    assert!(
        pair.target.rows("SELECT FROM segue.backfill").await.is_empty(),
        "nothing on the target"
    );
    settle(&pair, load).await;
}
