//! `segue init` and `segue capture`.

use std::fmt::Write;

use anyhow::Result;

use crate::app::databases::Databases;
use crate::app::setup;
use crate::cli::args::CaptureCommand;
use crate::cli::{Refused, print};
use crate::config::{Config, Sources};
use crate::control::PhaseChange;
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::postgres::capture::Report;
use crate::postgres::schema::{self, Flavour, Permission};

/// Phases that a single sidecar can be set to by hand; the others come about by their own
/// commands, with gates.
const BY_HAND: [Phase; 3] = [Phase::SourceOnly, Phase::DualWrite, Phase::ShadowRead];

pub(super) async fn init(sources: &Sources, phase: Option<Phase>, print: bool) -> Result<()> {
    let config = Config::load(sources)?;
    if let Some(phase) = phase.filter(|phase| !BY_HAND.contains(phase)) {
        let allowed = BY_HAND.map(Phase::as_str).join(", ");
        let message = format!("phase {phase} cannot be set by hand; these can: {allowed}");
        return Err(Refused(message).into());
    }
    if print {
        for side in [Side::Source, Side::Target] {
            print::out(&schema::script(side, Flavour::PostgreSql));
        }
        return Ok(());
    }
    let databases = Databases::open(&config)?;
    let migrated = setup::migrate(&databases, Permission::Change).await?;
    for (side, done) in [(Side::Source, &migrated.source), (Side::Target, &migrated.target)] {
        let what = if done.from == done.to { "was there already" } else { "made" };
        print::out(&format!("{side}: schema segue, version {}: {what}\n", done.to));
    }
    // Capture stands before any phase relies on it.
    show(&setup::install_capture(&config, &databases).await?);
    if let Some(phase) = phase {
        let changed_by = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
        let reason = "segue init".to_owned();
        let change = PhaseChange { phase, reason, changed_by };
        let state = setup::change_phase(&databases, &change).await?;
        print::out(&format!("phase: {} (epoch {})\n", state.phase, state.epoch));
    }
    Ok(())
}

pub(super) async fn capture(sources: &Sources, command: CaptureCommand) -> Result<()> {
    let config = Config::load(sources)?;
    let databases = Databases::open(&config)?;
    match command {
        CaptureCommand::Install { print: false } => {
            show(&setup::install_capture(&config, &databases).await?);
        }
        CaptureCommand::Install { print: true } | CaptureCommand::Print => {
            print::out(&setup::print_capture(&config, &databases).await?);
        }
        CaptureCommand::Remove => {
            let tables = setup::remove_capture(&databases).await?;
            print::out(&format!("capture removed from {tables} tables\n"));
        }
    }
    Ok(())
}

fn show(report: &Report) {
    let mut text = String::new();
    for captured in &report.captured {
        let what = if captured.changed { "installed" } else { "was there already" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "capture on {}: {what}", captured.mapping.source);
    }
    for refused in &report.refused {
        let _ = writeln!(text, "not migrated: {} ({})", refused.message, refused.reason);
    }
    print::out(&text);
}
