//! `segue init` and `segue capture`.

use anyhow::{Context, Result, anyhow};

use crate::cli::args::CaptureCommand;
use crate::cli::print::{self, counted};
use crate::cli::{Refused, phase};
use crate::config::{Config, Excluded, Sources, Tables};
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::capture::{self, Params, Refusal, Report};
use crate::postgres::connect::Connector;
use crate::postgres::dsn::Dsn;
use crate::postgres::schema::{self, Flavour, Permission};
use crate::postgres::session::Session;
use crate::postgres::settings::Purpose;

/// Phases that a single sidecar can be set to by hand; the others come about by their own
/// commands, with gates.
const BY_HAND: [Phase; 3] = [Phase::SourceOnly, Phase::DualWrite, Phase::ShadowRead];

/// Segue's own tables on both sides, and, where a phase is named, capture and then the phase.
///
/// If we crash here, whatever was done stands, and the next init goes on from there. The phase
/// comes last: no phase that relies on capture is ever entered without it.
pub(super) async fn init(sources: &Sources, wanted: Option<Phase>, print: bool) -> Result<()> {
    let config = Config::load(sources)?;
    if let Some(phase) = wanted.filter(|phase| !BY_HAND.contains(phase)) {
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
    let mut source = open(&config, Side::Source).await?;
    let mut target = open(&config, Side::Target).await?;
    for (side, session) in [(Side::Source, &mut source), (Side::Target, &mut target)] {
        let done = schema::migrate(session, side, Permission::Change).await?;
        print::out(&match (done.from, done.to) {
            (from, to) if from == to => format!("{side}: segue's tables are of version {to}\n"),
            (0, to) => format!("{side}: made segue's tables, version {to}\n"),
            (from, to) => format!("{side}: segue's tables went from version {from} to {to}\n"),
        });
    }
    let Some(wanted) = wanted else { return Ok(()) };
    if wanted.captures() {
        install(&mut source, &config.tables).await?;
    }
    let epoch = phase::set(&source, &target, wanted).await?;
    print::out(&format!("phase {wanted}, epoch {epoch}\n"));
    if !wanted.captures() {
        // After the phase: until it has changed, writes are still to be captured.
        capture::give_up(&*source).await?;
    }
    Ok(())
}

pub(super) async fn capture(sources: &Sources, command: CaptureCommand) -> Result<()> {
    let config = Config::load(sources)?;
    let mut source = open(&config, Side::Source).await?;
    let params = Params::new(Side::Source);
    match command {
        CaptureCommand::Install { print: false } => install(&mut source, &config.tables).await,
        CaptureCommand::Remove { print: false } => {
            let taken = capture::remove(&mut source, &params).await?;
            print::out(&format!("capture taken away: {}\n", counted(taken, "trigger")));
            Ok(())
        }
        CaptureCommand::Remove { print: true } => {
            // What stands there is known only while it is being taken away.
            Err(Refused("removing cannot be shown; run it without --print".to_owned()).into())
        }
        CaptureCommand::Print | CaptureCommand::Install { print: true } => {
            let (mappings, mut refused) = migrated(&source, &config.tables).await?;
            let (sql, more) = capture::print(&source, &params, &mappings).await?;
            refused.extend(more);
            print::out(&sql);
            tell_refused(&refused, "-- ");
            Ok(())
        }
    }
}

async fn install(source: &mut Session, tables: &Tables) -> Result<()> {
    let (mappings, refused) = migrated(source, tables).await?;
    let params = Params::new(Side::Source);
    let Report { captured, refused: more } = capture::install(source, &params, &mappings).await?;
    let changed = captured.iter().filter(|it| it.changed).count() as u64;
    let all = counted(captured.len() as u64, "table");
    print::out(&format!("capture: {all}, {} changed\n", print::count(changed)));
    // A table that was named and cannot be captured would diverge in silence.
    let named = !tables.mapped.is_empty() && !more.is_empty();
    tell_refused(&[refused, more].concat(), "  ");
    if named {
        return Err(
            Refused("a table of tables.map cannot be captured; see above".to_owned()).into()
        );
    }
    Ok(())
}

fn tell_refused(refused: &[Refusal], margin: &str) {
    for refusal in refused {
        let Refusal { table, reason, message } = refusal;
        print::out(&format!("{margin}not migrated: {table}: {message} ({reason})\n"));
    }
}

/// The tables that the configuration names, or else all that it does not exclude.
async fn migrated(source: &Session, tables: &Tables) -> Result<(Vec<TableMapping>, Vec<Refusal>)> {
    if !tables.mapped.is_empty() {
        let own = [capture::idempotency()];
        return Ok((own.into_iter().chain(tables.mapped.clone()).collect(), Vec::new()));
    }
    let (mut mappings, mut refused) = capture::default_tables(&**source).await?;
    mappings.retain(|mapping| !is_excluded(tables, &mapping.source));
    refused.retain(|refusal| !is_excluded(tables, &refusal.table));
    Ok((mappings, refused))
}

fn is_excluded(tables: &Tables, table: &TableName) -> bool {
    tables.excluded.iter().any(|excluded| match excluded {
        Excluded::Table(name) => name == table,
        Excluded::Schema(schema) => *schema == table.schema,
    })
}

async fn open(config: &Config, side: Side) -> Result<Session> {
    let database = config.database(side);
    // The variables of libpq are in the string already, where they count.
    let mut dsn = Dsn::parse(database.conninfo.expose(), |_| None)
        .with_context(|| format!("{side}: the connection cannot be made"))?;
    if let Some(file) = &database.password_file {
        dsn = dsn.with_password_file(file);
    }
    let connector = Connector::new(side, dsn).map_err(|error| anyhow!("{side}: {error}"))?;
    Ok(connector.connect(Purpose::Own).await?)
}
