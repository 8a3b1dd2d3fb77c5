//! The commands. The only place for `anyhow`, and for printing.

mod admin;
mod adopt;
mod args;
mod backfill;
mod check;
mod config;
mod cutover;
mod drift;
mod examples;
mod groups;
mod mismatches;
#[cfg(test)]
mod names;
mod operation;
mod operation_text;
mod outbox;
mod phase;
mod phase_args;
mod print;
mod proofs;
#[cfg(test)]
mod reference;
mod serve;
mod setup;
mod signals;
mod status;
mod tables;
mod verify;
mod words;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::FromArgMatches;
use prost::Message;
use tonic::Code;

use crate::app::AppError;
use crate::config::Sources;
use crate::domain::side::Side;
use crate::grpc::proto::SqlError;
use args::{Cli, Command, ConfigCommand, OutboxCommand};

/// How a command ended, short of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As it should.
    Done,
    /// There are differences that somebody has to look at.
    Differences,
    /// It was asked to stop before its end, and did.
    Incomplete,
    /// A gate refused.
    Refused,
    /// A gate could not tell.
    Inconclusive,
}

/// Segue or a database said no, and would say it again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

const FAILED: u8 = 1;
const DIFFERENCES: u8 = 3;
const REFUSED: u8 = 4;
const INCONCLUSIVE: u8 = 5;

/// Runs the command line. Wrong usage ends with 2, by way of clap.
pub fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&examples::matches()).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Differences) => ExitCode::from(DIFFERENCES),
        Ok(Ending::Incomplete) => ExitCode::from(FAILED),
        Ok(Ending::Refused) => ExitCode::from(REFUSED),
        Ok(Ending::Inconclusive) => ExitCode::from(INCONCLUSIVE),
        Err(error) => {
            // Nothing sensible is left to do when the output cannot be written.
            let _ = writeln!(std::io::stderr(), "segue: {}", explained(&error));
            ExitCode::from(if is_refusal(&error) { REFUSED } else { FAILED })
        }
    }
}

fn run(cli: Cli) -> Result<Ending> {
    let sources = cli.settings.sources();
    match cli.command {
        Command::Config(ConfigCommand::Check) => config::check(&sources).map(|()| Ending::Done),
        Command::Config(ConfigCommand::Keys) => {
            config::list();
            Ok(Ending::Done)
        }
        command => {
            let runtime = runtime().enable_all().build();
            runtime.context("the runtime cannot be started")?.block_on(talk(command, &sources))
        }
    }
}

/// A runtime of so many threads as `TOKIO_WORKER_THREADS` says, or as are good for a sidecar.
/// A single one is the present thread: it wakes no other, and takes tasks in their order, so
/// that what many calls have to send goes out together.
fn runtime() -> tokio::runtime::Builder {
    // Tokio's own variable goes before; tokio says what is wrong with it.
    if std::env::var_os("TOKIO_WORKER_THREADS").is_some() {
        return tokio::runtime::Builder::new_multi_thread();
    }
    match worker_threads() {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    }
}

/// Half of the processors: a sidecar shares its machine, and threads that hand calls to each
/// other spend more than they gain.
fn worker_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().div_ceil(2))
}

/// The commands that talk to somebody.
async fn talk(command: Command, sources: &Sources) -> Result<Ending> {
    match command {
        // Handled without a runtime.
        Command::Config(_) => {}
        Command::Serve => serve::run(sources).await?,
        Command::Init { phase: None, print } => setup::init(sources, print).await?,
        Command::Adopt(command) => adopt::run(sources, command).await?,
        Command::Capture(command) => setup::capture(sources, command).await?,
        Command::Backfill(args) => return Box::pin(backfill::run(sources, &args)).await,
        Command::Check(args) => check::run(sources, args).await?,
        Command::Status { watch, json } => {
            status::run(&mut admin::connect(sources).await?, watch, json).await?;
        }
        Command::Phase { command: None, json } => {
            phase::show(&mut admin::connect(sources).await?, json).await?;
        }
        Command::Phase { command: Some(command), json } => {
            return phase::change(&mut admin::connect(sources).await?, command, json).await;
        }
        Command::Cutover(args) => {
            return cutover::run(&mut admin::connect(sources).await?, Side::Target, args).await;
        }
        Command::Rollback(args) => {
            return cutover::run(&mut admin::connect(sources).await?, Side::Source, args).await;
        }
        Command::Operation(command) => {
            return operation::run(&mut admin::connect(sources).await?, command).await;
        }
        Command::Complete { yes, asked } => {
            return cutover::complete(&mut admin::connect(sources).await?, yes, asked).await;
        }
        Command::History { json, limit } => {
            phase::history(&mut admin::connect(sources).await?, json, limit).await?;
        }
        Command::Mismatches { command: Some(command), json, .. } => {
            mismatches::resolve(&mut admin::connect(sources).await?, command, json).await?;
        }
        Command::Mismatches { command: None, json, limit } => {
            return mismatches::run(&mut admin::connect(sources).await?, json, limit).await;
        }
        Command::Drift { command: Some(command), json } => {
            drift::resolve(&mut admin::connect(sources).await?, command, json).await?;
        }
        Command::Drift { command: None, json } => {
            return drift::list(&mut admin::connect(sources).await?, json).await;
        }
        Command::Verify(args) => return Box::pin(verify::run(sources, args)).await,
        Command::Tables { command, json } => tables::run(sources, command, json).await?,
        Command::Outbox { command: Some(OutboxCommand::Retry { table }), json, .. } => {
            outbox::retry(&mut admin::connect(sources).await?, table, json).await?;
        }
        Command::Outbox { command: None, stuck, json, limit } => {
            outbox::list(&mut admin::connect(sources).await?, stuck, json, limit).await?;
        }
    }
    Ok(Ending::Done)
}

/// The error with its causes. A gRPC status is told by its message, which is for people.
fn explained(error: &anyhow::Error) -> String {
    if let Some(status) = error.downcast_ref::<tonic::Status>() {
        let way_out = match status.code() {
            Code::Unauthenticated => "; see listen.admin_token_file".to_owned(),
            _ => hint(status).map(|hint| format!("; {hint}")).unwrap_or_default(),
        };
        return format!("{}{way_out}", status.message());
    }
    format!("{error:#}")
}

/// The way out that segue's own detail names.
fn hint(status: &tonic::Status) -> Option<String> {
    let whole = tonic_types::pb::Status::decode(status.details()).ok()?;
    let detail = whole.details.iter().find(|any| any.type_url.ends_with("segue.v1.SqlError"))?;
    let error = SqlError::decode(&*detail.value).ok()?;
    (!error.hint.is_empty()).then_some(error.hint)
}

fn is_refusal(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<tonic::Status>();
    let refused = [Code::FailedPrecondition, Code::PermissionDenied, Code::Unauthenticated];
    error.is::<Refused>()
        || error.downcast_ref::<AppError>().is_some_and(AppError::is_refusal)
        || status.is_some_and(|status| refused.contains(&status.code()))
}
