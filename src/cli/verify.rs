//! `segue verify`.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::app::operations::sweep;
use crate::app::operations::verify::{self, Event, Options, Pace, Totals};
use crate::cli::args::VerifyArgs;
use crate::cli::print::{self, bytes, count, counted, seconds};
use crate::cli::{Ending, serve, signals};
use crate::compare::redact::redacted;
use crate::config::{Config, Sources};
use crate::domain::table::TableName;
use crate::domain::verify::{CellDifference, Discrepancy, Finding, Repair};
use crate::telemetry::retries::Retries;
use crate::telemetry::setup::{Params, Tracing};

/// Between two lines of progress on a terminal, and where there is none.
const REDRAWN: Duration = Duration::from_millis(200);
const LINES: Duration = Duration::from_secs(10);
/// Between two looks at what was written since it was proven, when all is proven.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A chunk that is written all the time is read so often at most.
const OPEN_AFTER: Duration = Duration::from_secs(30);
/// Back to the beginning of the line, which is emptied.
const CLEAR_LINE: &str = "\r\x1b[2K";

pub(super) async fn run(sources: &Sources, args: VerifyArgs) -> Result<Ending> {
    let config = Config::load(sources)?;
    // What happens is told on the standard output; logs are for what goes wrong.
    let telemetry = Params { log_level: "warn".to_owned(), ..serve::telemetry(&config.telemetry) };
    let (tracing, dispatch) = Tracing::start(&telemetry, Box::new(std::io::stderr()))?;
    tracing::dispatcher::set_global_default(dispatch).context("logs are taken already")?;
    let stop = CancellationToken::new();
    signals::stop_on_signals(&stop, |signal| {
        tracing::warn!(signal, "chunks under way are finished; ask again to end at once");
    })?;
    let options = Options {
        tables: args.tables,
        sample: args.sample,
        repair: args.repair,
        chunk_rows: args.chunk_rows,
        workers: usize::from(args.workers),
        pending_max: args.wait,
    };
    let mut teller = Teller {
        json: args.json,
        terminal: std::io::stdout().is_terminal(),
        show_values: config.compare.show_values,
        limit: args.limit,
        shown: 0,
        told: Instant::now(),
    };
    let mut tell = |event: Event<'_>| teller.tell(&event);
    let totals = if args.continuous {
        let pace = Pace {
            load: args.load,
            again_after: args.again_after,
            open_after: OPEN_AFTER,
            look_every: LOOK_EVERY,
        };
        let retries = Retries::default();
        sweep::run(&config, &options, pace, (&retries, &stop), &mut tell).await
    } else {
        verify::run(&config, &options, &stop, &mut tell).await
    };
    tracing.shutdown().await;
    let totals = totals?;
    teller.end(&totals, stop.is_cancelled() && !args.continuous);
    if args.continuous {
        // What was found may have been repaired since: each has been told.
        return Ok(match (ending(&totals), totals.failed) {
            (Ending::Done, 1..) => Ending::Inconclusive,
            (ending, _) => ending,
        });
    }
    if stop.is_cancelled() {
        bail!("interrupted: not all was verified");
    }
    if totals.failed > 0 {
        bail!("{} could not be verified, see above", counted(totals.failed, "table"));
    }
    Ok(ending(&totals))
}

/// A difference that is known comes before what is not known.
fn ending(totals: &Totals) -> Ending {
    match (totals.differs(), totals.unread) {
        (true, _) => Ending::Differences,
        (false, 0) => Ending::Done,
        (false, _) => Ending::Inconclusive,
    }
}

/// Tells people or machines how it goes.
struct Teller {
    json: bool,
    terminal: bool,
    show_values: bool,
    limit: u64,
    shown: u64,
    told: Instant,
}

// === impl Teller ===

impl Teller {
    fn tell(&mut self, event: &Event<'_>) {
        if self.json {
            return self.tell_json(event);
        }
        match event {
            Event::Begun { table, unserved, .. } => {
                self.shown = 0;
                if *unserved {
                    self.line(&format!(
                        "{table}: its key is not indexed COLLATE \"C\" on both sides; each chunk \
                         is a scan of the whole table"
                    ));
                }
            }
            Event::Chunk { table, done, totals } => {
                for finding in &done.findings {
                    self.shown += 1;
                    if self.shown <= self.limit {
                        self.line(&format!("  {}", self.finding(table, finding)));
                    }
                }
                let pause = if self.terminal { REDRAWN } else { LINES };
                if self.told.elapsed() >= pause {
                    self.told = Instant::now();
                    let progress = format!("{table}: {} …", figures(totals));
                    if self.terminal {
                        print::out(&format!("{CLEAR_LINE}{progress}"));
                    } else {
                        self.line(&progress);
                    }
                }
            }
            Event::Ended { table, totals, failed } => {
                if self.shown > self.limit {
                    let more = count(self.shown - self.limit);
                    self.line(&format!("  … and {more} more; see --limit"));
                }
                let verdict = match failed {
                    Some(why) => format!("not verified: {why}"),
                    None => format!("{}; {}", verdict(totals), figures(totals)),
                };
                self.line(&format!("{table}: {verdict}"));
            }
        }
    }

    fn line(&self, text: &str) {
        let clear = if self.terminal { CLEAR_LINE } else { "" };
        print::out(&format!("{clear}{text}\n"));
    }

    fn value(&self, value: Option<&String>) -> String {
        match value {
            None => "NULL".to_owned(),
            Some(value) if self.show_values => format!("{value:?}"),
            Some(value) => redacted(value),
        }
    }

    fn finding(&self, table: &TableName, finding: &Finding) -> String {
        let key = finding.key.join(", ");
        let what = match &finding.what {
            Discrepancy::Different(cells) => {
                let cells: Vec<String> = cells.iter().map(|cell| self.cell(cell)).collect();
                cells.join("; ")
            }
            Discrepancy::Missing => "the shadow does not have it".to_owned(),
            Discrepancy::Uncopied => "the backfill has not come to it".to_owned(),
            Discrepancy::Extra => "only the shadow has it".to_owned(),
            Discrepancy::Unread { reason } => format!("it cannot be read {reason}"),
            Discrepancy::Pending { attempts: 0, .. } => {
                "it waits in the outbox to be reconciled".to_owned()
            }
            Discrepancy::Pending { attempts, last_error } => {
                format!("it waits in the outbox after {attempts} failed attempts: {last_error}")
            }
        };
        let repair = match &finding.repair {
            Repair::None => String::new(),
            Repair::Done => " (repaired)".to_owned(),
            Repair::Failed(why) => format!(" (not repaired: {why})"),
        };
        format!("{} {table} ({key}): {what}{repair}", finding.what.as_str())
    }

    fn cell(&self, cell: &CellDifference) -> String {
        let (one, other) = (self.value(cell.primary.as_ref()), self.value(cell.shadow.as_ref()));
        format!("{}: primary {one}, shadow {other}", cell.column)
    }

    fn end(&self, totals: &Totals, interrupted: bool) {
        if self.json {
            let mut document = document(totals);
            document["event"] = json!("done");
            document["interrupted"] = json!(interrupted);
            return print::out(&format!("{document}\n"));
        }
        let stopped = if interrupted { "interrupted; " } else { "" };
        self.line(&format!("{stopped}all: {}; {}", verdict(totals), figures(totals)));
        let _ = std::io::stdout().flush();
    }

    fn tell_json(&self, event: &Event<'_>) {
        let document = match event {
            Event::Begun { table, rows_estimate, unserved } => json!({
                "event": "table",
                "table": table.to_string(),
                "rows_estimate": rows_estimate,
                "unserved": unserved,
            }),
            Event::Chunk { table, done, .. } => {
                for finding in &done.findings {
                    print::out(&format!("{}\n", self.finding_json(table, finding)));
                }
                json!({
                    "event": "chunk",
                    "table": table.to_string(),
                    "after": done.range.after,
                    "until": done.range.until,
                    "rows": done.rows,
                    "rows_read": done.rows_read,
                    "moving": done.moving,
                    "equal": done.is_equal(),
                })
            }
            Event::Ended { table, totals, failed } => {
                let mut document = document(totals);
                document["event"] = json!("table_done");
                document["table"] = json!(table.to_string());
                document["error"] = json!(failed);
                document
            }
        };
        print::out(&format!("{document}\n"));
    }

    fn finding_json(&self, table: &TableName, finding: &Finding) -> Value {
        let mut document = json!({
            "event": "finding",
            "table": table.to_string(),
            "key": finding.key,
            "what": finding.what.as_str(),
        });
        let value = |value: Option<&String>| match value {
            None => Value::Null,
            Some(value) if self.show_values => json!(value),
            Some(value) => json!(redacted(value)),
        };
        match &finding.what {
            Discrepancy::Different(cells) => {
                let cell = |cell: &CellDifference| {
                    json!({
                        "column": cell.column,
                        "primary": value(cell.primary.as_ref()),
                        "shadow": value(cell.shadow.as_ref()),
                    })
                };
                document["columns"] = cells.iter().map(cell).collect();
            }
            Discrepancy::Pending { attempts, last_error } => {
                document["attempts"] = json!(attempts);
                document["last_error"] = json!(last_error);
            }
            Discrepancy::Unread { reason } => document["reason"] = json!(reason),
            Discrepancy::Missing | Discrepancy::Uncopied | Discrepancy::Extra => {}
        }
        match &finding.repair {
            Repair::None => {}
            Repair::Done => document["repaired"] = json!(true),
            Repair::Failed(why) => {
                document["repaired"] = json!(false);
                document["repair_error"] = json!(why);
            }
        }
        document
    }
}

fn verdict(totals: &Totals) -> String {
    let mut parts = Vec::new();
    if totals.data > 0 {
        parts.push(counted(totals.data, "difference"));
    }
    if totals.uncopied > 0 {
        parts.push(format!("{} not copied yet", counted(totals.uncopied, "row")));
    }
    if totals.pending > 0 {
        parts.push(format!("{} unsettled", counted(totals.pending, "row")));
    }
    if totals.unread > 0 {
        parts.push(format!("{} not verified", counted(totals.unread, "row")));
    }
    if totals.repaired > 0 {
        parts.push(format!("{} repaired", counted(totals.repaired, "row")));
    }
    if totals.moving > 0 {
        parts.push(format!("{} written all the while", counted(totals.moving, "row")));
    }
    if totals.is_equal() {
        let word = if totals.failed > 0 { "what was verified is equal" } else { "equal" };
        parts.insert(0, word.to_owned());
    }
    parts.join(", ")
}

fn figures(totals: &Totals) -> String {
    let elapsed = totals.elapsed.as_secs_f64();
    let rate = if elapsed > 0.0 { totals.rows as f64 / elapsed } else { 0.0 };
    let read = match totals.rows_read {
        0 => String::new(),
        read => format!(", {} read one by one ({})", count(read), bytes(totals.bytes_read)),
    };
    let rows = counted(totals.rows, "row");
    format!("{rows} in {} ({} rows/s){read}", seconds(elapsed), count(rate as u64))
}

fn document(totals: &Totals) -> Value {
    json!({
        "equal": totals.is_equal() && totals.failed == 0,
        "chunks": totals.chunks,
        "chunks_differing": totals.differing,
        "rows": totals.rows,
        "rows_read": totals.rows_read,
        "bytes_read": totals.bytes_read,
        "differences": totals.data,
        "uncopied": totals.uncopied,
        "pending": totals.pending,
        "unread": totals.unread,
        "moving": totals.moving,
        "repaired": totals.repaired,
        "failed": totals.failed,
        "elapsed_s": totals.elapsed.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teller(show_values: bool) -> Teller {
        Teller {
            json: false,
            terminal: false,
            show_values,
            limit: 10,
            shown: 0,
            told: Instant::now(),
        }
    }

    #[test]
    fn values_are_redacted_unless_asked_for() {
        let cell = CellDifference {
            column: "note".to_owned(),
            primary: Some(String::new()),
            shadow: None,
        };
        let finding = Finding {
            key: vec!["7".to_owned()],
            what: Discrepancy::Different(vec![cell]),
            repair: Repair::None,
        };
        let table = TableName::new("app", "item");
        assert_eq!(
            teller(true).finding(&table, &finding),
            "different app.item (7): note: primary \"\", shadow NULL"
        );
        let redacted = teller(false).finding(&table, &finding);
        assert!(!redacted.contains('"') && redacted.contains("0 characters"), "{redacted}");
        let json = teller(false).finding_json(&table, &finding);
        assert_eq!(json["columns"][0]["shadow"], Value::Null);
    }

    #[test]
    fn a_run_that_found_nothing_says_so() {
        assert_eq!(verdict(&Totals::default()), "equal");
        let totals = Totals { data: 1, pending: 2, repaired: 3, ..Totals::default() };
        assert_eq!(verdict(&totals), "1 difference, 2 rows unsettled, 3 rows repaired");
    }
}
