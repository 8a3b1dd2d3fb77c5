//! `segue init` and `segue capture`.

use anyhow::Result;

use crate::cli::args::CaptureCommand;
use crate::cli::{Refused, print};
use crate::config::{Config, Sources};
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::postgres::schema::{self, Flavour};

/// Phases that a single sidecar can be set to by hand; the others come about by their own
/// commands, with gates.
const BY_HAND: [Phase; 3] = [Phase::SourceOnly, Phase::DualWrite, Phase::ShadowRead];

pub(super) async fn init(sources: &Sources, phase: Option<Phase>, print: bool) -> Result<()> {
    let _config = Config::load(sources)?;
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
    anyhow::bail!("this build cannot reach a database")
}

pub(super) async fn capture(sources: &Sources, _command: CaptureCommand) -> Result<()> {
    let _config = Config::load(sources)?;
    anyhow::bail!("this build cannot reach a database")
}
