//! Flags of the commands that change where the migration stands.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::domain::control::{Phase, UnknownPhase};

/// The longest that writes may be asked to wait.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// A change of the primary.
#[derive(Debug, Args)]
pub(super) struct CutoverArgs {
    /// Do everything but the flip
    #[arg(long)]
    pub(super) rehearse: bool,
    /// Whatever the gates say, but those of the fleet and the outbox; recorded with who and why
    #[arg(long, requires = "reason")]
    pub(super) force: bool,
    /// The longest that a write may wait
    #[arg(long, default_value = "5s", value_parser = pause)]
    pub(super) max_pause: Duration,
    /// Without asking
    #[arg(long)]
    pub(super) yes: bool,
    /// Each event as a line of JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) asked: AskedArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum PhaseCommand {
    /// Go on to the next phase, if its gates allow it
    Advance {
        /// The phase that should be next; refused where another one is
        #[arg(long, value_parser = phase)]
        to: Option<Phase>,
        /// Whatever the gates say; recorded with who and why
        #[arg(long, requires = "reason")]
        force: bool,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Go back to the phase before
    Back {
        /// From dual_write: what was copied is given up
        #[arg(long)]
        give_up_copy: bool,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Send so many reads to the target, and hold the schedule there
    Percentage {
        /// 0 to 100
        #[arg(value_parser = percentage)]
        percent: f64,
        #[command(flatten)]
        asked: AskedArgs,
    },
    /// Let the schedule go on
    Resume {
        #[command(flatten)]
        asked: AskedArgs,
    },
}

/// Who asks, and why.
#[derive(Debug, Args)]
pub(super) struct AskedArgs {
    /// Why; kept on record
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// Who says so [default: the user]
    #[arg(
        long = "by",
        env = "USER",
        default_value = "unknown",
        hide_default_value = true,
        hide_env = true
    )]
    pub(super) by: String,
}

pub(super) fn phase(text: &str) -> Result<Phase, String> {
    text.parse().map_err(|error: UnknownPhase| error.to_string())
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
