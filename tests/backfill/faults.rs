//! Processes that are frozen, servers that are away, connections that are cut.

use crate::support::{Major, Options, Proxy, Segue, Server, eventually};
use crate::world::{self, ENDS, Load, arguments, assert_equal, backfill, outbox_is_empty};

const ROWS: u32 = 8_000;

/// In mid-`COPY` the process is stopped; another one takes its chunks over and ends the copy;
/// then it wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_frozen_in_a_chunk_is_replaced_and_wakes() {
    let pair = world::pair(ROWS).await;
    let segue = Segue::serving(&pair, "dual_write", "[backfill]\nlease = \"3s\"").await;
    let load = Load::start(pair.source.dsn(), 2, u64::from(ROWS));
    let slow = ["--empty-target", "--max-mb-per-s", "1", "--max-rows-per-s", "500"];
    let frozen = segue.running(&arguments(&slow));
    eventually("it is in the middle of a COPY", ENDS, || async {
        assert!(frozen.runs(), "{}", frozen.output());
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'segue-backfill-%' \
            AND query LIKE 'COPY %' AND state = 'active' AND datname = current_database()";
        (pair.target.rows(sql).await != ["0"]).then_some(())
    })
    .await;
    frozen.signal("STOP");
    let held = "SELECT count(*) FROM segue.backfill WHERE state = 'claimed'";
    assert_ne!(pair.target.rows(held).await, ["0"]);
    let output = backfill(&segue, &[]);
    assert!(output.contains("complete: "), "{output}");
    let taken = "SELECT count(*) FROM segue.backfill WHERE attempts > 1";
    assert_ne!(pair.target.rows(taken).await, ["0"], "its chunks were taken over");
    frozen.signal("CONT");
    let (code, output) = frozen.ended(ENDS).await;
    assert_eq!(code, Some(0), "{output}");
    load.stop().await;
    outbox_is_empty(&pair.source).await;
    assert_equal(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_away_for_a_while_is_waited_for() {
    let source = Server::start(Major::V15, &Options::default());
    let target = Server::start(Major::V18, &Options::default());
    let pair = world::pair_within(&source, &target, ROWS).await;
    let segue = Segue::serving(&pair, "dual_write", "").await;
    let load = Load::start(pair.source.dsn(), 2, u64::from(ROWS));
    let running =
        segue.running(&arguments(&["--empty-target", "--max-rows-per-s", "8000", "--json"]));
    for _ in 0..2 {
        let chunks = |text: &str| text.matches("\"event\":\"chunk\"").count();
        let before = chunks(&running.output());
        eventually("more chunks are done", ENDS, || async {
            assert!(running.runs(), "{}", running.output());
            (chunks(&running.output()) > before).then_some(())
        })
        .await;
        let away = running.output().matches("\"event\":\"away\"").count();
        target.stop_immediate();
        eventually("it notices", ENDS, || async {
            (running.output().matches("\"event\":\"away\"").count() > away).then_some(())
        })
        .await;
        target.restart();
    }
    let (code, output) = running.ended(ENDS).await;
    assert_eq!(code, Some(0), "{output}");
    load.stop().await;
    outbox_is_empty(&pair.source).await;
    assert_equal(&pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_in_the_middle_of_a_copy_are_made_anew() {
    let pair = world::pair(ROWS).await;
    let served = Segue::serving(&pair, "dual_write", "").await;
    let load = Load::start(pair.source.dsn(), 2, u64::from(ROWS));
    let port = |dsn: &str| {
        let (_, rest) = dsn.rsplit_once(':').unwrap();
        rest.split('/').next().unwrap().parse::<u16>().unwrap()
    };
    for of_source in [false, true] {
        let database = if of_source { &pair.source } else { &pair.target };
        let (real, proxy) = (port(database.dsn()), Proxy::start(port(database.dsn())));
        let through = database.dsn_with(&format!(":{real}/"), &format!(":{}/", proxy.port()));
        let (source, target) = match of_source {
            true => (through.as_str(), pair.target.dsn()),
            false => (pair.source.dsn(), through.as_str()),
        };
        let segue = Segue::prepare(source, target, "[backfill]\nlease = \"3s\"");
        let running =
            segue.running(&arguments(&["--empty-target", "--max-rows-per-s", "3000", "--json"]));
        let count = |word: &str| running.output().matches(&format!("\"event\":\"{word}\"")).count();
        let copying = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY %' \
            AND state = 'active' AND application_name LIKE 'segue-backfill-%' \
            AND datname = current_database()";
        for _ in 0..3 {
            let chunks = count("chunk");
            eventually("more chunks are done", ENDS, || async {
                (count("chunk") > chunks || !running.runs()).then_some(())
            })
            .await;
            if of_source {
                // The rows come this way: whichever is next is cut.
                proxy.cut_after(rand::random_range(100..20_000));
                continue;
            }
            eventually("a COPY runs", ENDS, || async {
                (pair.target.rows(copying).await != ["0"] || !running.runs()).then_some(())
            })
            .await;
            proxy.reset();
        }
        let (code, output) = running.ended(ENDS).await;
        assert_eq!(code, Some(0), "{output}");
        assert!(count("away") > 0, "no connection was cut: {output}");
    }
    load.stop().await;
    outbox_is_empty(&pair.source).await;
    assert_equal(&pair).await;
    drop(served);
}
