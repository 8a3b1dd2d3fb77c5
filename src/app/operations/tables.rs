//! Tables of the migration: which there are, and those that leave it or come back to it.

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::setup;
use crate::config::Config;
use crate::domain::control::ControlRow;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::history::{Event, EventKind, Figures, Standing};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::domain::table::{TableMapping, TableName};
use crate::ports::control::ControlStore;
use crate::postgres::capture::{self, Retirement};
use crate::postgres::catalog;
use crate::postgres::control::ControlTable;
use crate::postgres::outbox::by_table::by_table;

/// How a table stands to the migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is captured and copied.
    Migrated,
    /// The primary does not have it any more.
    Gone,
    /// The configuration leaves it out, and it is captured still.
    Excluded,
    /// It was taken out of the migration: by whom, when and why.
    Retired(String),
}

/// A table that is or was part of the migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it is.
    pub mapping: TableMapping,
    /// How it stands.
    pub state: State,
    /// Keys of it that wait.
    pub pending: u64,
    /// Of these, keys that have failed.
    pub failed: u64,
}

/// Who asks, and why.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
}

// === impl State ===

impl State {
    /// The word in lists.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Migrated => "migrated",
            Self::Gone => "gone",
            Self::Excluded => "excluded",
            Self::Retired(_) => "retired",
        }
    }
}

/// The tables of the migration as the primary knows them, and those that are retired there.
///
/// # Errors
///
/// Whatever a database says.
pub async fn list(config: &Config, databases: &Databases) -> Result<Vec<Listed>, AppError> {
    let (side, _) = primary(databases).await?;
    let session = databases.own().of(side).get().await?;
    let mut listed = Vec::new();
    let waiting = by_table(&session).await?;
    let names: Vec<TableName> = waiting.iter().map(|it| it.mapping.on(side).clone()).collect();
    let there = catalog::load(session.driver(), &names).await;
    let there = there.map_err(|error| session.fault(error, true))?;
    for it in waiting {
        let state = if !there.iter().any(|table| table.name == *it.mapping.on(side)) {
            State::Gone
        } else if is_left_out(config, &it.mapping) {
            State::Excluded
        } else {
            State::Migrated
        };
        let (pending, failed) = (it.pending, it.failed);
        listed.push(Listed { mapping: it.mapping, state, pending, failed });
    }
    let retired =
        capture::retired(session.driver()).await.map_err(|error| session.fault(error, true))?;
    for it in retired {
        let state = State::Retired(format!("{} by {}: {}", it.at, it.by, it.reason));
        listed.push(Listed { mapping: it.mapping, state, pending: 0, failed: 0 });
    }
    Ok(listed)
}

/// Takes a table out of the migration that the primary no longer has or the configuration leaves
/// out: its keys are settled, and its writes no longer captured. Recorded in the history.
///
/// *If we crash here*, running it again does the rest.
///
/// # Errors
///
/// [`AppError`]: a table that is still to be migrated, or that never was.
pub async fn retire(
    config: &Config,
    databases: &Databases,
    table: &TableName,
    asked: &Asked,
) -> Result<Retirement, AppError> {
    let (side, row) = primary(databases).await?;
    let listed = list(config, databases).await?;
    let named = |it: &&Listed| it.mapping.on(side) == table || it.mapping.source == *table;
    let Some(found) = listed.iter().find(named) else {
        let message = format!("table {table} is not part of the migration, and never was");
        return Err(refused(Reason::RefusedTableUnknown, message, "see `segue tables list`"));
    };
    if found.mapping.source.schema == "segue" {
        let message = format!("{table} is segue's own, and is migrated as long as any table is");
        let hint = "leave it; `segue tables list` shows the application's";
        return Err(refused(Reason::RefusedTableOwn, message, hint));
    }
    if found.state == State::Migrated {
        let message =
            format!("table {table} is on the {side} and to be migrated: its writes would be lost");
        let hint =
            "name it in tables.exclude (or take it out of tables.map) at every sidecar first";
        return Err(refused(Reason::RefusedTableMigrated, message, hint));
    }
    let mut done = Retirement::default();
    // The primary first: what it captures no more, the other side need not know.
    for side in [side, side.other()] {
        let mut session = databases.own().of(side).get().await?;
        let params = capture::Params::new(side);
        let source = &found.mapping.source;
        let it = capture::retire(session.driver_mut(), &params, source, &asked.reason, &asked.by)
            .await?;
        done.known |= it.known;
        done.settled += it.settled;
        done.triggers += it.triggers;
    }
    let figures = Figures::default()
        .text("table", table.to_string())
        .text("change", "retired")
        .count("keys_settled", done.settled);
    note(databases, side, &row, asked, figures).await?;
    Ok(done)
}

/// Makes a retired table part of the migration again: captured, and copied whole.
///
/// # Errors
///
/// [`AppError`]: a table that is not retired, or that the configuration leaves out.
pub async fn adopt(
    config: &Config,
    databases: &Databases,
    table: &TableName,
    asked: &Asked,
) -> Result<capture::Report, AppError> {
    let (side, row) = primary(databases).await?;
    let listed = list(config, databases).await?;
    let is_retired = |it: &&Listed| {
        matches!(it.state, State::Retired(_))
            && (it.mapping.on(side) == table || it.mapping.source == *table)
    };
    let Some(found) = listed.iter().find(is_retired) else {
        let message = format!("table {table} is not retired");
        return Err(refused(Reason::RefusedTableNotRetired, message, "see `segue tables list`"));
    };
    if is_left_out(config, &found.mapping) {
        let message = format!("the configuration leaves table {table} out");
        let hint = "take it out of tables.exclude (or name it in tables.map) first";
        return Err(refused(Reason::RefusedTableExcluded, message, hint));
    }
    for side in [side.other(), side] {
        let session = databases.own().of(side).get().await?;
        let adopted = capture::adopt(session.driver(), &found.mapping.source).await;
        adopted.map_err(|error| session.fault(error, true))?;
    }
    let report = setup::install_capture(config, databases, side).await?;
    let figures = Figures::default().text("table", table.to_string()).text("change", "adopted");
    note(databases, side, &row, asked, figures).await?;
    Ok(report)
}

/// Whether the configuration leaves a table out.
fn is_left_out(config: &Config, mapping: &TableMapping) -> bool {
    let mapped = &config.tables.mapped;
    let is_own = mapping.source.schema == "segue";
    let is_unmapped = !mapped.is_empty() && !mapped.contains(mapping);
    !is_own && (is_unmapped || setup::is_excluded(config, &mapping.source))
}

/// The primary, by the control row that counts.
async fn primary(databases: &Databases) -> Result<(Side, ControlRow), AppError> {
    let store = ControlTable::new(databases.own());
    let (source, target) = tokio::join!(store.read(Side::Source), store.read(Side::Target));
    let rows = match (source, target) {
        (Ok(source), Ok(target)) => [source, target],
        (Err(fault), Err(_)) => return Err(fault.into()),
        // One that cannot be asked may know of a later change.
        (Err(fault), _) | (_, Err(fault)) => return Err(fault.into()),
    };
    let latest = rows.into_iter().flatten().max_by_key(|row| row.state.epoch);
    let row = latest.ok_or_else(|| {
        let message = "segue has not been set up in these databases".to_owned();
        refused(Reason::RefusedNotSetUp, message, "run `segue init`")
    })?;
    Ok((row.state.phase.primary(), row))
}

async fn note(
    databases: &Databases,
    side: Side,
    row: &ControlRow,
    asked: &Asked,
    figures: Figures,
) -> Result<(), AppError> {
    let standing = Standing { phase: row.state.phase, percentage: row.target_percentage };
    let event = Event {
        id: uuid::Uuid::new_v4().as_u128(),
        kind: EventKind::Tables,
        from: standing,
        to: standing,
        epoch: row.state.epoch,
        forced: false,
        changed_by: asked.by.clone(),
        reason: asked.reason.clone(),
        figures,
    };
    Ok(ControlTable::new(databases.own()).record(side, event, None).await?)
}

fn refused(reason: Reason, message: String, hint: &str) -> AppError {
    SqlFault::new(FaultKind::Refused, reason, message).with_hint(hint).into()
}
