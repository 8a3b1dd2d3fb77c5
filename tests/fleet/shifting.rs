//! Reads that are shifted, under load: read-your-writes, and a target that dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use segue::grpc::proto::Side;
use tokio::task::JoinSet;

use crate::support::{Durability, Major, Options, Pair, Segue, Server, eventually};
use crate::world::{
    ITEMS, LIMIT, QUICK, client, delete, forced, history, read, serving, status, until, write,
};

const CLIENTS: i64 = 6;
const ALL_AT_ONCE: &str = "[read_routing]
target_percentage = 100
escalation_schedule = []
[read_routing.rollback_trigger]
window = \"10s\"
min_samples = 20
latency_p99_threshold = \"30s\"
outbox_age_threshold = \"1m\"
";

/// What the clients saw.
#[derive(Default)]
struct Seen {
    reads: AtomicU64,
    on_target: AtomicU64,
    tokens: AtomicU64,
    faults: std::sync::Mutex<Vec<String>>,
}

/// Each client writes its own items through one member and reads them through another, and must
/// find what it was told: with the token where it was given one.
fn load(fleet: &[Segue], seen: &Arc<Seen>, stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (seen, stop) = (Arc::clone(seen), Arc::clone(stop));
        let at = usize::try_from(number).unwrap();
        let mut writer = client(&fleet[at % fleet.len()]);
        let mut reader = client(&fleet[(at + 1) % fleet.len()]);
        clients.spawn(async move {
            let mut known = BTreeMap::new();
            for version in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let id = number * 100 + version % 5;
                match write(&mut writer, id, version).await {
                    Ok(token) => {
                        seen.tokens.fetch_add(u64::from(!token.is_empty()), Ordering::Relaxed);
                        known.insert(id, (version, token));
                    }
                    Err(status) => {
                        seen.faults.lock().unwrap().push(format!("write {id}: {status:?}"));
                        return;
                    }
                }
                for (id, (version, token)) in &known {
                    match read(&mut reader, *id, token).await {
                        Ok((found, side)) => {
                            seen.reads.fetch_add(1, Ordering::Relaxed);
                            seen.on_target
                                .fetch_add(u64::from(side == Side::Target), Ordering::Relaxed);
                            if found != Some(*version) {
                                let stale =
                                    format!("{side:?}: item {id} is {found:?}, not {version}");
                                seen.faults.lock().unwrap().push(stale);
                                return;
                            }
                        }
                        Err(status) => {
                            seen.faults.lock().unwrap().push(format!("read {id}: {status:?}"));
                            return;
                        }
                    }
                }
            }
        });
    }
    clients
}

async fn more(what: &str, counter: &AtomicU64, more: u64, seen: &Seen) {
    let wanted = counter.load(Ordering::Relaxed) + more;
    eventually(what, LIMIT, || async {
        let faults = seen.faults.lock().unwrap().clone();
        assert!(faults.is_empty(), "{faults:#?}");
        (counter.load(Ordering::Relaxed) >= wanted).then_some(())
    })
    .await;
}

async fn at_all(fleet: &[Segue]) {
    forced(&fleet[0], "shift").await;
    for member in fleet {
        let all = |now: &serde_json::Value| now["fleet"]["target_percentage"] == 100.0;
        until(member, "all reads are shifted", all).await;
    }
}

async fn end(stop: &AtomicBool, mut clients: JoinSet<()>, seen: &Seen) {
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let faults = seen.faults.lock().unwrap().clone();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wrote_reads_it_whichever_side_answers_and_whoever_is_asked() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let fleet = serving(&pair, 3, "shadow_read", &format!("{QUICK}{ALL_AT_ONCE}")).await;
    at_all(&fleet).await;
    let (seen, stop) = (Arc::<Seen>::default(), Arc::default());
    let clients = load(&fleet, &seen, &stop);
    more("reads on the target", &seen.on_target, 300, &seen).await;
    // Reconciles come to a halt again and again, while reads on the target go on: what cannot
    // be awaited has a token, and the token keeps its read on the source.
    let blocker = pair.target.client().await;
    for _ in 0..3 {
        blocker.batch_execute("BEGIN; LOCK TABLE item IN EXCLUSIVE MODE").await.unwrap();
        more("tokens", &seen.tokens, 10, &seen).await;
        more("reads", &seen.reads, 50, &seen).await;
        blocker.batch_execute("COMMIT").await.unwrap();
        more("reads on the target", &seen.on_target, 100, &seen).await;
    }
    end(&stop, clients, &seen).await;
}

/// Where the shadow is sick and nobody waits for it any more, a delete of what is deleted has
/// no token that could take the place of the one that counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_changes_nothing_has_no_token() {
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let fleet = serving(&pair, 1, "shadow_read", &format!("{QUICK}{ALL_AT_ONCE}")).await;
    at_all(&fleet).await;
    let mut client = client(&fleet[0]);
    write(&mut client, 1, 1).await.unwrap();
    eventually("the target answers", LIMIT, || async {
        let read = read(&mut client.clone(), 1, "").await.unwrap();
        (read == (Some(1), Side::Target)).then_some(())
    })
    .await;
    let blocker = pair.target.client().await;
    blocker.batch_execute("BEGIN; LOCK TABLE item IN EXCLUSIVE MODE").await.unwrap();
    let token = delete(&mut client, 1, false).await;
    assert!(!token.is_empty());
    eventually("nobody waits any more", LIMIT, || async {
        let begun = std::time::Instant::now();
        write(&mut client.clone(), 2, 2).await.unwrap();
        (begun.elapsed() < Duration::from_millis(100)).then_some(())
    })
    .await;
    for within in [false, true] {
        assert_eq!(delete(&mut client, 1, within).await, "", "within a transaction: {within}");
    }
    assert_eq!(read(&mut client, 1, &token).await.unwrap(), (None, Side::Source));
    blocker.batch_execute("COMMIT").await.unwrap();
    eventually("the token has settled", LIMIT, || async {
        let read = read(&mut client.clone(), 1, &token).await.unwrap();
        assert_eq!(read.0, None);
        (read.1 == Side::Target).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_with_all_reads_on_it_costs_nobody_an_error() {
    let options = || Options { durability: Durability::Fsync, ..Options::default() };
    let source = Server::start(Major::V15, &options());
    let target = Server::start(Major::V18, &options());
    let pair = Pair::within(&source, &target, ITEMS, ITEMS).await;
    let fleet = serving(&pair, 3, "shadow_read", &format!("{QUICK}{ALL_AT_ONCE}")).await;
    at_all(&fleet).await;
    let (seen, stop) = (Arc::<Seen>::default(), Arc::default());
    let clients = load(&fleet, &seen, &stop);
    more("reads on the target", &seen.on_target, 300, &seen).await;
    target.stop_immediate();
    more("reads after the target's death", &seen.reads, 300, &seen).await;
    let now =
        until(&fleet[0], "the share is put back", |now| now["fleet"]["target_percentage"] == 0.0)
            .await;
    assert_eq!(now["phase"], "shift");
    assert_eq!(now["fleet"]["schedule_held"], true, "{now:#}");
    let events = history(&fleet[0]);
    let back = events.iter().find(|it| it["kind"] == "percentage" && it["to_percentage"] == 0.0);
    let why = back.unwrap()["reason"].as_str().unwrap();
    assert!(why.contains("of the target's reads failed") && why.contains("source: "), "{why}");
    assert_eq!(back.unwrap()["actor"], "segue");
    let metrics = fleet.iter().map(scraped).collect::<Vec<_>>();
    let metrics = futures_util::future::join_all(metrics).await.concat();
    assert!(metrics.contains("segue_shift_changes_total{reason=\"rollback\"} 1"), "{metrics}");
    more("reads afterwards", &seen.reads, 100, &seen).await;

    // It comes back, and is made equal; the schedule waits for an operator.
    target.restart();
    until(&fleet[0], "the outbox is worked off", |now| now["outbox"]["pending"] == 0).await;
    let before = seen.on_target.load(Ordering::Relaxed);
    more("reads on the source", &seen.reads, 100, &seen).await;
    assert_eq!(seen.on_target.load(Ordering::Relaxed), before);
    fleet[0].succeed(&["phase", "resume", "--reason", "the target is well again"]);
    more("reads on the target again", &seen.on_target, 100, &seen).await;
    end(&stop, clients, &seen).await;
}

async fn scraped(member: &Segue) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = member.admin_address().replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    let reading = stream.read_to_string(&mut page);
    tokio::time::timeout(Duration::from_secs(30), reading).await.unwrap().unwrap();
    page
}

/// A server that is shut down in order has lost nothing: what was forgotten before is not gone
/// through again, and reads stay where they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clean_restarts_of_the_source_leave_all_reads_on_the_target() {
    const RESTARTS: usize = 3;
    // More than one batch has, so that going through them again would put reads off.
    const ROWS: i64 = 20_000;
    let options = || Options { durability: Durability::Fsync, ..Options::default() };
    let source = Server::start(Major::V15, &options());
    let target = Server::start(Major::V18, &options());
    let pair = Pair::within(&source, &target, ITEMS, ITEMS).await;
    let fleet = serving(&pair, 2, "shadow_read", &format!("{QUICK}{ALL_AT_ONCE}")).await;
    let bulk = format!("INSERT INTO item SELECT i, 0 FROM generate_series(1, {ROWS}) AS i");
    pair.source.run(&bulk).await;
    at_all(&fleet).await;
    let answers = |id| {
        let mut client = client(&fleet[0]);
        async move {
            let read = read(&mut client, id, "").await.ok()?;
            (read == (Some(0), Side::Target)).then_some(())
        }
    };
    eventually("the target answers", LIMIT, || answers(7)).await;
    let before = history(&fleet[0]);
    for restart in 0..RESTARTS {
        until(&fleet[0], "nothing is pending", |now| now["outbox"]["pending"] == 0).await;
        source.stop_fast();
        source.restart();
        eventually("it was noticed", LIMIT, || async {
            let noticed = |it: &Segue| it.logs().matches("shut down and started again").count();
            (fleet.iter().map(noticed).sum::<usize>() > restart).then_some(())
        })
        .await;
        eventually("writes go on", LIMIT, || async {
            write(&mut client(&fleet[1]), 1, 1).await.ok()
        })
        .await;
    }
    eventually("the target answers", LIMIT, || answers(8)).await;
    assert_eq!(history(&fleet[0]), before);
}

/// One statement changes more keys than the outbox may hold, while nothing can be written on the
/// target: its reads would miss them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_folded_takes_all_reads_off_the_target_until_it_is_copied() {
    const ROWS: i64 = 40_000;
    let pair = Pair::fresh(ITEMS, ITEMS).await;
    let patient = ALL_AT_ONCE.replace("\"1m\"", "\"1h\"");
    let sections = format!("{QUICK}max_bytes = \"1MiB\"\nbackoff_max = \"1s\"\n{patient}");
    let fleet = serving(&pair, 2, "shadow_read", &sections).await;
    let bulk = format!("INSERT INTO item SELECT i, 0 FROM generate_series(1, {ROWS}) AS i");
    for side in [&pair.source, &pair.target] {
        side.run_as_copy(&bulk).await;
        side.run("ANALYZE item").await;
    }
    at_all(&fleet).await;
    let side_of = |id, version| {
        let mut client = client(&fleet[1]);
        async move {
            let (found, side) = read(&mut client, id, "").await.ok()?;
            (found == Some(version)).then_some(side)
        }
    };
    eventually("the target answers", LIMIT, || async {
        (side_of(7, 0).await? == Side::Target).then_some(())
    })
    .await;
    // Reads go on there, and no row can be written.
    let holder = pair.target.client().await;
    holder.batch_execute("BEGIN; LOCK TABLE item IN SHARE MODE").await.unwrap();
    pair.source.run("UPDATE item SET version = 1").await;
    let is_folded = |now: &serde_json::Value| {
        now["outbox"]["folded"]
            .as_array()
            .is_some_and(|all| all.iter().any(|it| it["table"] == "public.item"))
    };
    until(&fleet[0], "the table is folded", is_folded).await;
    let taken_off = |now: &serde_json::Value| {
        now["fleet"]["target_percentage"] == 0.0 && now["fleet"]["schedule_held"] == true
    };
    let now = until(&fleet[0], "reads are taken off", taken_off).await;
    assert_eq!(now["phase"], "shift");
    let why = |it: &serde_json::Value| it["reason"].as_str().unwrap().to_owned();
    let taken = history(&fleet[0])
        .into_iter()
        .find(|it| it["kind"] == "percentage" && why(it).starts_with("pending: public.item as "));
    assert_eq!(taken.expect("the leader says why")["actor"], "segue");
    eventually("the source answers", LIMIT, || async {
        (side_of(7, 1).await? == Side::Source).then_some(())
    })
    .await;
    let refused = fleet[1].run(&["phase", "percentage", "50"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{told}");
    assert!(told.contains("pending: public.item as "), "{told}");
    let level = |page: &str, family: &str| {
        let series = format!("segue_outbox_folded_{family}{{table=\"public.item\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned));
        line.and_then(|value| value.parse::<f64>().ok())
    };
    eventually("the metrics name the table", LIMIT, || async {
        let page = scraped(&fleet[0]).await;
        let rows = level(&page, "rows").filter(|rows| *rows > 0.0);
        rows.and(level(&page, "ranges_of_table")).and(level(&page, "left_seconds")).map(drop)
    })
    .await;

    holder.batch_execute("COMMIT").await.unwrap();
    until(&fleet[0], "it is copied", |now| !is_folded(now) && now["outbox"]["pending"] == 0).await;
    let versions = "SELECT version, count(*) FROM item GROUP BY 1";
    assert_eq!(pair.target.rows(versions).await, [format!("1|{ROWS}")]);
    fleet[0].succeed(&["phase", "resume", "--reason", "the target has all writes again"]);
    until(&fleet[0], "reads are back", |now| now["fleet"]["target_percentage"] == 100.0).await;
    eventually("the target answers again", LIMIT, || async {
        (side_of(7, 1).await? == Side::Target).then_some(())
    })
    .await;
    eventually("the metrics show nothing left", LIMIT, || async {
        let page = scraped(&fleet[0]).await;
        (level(&page, "rows")? == 0.0 && level(&page, "left_seconds")? == 0.0).then_some(())
    })
    .await;
}

/// A server that crashed is asked again for what was forgotten lately: that is as old as its recall,
/// and not as its first write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_source_changes_no_percentage_by_an_old_age() {
    const CRASHES: usize = 2;
    const OLD: &str = "UPDATE segue.outbox SET created_at = created_at - interval '1 hour'
        WHERE forgotten_at IS NOT NULL";
    let options = || Options { durability: Durability::Fsync, ..Options::default() };
    let source = Server::start(Major::V15, &options());
    let target = Server::start(Major::V18, &options());
    let pair = Pair::within(&source, &target, ITEMS, ITEMS).await;
    let fleet = serving(&pair, 2, "shadow_read", &format!("{QUICK}{ALL_AT_ONCE}")).await;
    pair.source.run("INSERT INTO item SELECT i, 0 FROM generate_series(1, 200) AS i").await;
    at_all(&fleet).await;
    let answers = |id| {
        let mut client = client(&fleet[0]);
        async move {
            let read = read(&mut client, id, "").await.ok()?;
            (read == (Some(0), Side::Target)).then_some(())
        }
    };
    eventually("the target answers", LIMIT, || answers(7)).await;
    for _ in 0..CRASHES {
        until(&fleet[0], "nothing is pending", |now| now["outbox"]["pending"] == 0).await;
        // Longer ago than any threshold.
        pair.source.run(OLD).await;
        source.kill();
        source.restart();
        let again = format!(
            "SELECT count(*) FROM segue.outbox WHERE forgotten_at > '{}'",
            pair.source.rows("SELECT pg_postmaster_start_time()").await[0]
        );
        eventually("it was gone through again", LIMIT, || async {
            (pair.source.rows(&again).await[0].parse::<i64>().unwrap() >= 200).then_some(())
        })
        .await;
        eventually("writes go on", LIMIT, || async {
            write(&mut client(&fleet[1]), 1, 1).await.ok()
        })
        .await;
    }
    eventually("the target answers", LIMIT, || answers(8)).await;
    let now = status(&fleet[0]);
    assert_eq!(now["fleet"]["target_percentage"], 100.0, "{now:#}");
    let aged = |it: &serde_json::Value| it["reason"].as_str().unwrap().contains("has waited for");
    let aged: Vec<_> = history(&fleet[0]).into_iter().filter(aged).collect();
    assert!(aged.is_empty(), "{aged:#?}");
}
