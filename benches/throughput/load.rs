//! So many workers for so long, and what the machine's time went to.

use std::time::{Duration, Instant};

use segue::telemetry::metrics::latency::{Latency, LatencyCounts};

use crate::contender::{Worker, Workload};

/// The unit of times in `/proc/PID/stat`, a constant of Linux's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one turn of one contender came to.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Calls in a second.
    pub rate: f64,
    pub latency: LatencyCounts,
    /// Microseconds of processor time for each call.
    pub client_us: f64,
    pub server_us: f64,
    pub segue_us: f64,
}

/// Whose processor time is told apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched<'a> {
    pub servers: &'a [&'a crate::support::Server],
    pub segue: Option<&'a crate::support::Segue>,
}

/// Runs a workload on workers, after a short while in which nothing is counted.
pub async fn run(
    workers: &mut Vec<Worker>,
    workload: Workload,
    length: Duration,
    watched: Watched<'_>,
) -> Turn {
    turn(workers, workload, length / 5, watched).await;
    turn(workers, workload, length, watched).await
}

async fn turn(
    workers: &mut Vec<Worker>,
    workload: Workload,
    length: Duration,
    watched: Watched<'_>,
) -> Turn {
    let latency = Latency::default();
    let before = Spent::now(watched);
    let begun = Instant::now();
    let until = begun + length;
    let mut running = tokio::task::JoinSet::new();
    for mut worker in workers.drain(..) {
        let latency = latency.clone();
        running.spawn(async move {
            loop {
                let called = Instant::now();
                if called >= until {
                    return worker;
                }
                worker.call(workload).await;
                latency.observe(called.elapsed());
            }
        });
    }
    *workers = running.join_all().await;
    let elapsed = begun.elapsed().as_secs_f64();
    let spent = Spent::now(watched);
    let counts = latency.counts();
    let calls = counts.total() as f64;
    let each = |after: f64, before: f64| (after - before) * 1e6 / calls;
    Turn {
        rate: calls / elapsed,
        latency: counts,
        client_us: each(spent.client, before.client),
        server_us: each(spent.servers, before.servers),
        segue_us: each(spent.segue, before.segue),
    }
}

/// Seconds of processor time so far.
#[derive(Debug, Clone, Copy)]
struct Spent {
    client: f64,
    servers: f64,
    segue: f64,
}

impl Spent {
    fn now(watched: Watched<'_>) -> Self {
        let servers = watched.servers.iter().flat_map(|server| server.process_ids());
        Self {
            client: processor_time("self"),
            servers: servers.map(|id| processor_time(&id.to_string())).sum(),
            segue: watched.segue.map_or(0.0, |it| processor_time(&it.process_id().to_string())),
        }
    }
}

/// Seconds that a process has used, its threads together; 0 when it has gone.
pub fn processor_time(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The second field may hold spaces, and is in brackets.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}
