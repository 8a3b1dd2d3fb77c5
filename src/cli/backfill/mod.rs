//! `segue backfill`.

mod figures;
mod show;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::app::operations::backfill::{self, Options, Prepared, Told};
use crate::cli::args::{self, DatabaseArgs};
use crate::cli::print::{self, bytes, count, counted, table};
use crate::cli::{Ending, Refused, serve, signals};
use crate::config::{Config, Sources};
use crate::domain::backfill::{Load, TablePlan, TableProgress};
use crate::jobs::backfill as jobs;
use crate::preflight::Code;
use crate::telemetry::setup::Tracing;
use show::Show;

/// What `segue backfill` takes.
#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    /// Only this table of the source; may be given again
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Vec<String>,
    /// Rows per chunk [default: backfill.chunk_rows, 10000]
    #[arg(long, value_name = "N")]
    chunk_rows: Option<u64>,
    /// Chunks that this process copies at once [default: backfill.workers, 4]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Copy at most this many rows per second in this process [default: no limit]
    #[arg(long, value_name = "N")]
    max_rows_per_s: Option<u64>,
    /// Copy at most this many megabytes per second in this process [default: no limit]
    #[arg(long, value_name = "N")]
    max_mb_per_s: Option<u64>,
    /// Keep the state in this file instead of on the target; only one process can work then
    #[arg(long, value_name = "FILE")]
    checkpoint_file: Option<PathBuf>,
    /// Write rows by INSERT instead of COPY, as is always done on CockroachDB; slower
    #[arg(long)]
    by_insert: bool,
    /// Print what would be copied, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON, one document per line
    #[arg(long)]
    json: bool,
    /// Copy without capture. Only safe if no one writes to the source until the copy has ended
    #[arg(long)]
    source_is_idle: bool,
    /// Empty the target's tables of this copy first, and start the copy again
    #[arg(long)]
    empty_target: bool,
    /// Start in spite of this finding of `segue check`; rows that the target refuses are listed in
    /// the outbox. May be given again
    #[arg(long, value_name = "FINDING", value_parser = acceptable)]
    accept: Vec<Code>,
    #[command(flatten)]
    databases: DatabaseArgs,
}

fn acceptable(text: &str) -> Result<Code, String> {
    let code = Code::ALL.iter().find(|code| code.as_str() == text);
    let code = code.ok_or("is no finding of segue check; see segue check --list")?;
    if code.may_be_accepted() {
        return Ok(*code);
    }
    let which: Vec<&str> =
        Code::ALL.iter().filter(|code| code.may_be_accepted()).map(|code| code.as_str()).collect();
    Err(format!("cannot be passed over; these can: {}", which.join(", ")))
}

impl BackfillArgs {
    /// The flags that stand for keys of the configuration.
    fn settings(&self) -> Vec<(String, String, String)> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let given = [
            ("backfill.chunk_rows", number(self.chunk_rows), "--chunk-rows"),
            ("backfill.workers", number(self.workers.map(u64::from)), "--workers"),
            ("backfill.max_rows_per_s", number(self.max_rows_per_s), "--max-rows-per-s"),
            ("backfill.max_mb_per_s", number(self.max_mb_per_s), "--max-mb-per-s"),
        ];
        let flag = |(key, value, flag): (&str, Option<String>, &str)| {
            Some((key.to_owned(), value?, flag.to_owned()))
        };
        given.into_iter().filter_map(flag).collect()
    }

    fn options(&self) -> Options {
        Options {
            tables: self.table.clone(),
            checkpoint: self.checkpoint_file.clone(),
            source_is_idle: self.source_is_idle,
            empty_target: self.empty_target,
            dry_run: self.dry_run,
            load: if self.by_insert { Load::Insert } else { Load::Copy },
            accepted: self.accept.clone(),
        }
    }
}

pub(super) async fn run(sources: &Sources, given: &BackfillArgs) -> Result<Ending> {
    let mut sources = args::with_databases(sources, &given.databases);
    sources.flags.extend(given.settings());
    let config = Config::load(&sources)?;
    let (tracing, dispatch) =
        Tracing::start(&serve::telemetry(&quiet(&config)), Box::new(std::io::stderr()))?;
    tracing::dispatcher::set_global_default(dispatch).context("logs are taken already")?;
    let stop = CancellationToken::new();
    // Nothing is lost by the second either, but the chunks under way are begun again.
    signals::stop_on_signals(&stop, |signal| {
        tracing::warn!(signal, "chunks under way are finished; ask again to end at once");
    })?;
    let ended = copy(&config, given, stop).await;
    tracing.shutdown().await;
    ended
}

/// Beside the progress only what somebody should know is logged, unless more was asked for.
fn quiet(config: &Config) -> crate::config::Telemetry {
    let mut telemetry = config.telemetry.clone();
    if telemetry.log_level == "info" {
        "warn".clone_into(&mut telemetry.log_level);
    }
    telemetry
}

async fn copy(config: &Config, args: &BackfillArgs, stop: CancellationToken) -> Result<Ending> {
    let bars = !args.json && std::io::stderr().is_terminal();
    let show = Arc::new(Show::new(args.json, bars));
    let waiting = Arc::clone(&show);
    let told = move |told: Told<'_>| match told {
        Told::Checked { report, refuses } => waiting.checked(report, refuses),
        Told::WaitsFor(waits) => waiting.waits_for(waits),
    };
    let prepared = match backfill::prepare(config, &args.options(), &stop, told).await? {
        Prepared::Ready(prepared) => prepared,
        Prepared::Refused => {
            let message = "the preflight refuses, and nothing was begun; see segue check";
            return Err(Refused(message.to_owned()).into());
        }
        Prepared::Stopped => {
            show.stopped();
            return Ok(Ending::Incomplete);
        }
    };
    if args.dry_run {
        print::out(&if args.json {
            plan_document(&prepared.plans)
        } else {
            plan_page(&prepared.plans)
        });
        return Ok(Ending::Done);
    }
    let store = Arc::clone(&prepared.store);
    let shown = CancellationToken::new();
    let showing = tokio::spawn(Arc::clone(&show).follow(
        Arc::clone(&store),
        prepared.plans.clone(),
        shown.clone(),
    ));
    let observed = Arc::clone(&show);
    let observer = Arc::new(move |event: &jobs::Event| observed.event(event));
    let ended = prepared.run(observer, stop).await;
    shown.cancel();
    // It only shows; whether it did well matters no more.
    let _ = showing.await;
    let tables = store.progress().await;
    let ending = ended?;
    let tables = tables?;
    show.end(&tables, ending);
    Ok(match ending {
        jobs::Ending::Stopped => Ending::Incomplete,
        jobs::Ending::Complete if failed(&tables) > 0 => Ending::Differences,
        jobs::Ending::Complete => Ending::Done,
    })
}

fn failed(tables: &[TableProgress]) -> u64 {
    tables.iter().map(|table| table.failed).sum()
}

fn plan_page(plans: &[TablePlan]) -> String {
    let row = |plan: &TablePlan| {
        vec![
            plan.mapping.source.to_string(),
            plan.mapping.target.to_string(),
            count(plan.rows_estimated),
            bytes(plan.bytes_estimated),
            count(plan.rows_estimated.div_ceil(plan.chunk_rows).max(1)),
        ]
    };
    let rows: Vec<_> = plans.iter().map(row).collect();
    format!(
        "{}{}, about {} rows; nothing was changed\n",
        table(&["source", "target", "rows", "size", "chunks"], &rows),
        counted(plans.len() as u64, "table"),
        count(plans.iter().map(|plan| plan.rows_estimated).sum())
    )
}

fn plan_document(plans: &[TablePlan]) -> String {
    let table = |plan: &TablePlan| {
        json!({
            "source": plan.mapping.source.to_string(),
            "target": plan.mapping.target.to_string(),
            "rows_estimated": plan.rows_estimated,
            "bytes_estimated": plan.bytes_estimated,
            "chunk_rows": plan.chunk_rows,
        })
    };
    let tables: Vec<_> = plans.iter().map(table).collect();
    format!("{}\n", json!({ "event": "plan", "tables": tables }))
}
