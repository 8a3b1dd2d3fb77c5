//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::backfill::BackfillArgs;
use crate::cli::drift::DriftCommand;
use crate::cli::phase_args::{AskedArgs, CutoverArgs, PhaseCommand, phase};
use crate::config::Sources;
use crate::domain::control::Phase;
use crate::domain::verdict::Verdict;

/// Moves a live application from one Postgres-wire database to another.
#[derive(Debug, Parser)]
#[command(version = crate::telemetry::BUILD, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, \
                        3 there are differences to look at, 4 refused, \
                        5 there is too little evidence.")]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// The configuration [default: segue.toml where there is one]
    #[arg(long, short, global = true, env = "SEGUE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets a key of the configuration, such as `outbox.max_bytes=2GiB`
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Where operators call: `listen.admin`
    #[arg(long, global = true, value_name = "HOST:PORT")]
    admin: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the sidecar until SIGTERM
    Serve,
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make segue's own tables on both sides, and install capture
    Init {
        /// Set the phase of this migration
        #[arg(long, value_parser = phase)]
        phase: Option<Phase>,
        /// Show the SQL and change nothing
        #[arg(long)]
        print: bool,
    },
    /// Go on with a database that the sidecars refuse
    #[command(subcommand)]
    Adopt(AdoptCommand),
    /// Find what stands in the migration's way, before it begins
    Check(CheckArgs),
    /// The triggers that record what was written
    #[command(subcommand)]
    Capture(CaptureCommand),
    /// Copy the rows that were there before the writes were captured; safe to repeat
    Backfill(Box<BackfillArgs>),
    /// Where the migration stands
    Status {
        /// Again every second, until interrupted
        #[arg(long, short)]
        watch: bool,
        /// As JSON, one document a line
        #[arg(long)]
        json: bool,
    },
    /// The phase of the migration and its gates: shown, or changed
    #[command(args_conflicts_with_subcommands = true)]
    Phase {
        #[command(subcommand)]
        command: Option<PhaseCommand>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the target the primary: about a second in which writes wait, and no error
    Cutover(CutoverArgs),
    /// Make the source the primary again: the same with the sides exchanged
    Rollback(CutoverArgs),
    /// End the migration: the source is not kept current any more
    Complete {
        /// Without asking
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// What was changed, by whom and why, latest first
    History {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// How many to show
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// What the two sides answer differently, most frequent first
    #[command(args_conflicts_with_subcommands = true)]
    Mismatches {
        #[command(subcommand)]
        command: Option<MismatchesCommand>,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// How many to show
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Programs that wrote on the side that follows, past segue
    #[command(args_conflicts_with_subcommands = true)]
    Drift {
        #[command(subcommand)]
        command: Option<DriftCommand>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Whether both sides hold the same rows
    Verify(VerifyArgs),
    /// The tables of the migration, and those that leave it
    #[command(args_conflicts_with_subcommands = true)]
    Tables {
        #[command(subcommand)]
        command: Option<TablesCommand>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// What waits to be reconciled
    Outbox {
        #[command(subcommand)]
        command: Option<OutboxCommand>,
        /// Only what has failed: what is stuck, and what is tried again
        #[arg(long)]
        stuck: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
        /// How many to show
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 equal, 1 not all could be verified, 2 wrong usage, \
                        3 there are differences.")]
pub(super) struct VerifyArgs {
    /// Only this table, and others that are named so [default: all of the migration]
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    pub(super) tables: Vec<String>,
    /// Only this share of the chunks, chosen by chance: `1%` or `0.01`
    #[arg(long, value_name = "SHARE", default_value = "100%", value_parser = share)]
    pub(super) sample: f64,
    /// Reconcile rows that differ, and verify them again
    #[arg(long)]
    pub(super) repair: bool,
    /// Go on for ever, at a bounded load: what was written since it was proven comes first
    #[arg(long, conflicts_with = "sample")]
    pub(super) continuous: bool,
    /// With --continuous: the share of the time in which chunks are read
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    pub(super) load: f64,
    /// With --continuous: when a chunk that nobody wrote to is read again
    #[arg(long, default_value = "1day", value_parser = humantime::parse_duration)]
    pub(super) again_after: std::time::Duration,
    /// As JSON, one event a line
    #[arg(long)]
    pub(super) json: bool,
    /// Rows that are added up at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub(super) chunk_rows: u64,
    /// Chunks at once; each takes a session on either side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) workers: u16,
    /// How long a row that waits to be reconciled is looked at again
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(super) wait: std::time::Duration,
    /// Differences that are shown of each table; all of them are counted
    #[arg(long, default_value_t = 100)]
    pub(super) limit: u64,
}

/// The two databases, for commands that need no configuration file.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct DatabaseArgs {
    /// The database being left: `source.dsn`
    #[arg(long, value_name = "DSN")]
    pub(super) source: Option<String>,
    /// The database being moved to: `target.dsn`
    #[arg(long, value_name = "DSN")]
    pub(super) target: Option<String>,
}

/// What `segue check` takes.
#[derive(Debug, Clone, Args)]
pub(super) struct CheckArgs {
    /// Only this table of the source; may be given again
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    pub(super) tables: Vec<String>,
    #[command(flatten)]
    pub(super) databases: DatabaseArgs,
    /// Rows of one chunk of the backfill
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) chunk_rows: u64,
    /// Rows a second that the time is estimated by
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rows_per_s: u64,
    /// MiB a second that the time is estimated by
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) mb_per_s: u64,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print all that can be found, as docs/reference/check.md has it, and ask nobody
    #[arg(long)]
    pub(super) list: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check it, and print it as it is in force
    Check,
    /// Print every key, as docs/reference/configuration.md has them
    Keys,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum CaptureCommand {
    /// Put the triggers in place; safe to repeat
    Install {
        /// Show the SQL and change nothing
        #[arg(long)]
        print: bool,
    },
    /// Take the triggers away; safe to repeat
    Remove,
    /// Show the SQL that installs them
    Print,
}

#[derive(Debug, Subcommand)]
pub(super) enum MismatchesCommand {
    /// Take findings off the list; kept on record with who and why
    Resolve {
        /// The id that `segue mismatches` shows
        fingerprint: String,
        /// Only this verdict of it: `data`, `incompatible`, `error`
        #[arg(long, value_parser = verdict)]
        verdict: Option<Verdict>,
        /// Why nobody has to look at it any more
        #[arg(long)]
        reason: String,
        /// Who says so [default: the user]
        #[arg(
            long = "by",
            env = "USER",
            default_value = "unknown",
            hide_default_value = true,
            hide_env = true
        )]
        by: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TablesCommand {
    /// List them with what waits for each
    List,
    /// Take a table out of the migration that is gone, or that the configuration excludes
    ///
    /// Its keys are settled and its writes no longer captured; recorded in the history.
    Retire {
        /// The table, as the source names it
        #[arg(value_name = "SCHEMA.TABLE")]
        table: String,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Make a retired table part of the migration again: captured, and copied whole
    Adopt {
        /// The table, as the source names it
        #[arg(value_name = "SCHEMA.TABLE")]
        table: String,
        #[command(flatten)]
        asked: AskedArgs,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum OutboxCommand {
    /// Make waiting keys due now
    Replay {
        /// Only of this table
        #[arg(long, value_name = "SCHEMA.TABLE")]
        table: Option<String>,
    },
}

// === impl Settings ===

const CONFIG_DEFAULT: &str = "segue.toml";

impl Settings {
    /// What the configuration is gathered from.
    pub(super) fn sources(&self) -> Sources {
        let present = || PathBuf::from(CONFIG_DEFAULT).exists();
        let file = self.config.clone().or_else(|| present().then(|| CONFIG_DEFAULT.into()));
        let set = self.set.iter();
        let mut flags: Vec<_> =
            set.map(|(key, value)| (key.clone(), value.clone(), format!("--set {key}"))).collect();
        if let Some(address) = &self.admin {
            flags.push(("listen.admin".to_owned(), address.clone(), "--admin".to_owned()));
        }
        // What is not UTF-8 cannot be a value of ours.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Sources { file, variables: std::env::vars_os().filter_map(text).collect(), flags }
    }
}

/// The configuration's sources with the databases that the command line names.
pub(super) fn with_databases(sources: &Sources, named: &DatabaseArgs) -> Sources {
    let mut sources = sources.clone();
    for (side, dsn) in [("source", &named.source), ("target", &named.target)] {
        if let Some(dsn) = dsn {
            sources.flags.push((format!("{side}.dsn"), dsn.clone(), format!("--{side}")));
        }
    }
    sources
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.trim().strip_suffix('%') {
        Some(number) => (number.trim(), 100.0),
        None => (text.trim(), 1.0),
    };
    let share: Option<f64> = number.parse().ok().map(|number: f64| number / unit);
    let fits = |share: &f64| *share > 0.0 && *share <= 1.0;
    share.filter(fits).ok_or_else(|| "is no share; write 1% or 0.01".to_owned())
}

fn verdict(text: &str) -> Result<Verdict, String> {
    text.parse().map_err(|()| "is no verdict; write data, incompatible or error".to_owned())
}

#[derive(Debug, Subcommand)]
pub(super) enum AdoptCommand {
    /// Make the database of `target.dsn` the target: its copy begins again, in dual_write. Stop the
    /// sidecars first; the target that there was is left as it is
    Target {
        /// Why; kept on record
        #[arg(long)]
        reason: String,
        /// Without asking
        #[arg(long)]
        yes: bool,
    },
    /// Go on with a primary that went back in time, or is elsewhere than it was: what it lost stays
    /// lost, and the other side is made equal to it
    Primary {
        /// Why; kept on record
        #[arg(long)]
        reason: String,
        /// Without asking
        #[arg(long)]
        yes: bool,
    },
}
