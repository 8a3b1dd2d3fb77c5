//! Memory, and what slow statements do to quick ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::task::JoinSet;

use super::unary;
use crate::Plan;
use crate::contender::{Encoding, Worker, Workload, channels, client, query};
use crate::load::{self, Watched};
use crate::report::{self, Column};
use crate::support::{self, Segue};
use crate::world::{Servers, Sidecar};

const MILLION: &str = "SELECT i, 'a text of some length, as rows have them' \
    FROM generate_series(1, 1000000) AS i";
/// About a second of work; the condition is never true.
const WORKING: &str = "SELECT count(*) FROM generate_series(1, 9000000) AS i WHERE i = $1";
/// Looks like any other point read, and waits as long as somebody has the table locked.
const WAITING: &str = "SELECT id FROM held WHERE id = $1";
const HELD_FOR: Duration = Duration::from_secs(1);
/// Between two locks: time in which those that waited go on.
const FREE_FOR: Duration = Duration::from_millis(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

pub async fn run(plan: &Plan, servers: &Servers, wanted: &dyn Fn(&str) -> bool) {
    if !wanted("memory") && !wanted("blocking") {
        return;
    }
    let sidecar = servers.sidecar("source_only", "").await;
    if wanted("memory") {
        memory(plan, &sidecar).await;
    }
    if wanted("blocking") {
        for &count in plan.workers("blocking") {
            blocking(plan, servers, &sidecar, count).await;
        }
    }
}

async fn memory(plan: &Plan, sidecar: &Sidecar) {
    println!("\n### memory of segue, MB\n");
    let mb = |kb: u64| kb as f64 / 1024.0;
    let segue = &sidecar.segue;
    println!("- at rest: {:.1}", mb(segue.memory_kb()));
    let address = segue.sql_address();
    let mut workers = unary(&address, 64, plan, Encoding::Typed).await;
    let load = load::run(&mut workers, Workload::Point, plan.seconds, Watched::default());
    println!("- 64 workers, point reads: {:.1} at most", mb(highest(segue, load).await));
    let load = load::run(&mut workers, Workload::Rows100, plan.seconds, Watched::default());
    println!("- 64 workers, 100 rows: {:.1} at most", mb(highest(segue, load).await));
    for encoding in [Encoding::Typed, Encoding::Packed] {
        let channel = channels(&address, 1).await.remove(0);
        let before = segue.memory_kb();
        let reading = async {
            let answer = client(&channel).query(query(MILLION, &[], encoding)).await.unwrap();
            let mut frames = answer.into_inner();
            let mut rows = 0;
            while let Some(response) = frames.next().await {
                if let Some(footer) = response.unwrap().footer {
                    rows = footer.row_count;
                }
            }
            assert_eq!(rows, 1_000_000);
        };
        let highest = highest(segue, reading).await;
        println!(
            "- a million rows ({}): {:.1} before, {:.1} at most",
            if encoding == Encoding::Packed { "packed" } else { "typed" },
            mb(before),
            mb(highest)
        );
    }
}

/// The most that segue held while `work` went on.
async fn highest<T>(segue: &Segue, work: impl Future<Output = T>) -> u64 {
    let mut work = std::pin::pin!(work);
    let mut highest = segue.memory_kb();
    loop {
        tokio::select! {
            _ = &mut work => return highest,
            () = tokio::time::sleep(LOOK_INTERVAL) => highest = highest.max(segue.memory_kb()),
        }
    }
}

/// What goes on beside the point reads: a name, a statement of a second, and how many callers
/// ask for it.
const BESIDE: [(&str, &str, usize); 5] = [
    ("", "", 0),
    (", one works", WORKING, 1),
    (", four work", WORKING, 4),
    (", one waits", WAITING, 1),
    (", four wait", WAITING, 4),
];

/// Point reads alone and beside statements of about a second, which work or wait: directly,
/// where each has a connection to itself, and through segue. There the slow ones go through
/// segue as well, and once directly: what is the same both times is not the doing of shared
/// connections.
async fn blocking(plan: &Plan, servers: &Servers, sidecar: &Sidecar, count: usize) {
    let address = sidecar.segue.sql_address();
    let dsn = sidecar.pair.source.dsn();
    sidecar.pair.source.run("CREATE TABLE IF NOT EXISTS held (id int4 PRIMARY KEY)").await;
    let mut direct = Vec::new();
    for _ in 0..count {
        direct.push(Worker::prepared(dsn, Workload::Point).await);
    }
    // As few processes of the server as segue needs: what their share of the processors gives.
    let mut shared = vec![
        Worker::prepared(dsn, Workload::Point).await,
        Worker::prepared(dsn, Workload::Point).await,
    ];
    while shared.len() < count {
        shared.extend(shared[shared.len() - 2].beside());
    }
    let through = unary(&address, count, plan, Encoding::Typed).await;
    let mut workers = [direct, shared, through];
    // The name, whose point reads they are, and whether the slow ones go through segue.
    let contenders = [
        ("direct", 0, false),
        ("direct, 2 connections", 1, false),
        ("segue", 2, true),
        ("segue, the slow directly", 2, false),
    ];
    let named = |(name, ..): (&str, usize, bool)| {
        BESIDE.map(|(what, ..)| Column { name: format!("{name}{what}"), turns: Vec::new() })
    };
    let mut columns: Vec<Column> = contenders.into_iter().flat_map(named).collect();
    for _ in 0..plan.repetitions {
        let mut columns = columns.iter_mut();
        for (_, at, through_segue) in contenders {
            for ((_, sql, callers), column) in BESIDE.into_iter().zip(&mut columns) {
                let stop = Arc::new(AtomicBool::new(false));
                let mut slow = JoinSet::new();
                for _ in 0..callers {
                    let address = through_segue.then(|| address.clone());
                    slow.spawn(slowly(Arc::clone(&stop), sql, dsn.to_owned(), address));
                }
                if sql == WAITING {
                    slow.spawn(hold(Arc::clone(&stop), dsn.to_owned()));
                }
                let watched = Watched { servers: &[&servers.source], segue: None };
                let turn =
                    load::run(&mut workers[at], Workload::Point, plan.seconds, watched).await;
                stop.store(true, Ordering::Relaxed);
                slow.join_all().await;
                column.turns.push(turn);
            }
        }
    }
    let title = format!("point reads beside statements of 1 s, {count} workers");
    report::table(&title, &columns);
}

async fn slowly(stop: Arc<AtomicBool>, sql: &str, dsn: String, address: Option<String>) {
    if let Some(address) = address {
        let channel = channels(&address, 1).await.remove(0);
        let mut client = client(&channel);
        while !stop.load(Ordering::Relaxed) {
            let answer = client.query(query(sql, &[0], Encoding::Typed)).await.unwrap();
            let frames: Vec<_> = answer.into_inner().collect().await;
            assert!(frames.iter().all(Result::is_ok), "{frames:?}");
        }
    } else {
        let client = support::connect(&dsn).await;
        let statement = client.prepare(sql).await.unwrap();
        while !stop.load(Ordering::Relaxed) {
            client.query(&statement, &[&0_i32]).await.unwrap();
        }
    }
}

/// Locks the table again and again, so that whoever reads it waits.
async fn hold(stop: Arc<AtomicBool>, dsn: String) {
    let mut client = support::connect(&dsn).await;
    while !stop.load(Ordering::Relaxed) {
        let transaction = client.transaction().await.unwrap();
        transaction.batch_execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE").await.unwrap();
        tokio::time::sleep(HELD_FOR).await;
        transaction.commit().await.unwrap();
        tokio::time::sleep(FREE_FOR).await;
    }
}
