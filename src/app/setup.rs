//! Segue's own tables, capture, and the phase set by hand.

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::config::{Config, Excluded};
use crate::control::{PhaseChange, set_phase};
use crate::domain::control::ControlState;
use crate::domain::fault::FaultKind;
use crate::domain::side::{Side, Sides};
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::capture::{self, Refusal};
use crate::postgres::control::ControlTable;
use crate::postgres::schema::{self, Migrated, Permission, SetupError};

/// Brings segue's schema up to date on both sides, or only looks whether it is.
///
/// # Errors
///
/// [`AppError`], with the SQL to run where privileges are missing.
pub async fn migrate(
    databases: &Databases,
    permission: Permission,
) -> Result<Sides<Migrated>, AppError> {
    let own = databases.own();
    let mut done = Vec::with_capacity(2);
    for side in [Side::Source, Side::Target] {
        let mut session = own.of(side).get().await?;
        done.push(schema::migrate(&mut session, side, permission).await?);
    }
    let [source, target] = <[Migrated; 2]>::try_from(done).unwrap_or_else(|done| {
        unreachable!("two sides were migrated, and {} answered", done.len())
    });
    Ok(Sides { source, target })
}

/// The tables of the migration: those of the configuration, or all that can be migrated but
/// the excluded ones. Also those that cannot be, each with its reason.
///
/// # Errors
///
/// Whatever the database says.
pub async fn tables(
    config: &Config,
    databases: &Databases,
) -> Result<(Vec<TableMapping>, Vec<Refusal>), AppError> {
    if !config.tables.mapped.is_empty() {
        let mut mappings = vec![capture::idempotency()];
        mappings.extend(config.tables.mapped.iter().cloned());
        return Ok((mappings, Vec::new()));
    }
    let session = databases.own().of(Side::Source).get().await?;
    let (mut mappings, mut refused) =
        capture::default_tables(&**session).await.map_err(|error| session.fault(error, true))?;
    let excluded = |table: &TableName| {
        config.tables.excluded.iter().any(|excluded| match excluded {
            Excluded::Table(name) => name == table,
            Excluded::Schema(schema) => *schema == table.schema,
        })
    };
    mappings.retain(|mapping| !excluded(&mapping.source));
    refused.retain(|refusal| !excluded(&refusal.table));
    Ok((mappings, refused))
}

/// Puts capture on the source.
///
/// # Errors
///
/// [`AppError`], with the SQL to run where privileges are missing.
pub async fn install_capture(
    config: &Config,
    databases: &Databases,
) -> Result<capture::Report, AppError> {
    let (mappings, mut refused) = tables(config, databases).await?;
    let mut session = databases.own().of(Side::Source).get().await?;
    let params = capture::Params::new(Side::Source);
    let mut report = capture::install(&mut session, &params, &mappings).await?;
    refused.append(&mut report.refused);
    report.refused = refused;
    Ok(report)
}

/// The SQL that would put capture on the source.
///
/// # Errors
///
/// Whatever the database says.
pub async fn print_capture(
    config: &Config,
    databases: &Databases,
) -> Result<(String, Vec<Refusal>), AppError> {
    let (mappings, mut refused) = tables(config, databases).await?;
    let session = databases.own().of(Side::Source).get().await?;
    let params = capture::Params::new(Side::Source);
    let (sql, more) = capture::print(&session, &params, &mappings).await?;
    refused.extend(more);
    Ok((sql, refused))
}

/// Makes capture on the source do nothing, at once and without a lock on any table of the
/// application. Called after the phase has changed: until then writes are to be captured.
///
/// # Errors
///
/// Whatever the database says.
pub async fn switch_capture_off(databases: &Databases) -> Result<(), AppError> {
    let session = databases.own().of(Side::Source).get().await?;
    capture::give_up(&**session).await.map_err(|error| session.fault(error, true))?;
    Ok(())
}

/// Takes capture off the source; answers how many triggers there were.
///
/// # Errors
///
/// [`AppError`], with the SQL to run where privileges are missing.
pub async fn remove_capture(databases: &Databases) -> Result<u64, AppError> {
    let mut session = databases.own().of(Side::Source).get().await?;
    Ok(capture::remove(&mut session, &capture::Params::new(Side::Source)).await?)
}

/// Sets the phase on both sides.
///
/// # Errors
///
/// [`AppError`] where a row cannot be written, or somebody else was faster.
pub async fn change_phase(
    databases: &Databases,
    change: &PhaseChange,
) -> Result<ControlState, AppError> {
    Ok(set_phase(&ControlTable::new(databases.own()), change).await?)
}

/// What a sidecar does at its start: its own tables are brought up to date where that is
/// allowed. The shadow may be away then, which must not keep the application from its data.
pub(super) async fn at_start(config: &Config, databases: &Databases) -> Result<(), AppError> {
    let permission =
        if config.control.migrate_at_start { Permission::Change } else { Permission::Look };
    let own = databases.own();
    for side in [Side::Source, Side::Target] {
        let mut session = match own.of(side).get().await {
            Ok(session) => session,
            // Waiting does not help where the way to the database is wrong.
            Err(fault) if fault.kind == FaultKind::Refused => return Err(fault.into()),
            Err(fault) => {
                tracing::warn!(%side, %fault, "segue's tables there could not be looked at");
                continue;
            }
        };
        match schema::migrate(&mut session, side, permission).await {
            Ok(done) if done.from != done.to => {
                tracing::info!(%side, from = done.from, to = done.to, "segue's tables are up to date");
            }
            Ok(_) => {}
            Err(SetupError::Outdated { side, found, needed, .. }) => {
                return Err(AppError::NotSetUp { side, found, needed });
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
