//! `segue init` and `segue capture`.

use anyhow::Result;

use crate::app::databases::Databases;
use crate::app::operations::{callers, identity, setup, target_capture};
use crate::cli::Refused;
use crate::cli::args::CaptureCommand;
use crate::cli::print::{self, counted};
use crate::config::{Config, Sources};
use crate::control::FIRST_EPOCH;
use crate::dialect::Dialect;
use crate::domain::control::ControlState;
use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::postgres::capture::Refusal;
use crate::postgres::schema::{self, GrantParams, Permission};

/// Segue's own tables on both sides, the control row, and capture. The phase is left as it is.
///
/// If we crash here, whatever was done stands, and the next init goes on from there.
pub(super) async fn init(sources: &Sources, print: bool) -> Result<()> {
    let config = Config::load(sources)?;
    if print {
        return print_all(&config).await;
    }
    let databases = Databases::open(&config)?;
    // Nothing is written to a database that belongs to another migration.
    let migrated = identity::set_up(&config, &databases).await?;
    for (side, done) in [(Side::Source, &migrated.source), (Side::Target, &migrated.target)] {
        print::out(&match (done.from, done.to) {
            (from, to) if from == to => format!("{side}: segue's tables are of version {to}\n"),
            (0, to) => format!("{side}: made segue's tables, version {to}\n"),
            (from, to) => format!("{side}: segue's tables went from version {from} to {to}\n"),
        });
    }
    for side in [Side::Source, Side::Target] {
        admit_callers(&config, &databases, side).await?;
    }
    let state = setup::begin(&databases, &user()).await?;
    let ControlState { phase, epoch } = state;
    if starts_capture(state) {
        install_where_it_stands(&config, &databases).await?;
    } else {
        print::out(&format!("capture: left as it is, since {phase} captures nothing\n"));
    }
    print::out(&format!("phase {phase}, epoch {epoch}\n"));
    Ok(())
}

/// Capture stands from the first init on. Where an operator has stopped it since, by discarding the
/// copy or by ending the migration, setting up again does not start it.
fn starts_capture(state: ControlState) -> bool {
    state.phase.captures() || state.epoch == FIRST_EPOCH
}

async fn admit_callers(config: &Config, databases: &Databases, side: Side) -> Result<()> {
    let Some(admitted) = callers::admit(config, databases, side, Permission::Change).await? else {
        return Ok(());
    };
    let role = &admitted.role;
    print::out(&match admitted.granted {
        true => format!("{side}: granted segue's functions to {role}, the role of callers\n"),
        false => format!("{side}: callers' statements run as {role}\n"),
    });
    Ok(())
}

fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned())
}

/// Everything that init does, as SQL: what a role that may must grant, segue's own tables, and
/// capture. The source is asked for its tables.
async fn print_all(config: &Config) -> Result<()> {
    let databases = Databases::open(config)?;
    let (mappings, _) = setup::tables(config, &databases).await?;
    let of_application: Vec<_> =
        mappings.iter().filter(|mapping| mapping.source.schema != "segue").collect();
    for side in [Side::Source, Side::Target] {
        let tables: Vec<TableName> =
            of_application.iter().map(|mapping| mapping.on(side).clone()).collect();
        let database = config.database(side);
        print::out(&schema::grants(&GrantParams {
            side,
            database: &database.dsn.database,
            role: &database.dsn.user,
            callers: database.application.as_ref().map(|login| login.user.as_str()),
            tables: &tables,
        }));
        print::out(&format!("\n{}\n", schema::script(side, Dialect::default())));
        if let Some(login) = &database.application {
            let grants = Dialect::default().for_callers(&login.user);
            print::out(&format!("-- {side}: the role of callers' statements\n{grants}\n"));
        }
    }
    print_capture(config, &databases).await
}

async fn print_capture(config: &Config, databases: &Databases) -> Result<()> {
    let (sql, refused) = setup::print_capture(config, databases, Side::Source).await?;
    print::out(&format!("-- capture, on the source\n{sql}"));
    tell_refused(&refused, "-- ");
    let (sql, refused) = setup::print_capture(config, databases, Side::Target).await?;
    print::out(&format!("-- capture, on the target, from dual_write on\n{sql}"));
    tell_refused(&refused, "-- ");
    Ok(())
}

pub(super) async fn capture(sources: &Sources, command: CaptureCommand) -> Result<()> {
    let config = Config::load(sources)?;
    let databases = Databases::open(&config)?;
    match command {
        CaptureCommand::Install { print: false } => {
            identity::may_work(&config).await?;
            install_where_it_stands(&config, &databases).await?;
        }
        CaptureCommand::Install { print: true } | CaptureCommand::Print => {
            print_capture(&config, &databases).await?;
        }
        CaptureCommand::Remove => {
            identity::may_work(&config).await?;
            let taken = setup::remove_capture(&databases).await?;
            print::out(&format!("capture taken away: {}\n", counted(taken, "trigger")));
        }
    }
    Ok(())
}

/// On the source, and on the target while it follows.
async fn install_where_it_stands(config: &Config, databases: &Databases) -> Result<()> {
    install(config, databases).await?;
    if target_capture::target_follows(databases).await? {
        install_on_target(config, databases).await?;
    }
    Ok(())
}

async fn install(config: &Config, databases: &Databases) -> Result<()> {
    let report = setup::install_capture(config, databases, Side::Source).await?;
    let changed = report.captured.iter().filter(|it| it.changed).count() as u64;
    let all = counted(report.captured.len() as u64, "table");
    print::out(&format!("capture: {all}, {} changed\n", print::count(changed)));
    tell_refused(&report.refused, "  ");
    // A table that was named and cannot be captured would diverge in silence.
    if !config.tables.mapped.is_empty() && !report.refused.is_empty() {
        let message = "a table of tables.map cannot be captured; see above".to_owned();
        return Err(Refused(message).into());
    }
    Ok(())
}

/// The same on the target, where it notes what others write.
async fn install_on_target(config: &Config, databases: &Databases) -> Result<()> {
    let Some(report) = target_capture::install_on_target(config, databases).await? else {
        return Ok(());
    };
    let changed = report.captured.iter().filter(|it| it.changed).count() as u64;
    let all = counted(report.captured.len() as u64, "table");
    print::out(&format!("capture on the target: {all}, {} changed\n", print::count(changed)));
    tell_refused(&report.refused, "  ");
    Ok(())
}

fn tell_refused(refused: &[Refusal], margin: &str) {
    for refusal in refused {
        let Refusal { table, reason, message } = refusal;
        print::out(&format!("{margin}not migrated: {table}: {message} ({reason})\n"));
    }
}
