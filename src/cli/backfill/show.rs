//! Progress: bars on a terminal, lines elsewhere, events for machines.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::operations::backfill::Waits;
use crate::cli::backfill::figures::{Figures, Rates};
use crate::cli::check;
use crate::cli::print::{self, bytes, count, counted, seconds};
use crate::domain::backfill::{TablePlan, TableProgress, WorkerProgress};
use crate::domain::pace::Change;
use crate::jobs::backfill::{Ending, Event};
use crate::ports::backfill::ChunkStore;
use crate::preflight::{Report, Severity};

/// Between two looks at the progress.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two lines where there is no terminal.
const LINE_EVERY: u32 = 5;
/// Between two lines about the same wait.
const WAITS_AGAIN: Duration = Duration::from_secs(5);

/// Shows one run.
pub(super) struct Show {
    json: bool,
    bars: Option<MultiProgress>,
    /// Since when nothing was said of a wait.
    waits: Mutex<Option<Instant>>,
    begun: Instant,
}

impl Show {
    pub(super) fn new(json: bool, bars: bool) -> Self {
        let bars = bars.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { json, bars, waits: Mutex::new(None), begun: Instant::now() }
    }

    /// What the preflight found: all of it where it refuses, else what is to be decided on.
    pub(super) fn checked(&self, report: &Report, refuses: bool) {
        if self.json {
            let mut document = check::document(report);
            document["event"] = "check".into();
            document["refused"] = refuses.into();
            self.document(document);
        } else if refuses {
            print::out(&check::page(report));
        } else {
            for line in check::found(report, &[Severity::Blocks, Severity::Warning]).lines() {
                self.bare(line);
            }
        }
    }

    /// Of what must end, or come about, before the copy may begin.
    pub(super) fn waits_for(&self, waits: &Waits) {
        if self.waits_in_silence() {
            return;
        }
        let (event, who, why) = match waits {
            Waits::Members(who) => {
                ("waits_for_members", who.join("; "), "until every member works by the phase")
            }
            Waits::Transaction(who) => (
                "waits_for_transaction",
                who.clone(),
                "for transactions that began before the writes were captured",
            ),
        };
        if self.json {
            self.document(json!({ "event": event, "who": who }));
        } else {
            self.line(&format!("waits {why}: {who}"));
        }
    }

    fn waits_in_silence(&self) -> bool {
        let mut waits = self.waits.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = waits.is_some_and(|at| at.elapsed() < WAITS_AGAIN);
        if !silent {
            *waits = Some(Instant::now());
        }
        silent
    }

    pub(super) fn stopped(&self) {
        self.line("stopped before anything was copied");
    }

    /// Events of the workers.
    pub(super) fn event(&self, event: &Event) {
        if self.json {
            return self.document(document(event));
        }
        match event {
            Event::Done { .. } => {}
            Event::Again { id, reason } => {
                self.line(&format!("chunk {id} is tried again: {reason}"));
            }
            Event::Lost { id } => {
                self.line(&format!("chunk {id} was taken over by another process"));
            }
            Event::Away(fault) => {
                if !self.waits_in_silence() {
                    self.line(&format!("waits: {fault}"));
                }
            }
            Event::Pace(Change::Slower { cause, seen, limit, share }) => self.line(&format!(
                "slower, {:.0} % of the time: {} is {}, above {}",
                share * 100.0,
                cause.as_str(),
                milliseconds(*seen),
                milliseconds(*limit)
            )),
            Event::Pace(Change::Faster { share }) => {
                self.line(&format!("faster, {:.0} % of the time", share * 100.0));
            }
        }
    }

    /// Looks at the progress until it is told that there is no more.
    pub(super) async fn follow(
        self: Arc<Self>,
        store: Arc<dyn ChunkStore>,
        plans: Vec<TablePlan>,
        stop: CancellationToken,
    ) {
        let mut rates = Rates::default();
        let mut bars: HashMap<i32, ProgressBar> = HashMap::new();
        if let Some(all) = &self.bars {
            for plan in &plans {
                let bar = all.add(bar(plan));
                bars.insert(plan.table_id, bar);
            }
        }
        let mut looks = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
            // A target that is away is told of by the workers.
            let (Ok(tables), Ok(workers)) = (store.progress().await, store.workers().await) else {
                continue;
            };
            looks += 1;
            let now = Instant::now();
            let figures: Vec<Figures> = tables.iter().map(|table| rates.see(table, now)).collect();
            let told = looks.is_multiple_of(LINE_EVERY);
            if self.json {
                self.document(progress_document(&tables, &figures, &workers));
            } else if self.bars.is_some() {
                for (table, figures) in tables.iter().zip(&figures) {
                    if let Some(bar) = bars.get(&table.table_id) {
                        bar.set_length(figures.rows_expected.max(1));
                        bar.set_position(table.rows);
                        bar.set_message(message(figures, &workers));
                        if table.is_done() {
                            bar.finish_with_message("done");
                        }
                    }
                }
            } else if told {
                self.lines(&tables, &figures, &workers);
            }
        }
        if let Some(all) = &self.bars {
            for bar in bars.values() {
                bar.abandon();
            }
            // What cannot be drawn any more is no fault.
            let _ = all.clear();
        }
    }

    fn lines(&self, tables: &[TableProgress], figures: &[Figures], workers: &[WorkerProgress]) {
        for (table, figures) in tables.iter().zip(figures) {
            if table.is_done() || (table.chunks_done == 0 && table.chunks_claimed == 0) {
                continue;
            }
            let percent = table.rows as f64 * 100.0 / figures.rows_expected.max(1) as f64;
            self.line(&format!(
                "{}: {} of about {} rows ({percent:.0} %), {}",
                table.table,
                count(table.rows),
                count(figures.rows_expected),
                message(figures, workers)
            ));
        }
    }

    /// The last word.
    pub(super) fn end(&self, tables: &[TableProgress], ending: Ending) {
        let sum = |of: fn(&TableProgress) -> u64| tables.iter().map(of).sum::<u64>();
        let (rows, size) = (sum(|it| it.rows), sum(|it| it.bytes));
        let (reconciled, failed) = (sum(|it| it.reconciled), sum(|it| it.failed));
        let elapsed = self.begun.elapsed().as_secs_f64();
        let complete = ending == Ending::Complete;
        if self.json {
            return self.document(json!({
                "event": "end", "complete": complete, "rows": rows, "bytes": size,
                "reconciled": reconciled, "failed": failed, "elapsed_s": elapsed,
            }));
        }
        let mut page = format!(
            "{}: {} of {} copied, {}; {} reconciled after their chunks, in {}\n",
            if complete { "complete" } else { "stopped" },
            counted(rows, "row"),
            counted(tables.len() as u64, "table"),
            bytes(size),
            counted(reconciled, "key"),
            seconds(elapsed)
        );
        if failed > 0 {
            page += &format!(
                "{} could not be copied and wait in the outbox: see segue outbox --stuck\n",
                counted(failed, "row")
            );
        }
        if !complete {
            page += "start it again to go on from here\n";
        }
        print::out(&page);
    }

    fn document(&self, mut document: Value) {
        if let Value::Object(fields) = &mut document {
            let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            fields.insert("at".to_owned(), now.into());
        }
        print::out(&format!("{document}\n"));
    }

    /// A line of a page, which bears no time.
    fn bare(&self, text: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(text)),
            None => {
                let _ = writeln!(std::io::stderr(), "{text}");
            }
        }
    }

    fn line(&self, text: &str) {
        match &self.bars {
            // Above the bars; a terminal that has gone away is no fault.
            Some(bars) => drop(bars.println(text)),
            None if self.json => self.document(json!({ "event": "note", "text": text })),
            None => {
                let now = humantime::format_rfc3339_seconds(SystemTime::now());
                let _ = writeln!(std::io::stderr(), "{now} {text}");
            }
        }
    }
}

fn bar(plan: &TablePlan) -> ProgressBar {
    let template = "{prefix:24!} [{bar:24}] {percent:>3} % {pos:>12} rows {msg}";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let bar = ProgressBar::new(plan.rows_estimated.max(1)).with_style(style);
    bar.with_prefix(plan.mapping.source.to_string())
}

/// `181,000 rows/s, 24.1 MiB/s, 4 s left, 4 workers`, and what slows it down.
fn message(figures: &Figures, workers: &[WorkerProgress]) -> String {
    let alive = workers.iter().filter(|worker| worker.alive);
    let at_once: u64 = alive.clone().map(|worker| u64::from(worker.workers)).sum();
    let left = figures.left_s.map_or_else(String::new, |left| format!(", {} left", seconds(left)));
    let slow = alive
        .filter(|worker| !worker.throttled.is_empty())
        .map(|worker| {
            format!(", slowed down to {:.0} % by {}", worker.share * 100.0, worker.throttled)
        })
        .next()
        .unwrap_or_default();
    format!(
        "{} rows/s, {}/s{left}, {}{slow}",
        count(figures.rows_per_s as u64),
        bytes(figures.bytes_per_s as u64),
        counted(at_once, "worker")
    )
}

fn milliseconds(duration: Duration) -> String {
    if duration >= Duration::from_secs(10) {
        return seconds(duration.as_secs_f64());
    }
    format!("{} ms", duration.as_millis())
}

fn document(event: &Event) -> Value {
    match event {
        Event::Done { id, copied, elapsed } => json!({
            "event": "chunk", "table_id": id.table_id, "chunk": id.number,
            "way": copied.way.as_str(), "rows": copied.rows, "bytes": copied.bytes,
            "reconciled": copied.reconciled, "failed": copied.failed,
            "elapsed_s": elapsed.as_secs_f64(),
        }),
        Event::Again { id, reason } => json!({
            "event": "again", "table_id": id.table_id, "chunk": id.number, "reason": reason,
        }),
        Event::Lost { id } => {
            json!({ "event": "lost", "table_id": id.table_id, "chunk": id.number })
        }
        Event::Away(fault) => json!({
            "event": "away", "reason": fault.to_string(),
            "side": fault.side.map(crate::domain::side::Side::as_str),
        }),
        Event::Pace(Change::Slower { cause, seen, limit, share }) => json!({
            "event": "slower", "cause": cause.as_str(), "seen_s": seen.as_secs_f64(),
            "limit_s": limit.as_secs_f64(), "share": share,
        }),
        Event::Pace(Change::Faster { share }) => json!({ "event": "faster", "share": share }),
    }
}

fn progress_document(
    tables: &[TableProgress],
    figures: &[Figures],
    workers: &[WorkerProgress],
) -> Value {
    let table = |(table, figures): (&TableProgress, &Figures)| {
        json!({
            "table": table.table, "rows": table.rows, "rows_expected": figures.rows_expected,
            "bytes": table.bytes, "rows_per_s": figures.rows_per_s,
            "bytes_per_s": figures.bytes_per_s, "left_s": figures.left_s,
            "chunks": table.chunks, "chunks_done": table.chunks_done,
            "chunks_claimed": table.chunks_claimed, "done": table.is_done(),
            "reconciled": table.reconciled, "failed": table.failed,
        })
    };
    let worker = |worker: &WorkerProgress| {
        json!({
            "host": worker.host, "workers": worker.workers, "alive": worker.alive,
            "throttled": worker.throttled, "share": worker.share,
        })
    };
    json!({
        "event": "progress",
        "tables": tables.iter().zip(figures).map(table).collect::<Vec<_>>(),
        "workers": workers.iter().map(worker).collect::<Vec<_>>(),
    })
}
