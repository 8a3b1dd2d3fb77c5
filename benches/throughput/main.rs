//! What segue costs, measured against a direct connection and against pgbouncer.
//!
//! `make bench` runs everything; `make bench BENCH='point update --workers 32 --seconds 2'`
//! runs some of it. Contenders of a comparison take turns, so that what else happens on the
//! machine happens to all of them; every ratio is taken within one turn, and the tables hold
//! the medians of all turns.
//!
//! - [`world`]: servers, databases, sidecars
//! - [`channel`]: the client's connection to a sidecar
//! - [`contender`]: who is compared, and what one call of each is
//! - [`load`]: so many workers for so long
//! - [`parts`]: the comparisons
//! - [`report`]: medians and tables
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::large_futures
)]

mod channel;
mod contender;
mod load;
mod parts;
mod report;
mod stream;
#[path = "../../tests/support/mod.rs"]
mod support;
mod world;

use std::time::Duration;

/// What is to be measured, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Plan {
    pub parts: Vec<String>,
    /// Counts of workers; what is shown of each part where it is not said.
    pub workers: Option<Vec<usize>>,
    pub seconds: Duration,
    pub repetitions: usize,
    pub only: Vec<String>,
    pub channels: usize,
    pub client_threads: usize,
    /// Settings of the servers, name and value.
    pub settings: Vec<(String, String)>,
}

const USAGE: &str = "make bench BENCH='[PART…] [--workers 1,8,32,64] [--seconds 1.2] \
    [--repetitions 3] [--only CONTENDER,…] [--channels 2] [--client-threads 1] [--server-setting NAME=VALUE]'
parts: point rows100 rows10000 insert update captured dual sampling memory blocking (all of them)";

fn main() {
    let plan = plan().unwrap_or_else(|problem| {
        eprintln!("{problem}\n{USAGE}");
        std::process::exit(2);
    });
    let mut builder = match plan.client_threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = builder.enable_all().build().expect("a runtime can be made");
    runtime.block_on(parts::run(&plan));
}

impl Plan {
    /// The counts of workers that a part is measured with.
    pub fn workers(&self, part: &str) -> &[usize] {
        match (&self.workers, part) {
            (Some(workers), _) => workers,
            (None, "point") => &[1, 8, 32, 64],
            (None, "insert" | "update") => &[32, 64],
            (None, _) => &[32],
        }
    }
}

fn plan() -> Result<Plan, String> {
    let mut plan = Plan {
        parts: Vec::new(),
        workers: None,
        seconds: Duration::from_millis(1200),
        repetitions: 3,
        only: Vec::new(),
        channels: 2,
        client_threads: 1,
        settings: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        // Cargo's own.
        if argument == "--bench" {
            continue;
        }
        let Some(option) = argument.strip_prefix("--") else {
            if !parts::ALL.contains(&argument.as_str()) {
                return Err(format!("there is no part {argument:?}"));
            }
            plan.parts.push(argument);
            continue;
        };
        let value = arguments.next().ok_or_else(|| format!("--{option} needs a value"))?;
        let number = || value.parse::<usize>().map_err(|_| format!("{value:?} is no number"));
        let list = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match option {
            "workers" => {
                let counts = list().iter().map(|count| count.parse()).collect::<Result<_, _>>();
                plan.workers = Some(counts.map_err(|_| format!("{value:?} are no numbers"))?);
            }
            "seconds" => {
                let seconds = value.parse().map_err(|_| format!("{value:?} is no number"))?;
                plan.seconds = Duration::from_secs_f64(seconds);
            }
            "repetitions" => plan.repetitions = number()?.max(1),
            "only" => plan.only = list(),
            "channels" => plan.channels = number()?.max(1),
            "server-setting" => {
                let (name, setting) = value.split_once('=').ok_or("a setting is NAME=VALUE")?;
                plan.settings.push((name.to_owned(), setting.to_owned()));
            }
            "client-threads" => plan.client_threads = number()?.max(1),
            _ => return Err(format!("there is no option --{option}")),
        }
    }
    if plan.parts.is_empty() {
        plan.parts = parts::ALL.iter().map(|&part| part.to_owned()).collect();
    }
    Ok(plan)
}
