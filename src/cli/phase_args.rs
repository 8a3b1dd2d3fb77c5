//! Flags of the commands that change where the migration stands.

use std::convert::Infallible;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::domain::control::{Phase, UnknownPhase};

/// The longest that writes may be asked to wait.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// A change of the primary.
#[derive(Debug, Args)]
pub(super) struct CutoverArgs {
    /// Dry run: every step except the switch. Writes wait as in a cutover
    #[arg(long)]
    pub(super) rehearse: bool,
    /// Ignore failing gates, except *settled* and *outbox*; requires --reason, recorded
    #[arg(long, requires = "reason")]
    pub(super) force: bool,
    /// The longest that a write may wait; called off beyond it
    #[arg(long, default_value = "5s", value_parser = pause)]
    pub(super) max_pause: Duration,
    /// Do not ask for confirmation
    #[arg(long)]
    pub(super) yes: bool,
    /// Print JSON, one event per line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) reach: ReachArgs,
    #[command(flatten)]
    pub(super) asked: AskedArgs,
}

/// What is done when the connection to the sidecar is lost.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct ReachArgs {
    /// For how long to try to reach the sidecar again; the operation goes on meanwhile
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(super) reconnect: Duration,
}

#[derive(Debug, Subcommand)]
pub(super) enum PhaseCommand {
    /// Enter the next phase, if its gates allow it
    Advance {
        /// The phase that you expect to be next; refused if another one is
        #[arg(long, value_parser = phase)]
        to: Option<Phase>,
        /// Ignore failing gates, except *settled*; requires --reason, recorded
        #[arg(long, requires = "reason")]
        force: bool,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Return to the previous phase
    Back {
        /// Discard the copy and stop capturing; without it dual_write is not left
        #[arg(long)]
        give_up_copy: bool,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Send this share of reads to the target, and hold the schedule there
    Percentage {
        /// 0 to 100
        #[arg(value_parser = percentage)]
        percent: f64,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Let the schedule continue
    Resume {
        #[command(flatten)]
        asked: AskedArgs,
    },
}

/// Who asks, and why.
#[derive(Debug, Args)]
pub(super) struct AskedArgs {
    /// Why; recorded
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// Who decides; recorded [default: the user]
    #[arg(
        long,
        env = "USER",
        default_value = "unknown",
        hide_default_value = true,
        hide_env = true
    )]
    pub(super) actor: String,
}

fn phase(text: &str) -> Result<Phase, String> {
    text.parse().map_err(|error: UnknownPhase| error.to_string())
}

/// `segue init` changes no phase.
pub(super) fn phase_of_init(_: &str) -> Result<Infallible, String> {
    let message = "init leaves the phase as it is; phases change by `segue phase advance` and \
                   `segue phase back`, while a sidecar runs";
    Err(message.to_owned())
}

fn percentage(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("is not between 0 and 100".to_owned()),
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(pause) if !pause.is_zero() && pause <= PAUSE_MAX => Ok(pause),
        Ok(_) => Err("is not between 1ms and 10m".to_owned()),
        Err(error) => Err(format!("{error}; write 5s or 800ms")),
    }
}
