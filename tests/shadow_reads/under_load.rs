//! Thousands of samples of rows that are written all the time, with the target away for a
//! while: what was planted is found, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::client::{client, dropped, is_finding, listed, read, status, until_listed, write};
use crate::support::{Major, Options, Pair, Segue, Server, eventually};

const SCHEMA: &str = "
CREATE TABLE hot (id int PRIMARY KEY, flag int NOT NULL, n int8 NOT NULL, at timestamptz);
INSERT INTO hot SELECT i, 0, 0, '2026-01-01' FROM generate_series(1, 12) AS i;
CREATE TABLE calm (id int PRIMARY KEY, note text);
INSERT INTO calm SELECT i, 'note ' || i FROM generate_series(1, 20) AS i;";

const SETTINGS: &str = r#"
[sampling]
rate = 1
concurrency = 8
deadline = "2s"
look_again_after = "20ms"
pending_wait_max = "20s"
[compare]
flush_interval = "200ms"
"#;

/// Values that come back: the hardest case for looking twice.
const WRITES: [&str; 4] = [
    "UPDATE hot SET flag = 1 - flag, n = n + 1, at = now() WHERE id = $1",
    "INSERT INTO hot VALUES ($1 + 100, 0, 0, now()) ON CONFLICT (id) DO NOTHING",
    "DELETE FROM hot WHERE id = $1 + 100",
    "UPDATE hot SET flag = 1 - flag WHERE id = $1",
];
const READS: [&str; 4] = [
    "SELECT flag FROM hot WHERE id = $1",
    "SELECT count(*) FROM hot WHERE id <> $1 + 1000",
    "SELECT id, flag FROM hot WHERE id <> $1 + 1000 ORDER BY id",
    "SELECT note FROM calm WHERE id = $1",
];
/// Rows that are written; those above are left alone.
const HOT_ROWS: i64 = 8;
const SAMPLES: u64 = 2_000;
const LOAD_LIMIT: Duration = Duration::from_secs(240);

struct Load {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(segue: &Segue) -> Self {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for worker in 0..6_i64 {
            let (mut sql, stop, reads) = (client(segue), Arc::clone(&stop), Arc::clone(&reads));
            tasks.spawn(async move {
                let mut step = worker;
                while !stop.load(Ordering::Relaxed) {
                    step += 1;
                    let key = step % HOT_ROWS + 1;
                    let at = usize::try_from(step / 2).unwrap() % 4;
                    if worker < 2 {
                        write(&mut sql, WRITES[at], &[key]).await.unwrap();
                    } else {
                        read(&mut sql, READS[at], &[key]).await.unwrap();
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Self { stop, reads, tasks }
    }

    async fn reads(&self, more: u64) {
        let wanted = self.reads.load(Ordering::Relaxed) + more;
        eventually("reads are answered", LOAD_LIMIT, || async {
            (self.reads.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    async fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

fn sampled(segue: &Segue) -> u64 {
    let verdicts = status(segue)["verdicts"].clone();
    verdicts.as_object().unwrap().values().map(|it| it.as_u64().unwrap()).sum()
}

async fn judged(segue: &Segue, more: u64) {
    let wanted = sampled(segue) + more;
    eventually("samples are judged", LOAD_LIMIT, || async {
        (sampled(segue) >= wanted).then_some(())
    })
    .await;
}

fn found(segue: &Segue) -> Vec<Value> {
    listed(segue).into_iter().filter(is_finding).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_what_was_planted_is_found_while_everything_moves() {
    let options = Options::default();
    let (source, target) =
        (Server::start(Major::V15, &options), Server::start(Major::V18, &options));
    let target_schema = SCHEMA.replace("at timestamptz", "at timestamptz(3)");
    let pair = Pair::within(&source, &target, SCHEMA, &target_schema).await;
    let segue = Segue::serving(&pair, "shadow_read", SETTINGS).await;
    let load = Load::start(&segue);
    judged(&segue, SAMPLES / 2).await;

    target.stop_immediate();
    load.reads(300).await;
    assert!(dropped(&segue, "unavailable") > 0, "{:#}", status(&segue));
    target.restart();
    judged(&segue, SAMPLES / 4).await;

    // The reads that are offered now find no room, and their callers do not notice.
    target.stall();
    load.reads(300).await;
    assert!(dropped(&segue, "concurrency") > 0, "{:#}", status(&segue));
    target.resume();
    judged(&segue, SAMPLES / 4).await;
    let nothing = found(&segue);
    assert!(nothing.is_empty(), "{nothing:#?}");

    // Found while its neighbours in the same table are written.
    pair.target.run_as_copy("UPDATE hot SET flag = 7 WHERE id = 11").await;
    let planted = until_listed(&segue, (READS[0], "SELECT flag FROM hot"), &[11], "data").await;
    assert!(planted["example"].as_str().unwrap().contains("flag"), "{planted:#}");
    load.stop().await;
    println!("{:#}", status(&segue)["sampling"]);
    let only: Vec<_> = found(&segue)
        .into_iter()
        .filter(|it| !it["statement"].as_str().unwrap().contains("flag"))
        .collect();
    assert!(only.is_empty(), "{only:#?}");
}
