//! The command line.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::backfill::BackfillArgs;
use crate::cli::drift::DriftCommand;
use crate::cli::operation::OperationCommand;
use crate::cli::phase_args::{AskedArgs, CutoverArgs, PhaseCommand, phase_of_init};
use crate::config::Sources;
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
    /// The configuration file [default: segue.toml, if there is one]
    #[arg(long, short, global = true, env = "SEGUE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key of the configuration, such as `outbox.max_bytes=2GiB`; may be given again
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// The address of the sidecar's operator calls [default: listen.admin]
    #[arg(long, global = true, value_name = "HOST:PORT")]
    admin: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the sidecar until SIGTERM
    Serve,
    /// Check the configuration, or list its keys
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Create segue's own tables on both sides, and install capture; safe to repeat
    ///
    /// The first time the migration begins, in phase source_only. Later the phase stays as it is.
    Init {
        // No value is valid: whoever knew the flag is told what changes the phase now.
        #[arg(
            long,
            hide = true,
            num_args = 0..=1,
            default_missing_value = "",
            value_parser = phase_of_init
        )]
        phase: Option<Infallible>,
        /// Print the SQL and the grants, and change nothing
        #[arg(long)]
        print: bool,
    },
    /// Continue with a database that the sidecars refuse
    #[command(subcommand)]
    Adopt(AdoptCommand),
    /// Find what would stop or change the migration; changes nothing
    Check(CheckArgs),
    /// Install, print or remove the triggers that record writes
    #[command(subcommand)]
    Capture(CaptureCommand),
    /// Copy the rows from before writes were captured; safe to repeat and to interrupt
    Backfill(Box<BackfillArgs>),
    /// Show where the migration stands
    Status {
        /// Repeat every second until interrupted
        #[arg(long, short)]
        watch: bool,
        /// Print JSON, one document per line
        #[arg(long)]
        json: bool,
    },
    /// Show the phase and the gates to the next one, or change the phase
    Phase {
        #[command(subcommand)]
        command: Option<PhaseCommand>,
        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
    },
    /// Make the target the primary. Writes wait for at most --max-pause; none fails for it
    Cutover(CutoverArgs),
    /// Make the source the primary again, with no write lost. Writes wait as in a cutover
    Rollback(CutoverArgs),
    /// Follow, list or cancel cutovers, backfills and verifies that run in a sidecar
    #[command(subcommand)]
    Operation(OperationCommand),
    /// End the migration. The source is not kept current any more: there is no way back
    Complete {
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// List what was changed, by whom and why, latest first
    History {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Show at most this many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// List statements that both sides answer differently, most frequent first
    Mismatches {
        #[command(subcommand)]
        command: Option<MismatchesCommand>,
        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
        /// Show at most this many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// List programs that bypassed segue and wrote on the shadow
    Drift {
        #[command(subcommand)]
        command: Option<DriftCommand>,
        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
    },
    /// Compare the rows of both sides; changes nothing without --repair
    Verify(VerifyArgs),
    /// List the tables of the migration, retire one, or adopt one again
    Tables {
        #[command(subcommand)]
        command: Option<TablesCommand>,
        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
    },
    /// List keys that are pending: not reconciled yet
    Outbox {
        #[command(subcommand)]
        command: Option<OutboxCommand>,
        /// Only keys that have failed: stuck, or retried later
        #[arg(long)]
        stuck: bool,
        /// Print JSON
        #[arg(long, global = true)]
        json: bool,
        /// Show at most this many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 equal, 1 not all could be verified, 2 wrong usage, \
                        3 there are differences.")]
pub(super) struct VerifyArgs {
    /// Only this table; may be given again [default: all tables of the migration]
    #[arg(long = "table", value_name = "SCHEMA.TABLE")]
    pub(super) tables: Vec<String>,
    /// Only this share of the chunks, chosen at random: `1%` or `0.01`
    #[arg(long, value_name = "SHARE", default_value = "100%", value_parser = share)]
    pub(super) sample: f64,
    /// Reconcile the rows that differ, and verify them again
    #[arg(long)]
    pub(super) repair: bool,
    /// Continue until stopped, at a bounded load; chunks written since their proof come first
    #[arg(long, conflicts_with = "sample")]
    pub(super) continuous: bool,
    /// With --continuous: the share of the time that is spent reading chunks
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = share)]
    pub(super) load: f64,
    /// With --continuous: read a chunk that no one wrote to again after this time
    #[arg(long, default_value = "1day", value_parser = humantime::parse_duration)]
    pub(super) again_after: std::time::Duration,
    /// Print JSON, one event per line
    #[arg(long)]
    pub(super) json: bool,
    /// Rows per chunk
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub(super) chunk_rows: u64,
    /// Chunks at once; each takes a session on each side
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) workers: u16,
    /// How long a pending row that differs is re-checked before it counts as different
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(super) wait: std::time::Duration,
    /// Differences shown per table; all are counted
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
    /// Rows per chunk of the backfill
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) chunk_rows: u64,
    /// Rows per second to estimate the time with
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rows_per_s: u64,
    /// MiB per second to estimate the time with
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) mb_per_s: u64,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print every finding there is, as docs/reference/check.md has it; asks no database
    #[arg(long)]
    pub(super) list: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the configuration, and print each setting with its origin
    Check,
    /// Print every key with its default, as docs/reference/configuration.md has them
    Keys,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum CaptureCommand {
    /// Install the triggers; safe to repeat
    Install {
        /// Print the SQL and the grants, and change nothing
        #[arg(long)]
        print: bool,
    },
    /// Remove the triggers; safe to repeat. Refused in a phase that relies on them
    Remove,
    /// Print the SQL that installs the triggers
    Print,
}

#[derive(Debug, Subcommand)]
pub(super) enum MismatchesCommand {
    /// Take a finding off the list; recorded with who and why
    Resolve {
        /// The id that `segue mismatches` shows
        fingerprint: String,
        /// Only its entries with this verdict: `data`, `incompatible`, `error`
        #[arg(long, value_parser = verdict)]
        verdict: Option<Verdict>,
        /// Why it needs no attention any more; recorded
        #[arg(long)]
        reason: String,
        /// Who decides; recorded [default: the user]
        #[arg(
            long,
            env = "USER",
            default_value = "unknown",
            hide_default_value = true,
            hide_env = true
        )]
        actor: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TablesCommand {
    /// List the tables with their pending keys
    List,
    /// Take a table that is gone or excluded out of the migration
    ///
    /// Its keys are settled, and its writes are no longer captured; recorded in the history.
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
    /// Make pending keys due now, instead of at the end of their backoff
    Retry {
        /// Only keys of this table
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
    /// Make the database of `target.dsn` the target. The copy starts again, in dual_write. Stop
    /// the sidecars first; the previous target is left as it is
    Target {
        /// Why; recorded
        #[arg(long)]
        reason: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Continue with a primary that was restored, or moved. What it lost stays lost, and the other
    /// side is made equal to it
    Primary {
        /// Why; recorded
        #[arg(long)]
        reason: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
}
