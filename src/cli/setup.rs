//! `segue init` and `segue capture`.

use anyhow::{Context, Result, anyhow};

use crate::cli::args::CaptureCommand;
use crate::cli::{Refused, print};
use crate::config::{Config, Sources};
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::postgres::connect::Connector;
use crate::postgres::dsn::Dsn;
use crate::postgres::schema::{self, Flavour, Permission};
use crate::postgres::settings::Purpose;

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
    // If we crash between the two sides, one has its tables and the other does not: the next
    // init finds that and goes on.
    for side in [Side::Source, Side::Target] {
        let mut session = connector(&config, side)?.connect(Purpose::Own).await?;
        let done = schema::migrate(&mut session, side, Permission::Change).await?;
        print::out(&match (done.from, done.to) {
            (from, to) if from == to => format!("{side}: segue's tables are of version {to}\n"),
            (0, to) => format!("{side}: made segue's tables, version {to}\n"),
            (from, to) => format!("{side}: segue's tables went from version {from} to {to}\n"),
        });
    }
    match phase {
        None | Some(Phase::SourceOnly) => Ok(()),
        // Entering such a phase without capture would lose writes in silence.
        Some(phase) => anyhow::bail!("this build cannot install capture, so {phase} was not set"),
    }
}

fn connector(config: &Config, side: Side) -> Result<Connector> {
    let database = config.database(side);
    // The variables of libpq are in the string already, where they count.
    let mut dsn = Dsn::parse(database.conninfo.expose(), |_| None)
        .with_context(|| format!("{side}: the connection cannot be made"))?;
    if let Some(file) = &database.password_file {
        dsn = dsn.with_password_file(file);
    }
    Connector::new(side, dsn).map_err(|error| anyhow!("{side}: {error}"))
}

pub(super) async fn capture(sources: &Sources, _command: CaptureCommand) -> Result<()> {
    let _config = Config::load(sources)?;
    anyhow::bail!("this build cannot install capture")
}
