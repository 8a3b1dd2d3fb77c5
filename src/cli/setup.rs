//! `segue init` and `segue capture`.

use anyhow::Result;

use crate::app::databases::Databases;
use crate::app::{callers, identity, noting, setup};
use crate::cli::Refused;
use crate::cli::args::CaptureCommand;
use crate::cli::print::{self, counted};
use crate::config::{Config, Sources};
use crate::control::PhaseChange;
use crate::dialect::Dialect;
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::domain::table::TableName;
use crate::postgres::capture::Refusal;
use crate::postgres::schema::{self, GrantParams, Permission};

/// Phases that a single sidecar can be set to by hand; the others come about by their own
/// commands, with gates.
const BY_HAND: [Phase; 3] = [Phase::SourceOnly, Phase::DualWrite, Phase::ShadowRead];

/// Segue's own tables on both sides, capture on the source, and the phase where one is named.
///
/// If we crash here, whatever was done stands, and the next init goes on from there.
pub(super) async fn init(sources: &Sources, wanted: Option<Phase>, print: bool) -> Result<()> {
    let config = Config::load(sources)?;
    if let Some(phase) = wanted.filter(|phase| !BY_HAND.contains(phase)) {
        let allowed = BY_HAND.map(Phase::as_str).join(", ");
        let message = format!("phase {phase} cannot be set by hand; these can: {allowed}");
        return Err(Refused(message).into());
    }
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
    // Capture stands before any phase relies on it, and goes after the last that does.
    if wanted.is_none_or(Phase::captures) {
        let refused = install(&config, &databases).await?;
        if wanted.is_some() {
            refuse_gaps(&config, &databases, refused).await?;
            refuse_unseen(install_on_target(&config, &databases).await?)?;
        }
    }
    let Some(phase) = wanted else { return Ok(()) };
    let change = PhaseChange { phase, reason: "segue init".to_owned(), changed_by: user() };
    let state = setup::change_phase(&databases, &change).await?;
    print::out(&format!("phase {}, epoch {}\n", state.phase, state.epoch));
    if !phase.captures() {
        setup::switch_capture_off(&databases).await?;
        print::out("capture: off\n");
    }
    Ok(())
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
            install(&config, &databases).await?;
            if noting::target_follows(&databases).await? {
                install_on_target(&config, &databases).await?;
            }
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

/// A phase that copies is not entered while a table would be left out in silence.
async fn refuse_gaps(config: &Config, databases: &Databases, uncaptured: usize) -> Result<()> {
    if uncaptured > 0 {
        let message = format!(
            "{} cannot be captured, see above, and the phase stays as it is; mend them, or name \
             them in tables.exclude",
            counted(uncaptured as u64, "table")
        );
        return Err(Refused(message).into());
    }
    let unfit = setup::unfit_tables(config, databases, Side::Source).await?;
    if unfit.is_empty() {
        return Ok(());
    }
    for Refusal { table, reason, message } in &unfit {
        print::out(&format!("  cannot be copied: {table}: {message} ({reason})\n"));
    }
    let message = format!(
        "{} cannot be copied to the target, see above, and the phase stays as it is; mend them, or \
         name the tables in tables.exclude",
        counted(unfit.len() as u64, "table")
    );
    Err(Refused(message).into())
}

/// A phase that copies is not entered while others could write to the target unseen.
fn refuse_unseen(refused: usize) -> Result<()> {
    if refused == 0 {
        return Ok(());
    }
    let message = format!(
        "{} of the target cannot be captured, see above, so that writes of others there would not \
         be seen; mend them, or name the tables in tables.exclude",
        counted(refused as u64, "table")
    );
    Err(Refused(message).into())
}

/// Answers how many tables were refused.
async fn install(config: &Config, databases: &Databases) -> Result<usize> {
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
    Ok(report.refused.len())
}

/// The same on the target, where it notes what others write. Answers how many tables were refused.
async fn install_on_target(config: &Config, databases: &Databases) -> Result<usize> {
    let Some(report) = noting::install_on_target(config, databases).await? else { return Ok(0) };
    let changed = report.captured.iter().filter(|it| it.changed).count() as u64;
    let all = counted(report.captured.len() as u64, "table");
    print::out(&format!("capture on the target: {all}, {} changed\n", print::count(changed)));
    tell_refused(&report.refused, "  ");
    Ok(report.refused.len())
}

fn tell_refused(refused: &[Refusal], margin: &str) {
    for refusal in refused {
        let Refusal { table, reason, message } = refusal;
        print::out(&format!("{margin}not migrated: {table}: {message} ({reason})\n"));
    }
}
