//! Segue's own tables, capture, and the first control row.

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::config::Config;
use crate::control::{self, PhaseChange, set_phase};
use crate::domain::control::{ControlState, Phase};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::sqlstate;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::capture::{self, Refusal};
use crate::postgres::control::ControlTable;
use crate::postgres::mapping::load::IgnoredColumns;
use crate::postgres::outbox::servers;
use crate::postgres::pool::Lease;
use crate::postgres::reconcile::preflight;
use crate::postgres::schema::{self, Migrated, Permission};

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
    let on = async |side| {
        let mut session = own.of(side).get().await?;
        Ok::<_, AppError>(schema::migrate(session.driver_mut(), side, permission).await?)
    };
    let source = on(Side::Source).await?;
    let target = on(Side::Target).await?;
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
    let (mut mappings, mut refused) = capture::default_tables(session.driver())
        .await
        .map_err(|error| session.fault(error, true))?;
    mappings.retain(|mapping| !is_excluded(config, &mapping.source));
    refused.retain(|refusal| !is_excluded(config, &refusal.table));
    let retired = capture::retired(session.driver()).await;
    let retired = retired.map_err(|error| session.fault(error, true))?;
    let is_retired = |name: &TableName| retired.iter().any(|it| it.mapping.source == *name);
    mappings.retain(|mapping| !is_retired(&mapping.source));
    refused.retain(|refusal| !is_retired(&refusal.table));
    Ok((mappings, refused))
}

/// Whether `tables.exclude` or `tables.stay` leaves a table out.
pub(super) fn is_excluded(config: &Config, table: &TableName) -> bool {
    config.tables.leaves_out(table)
}

/// Puts capture on the source. Where a phase relies on it already, a table whose capture had
/// to be mended may have lost writes: all of it is reconciled.
///
/// If we crash between the two, the next one finds the table mended and does not enqueue it:
/// so the row that asks for it is written before the mending as well as after.
///
/// # Errors
///
/// [`AppError`], with the SQL to run where privileges are missing.
pub async fn install_capture(
    config: &Config,
    databases: &Databases,
    side: Side,
) -> Result<capture::Report, AppError> {
    let (mappings, mut refused) = tables_on(config, databases, side).await?;
    let mut report = install_tables(databases, side, &mappings).await?;
    refused.append(&mut report.refused);
    report.refused = refused;
    Ok(report)
}

/// Puts capture on these tables.
pub(super) async fn install_tables(
    databases: &Databases,
    side: Side,
    mappings: &[TableMapping],
) -> Result<capture::Report, AppError> {
    let own = databases.own();
    let mut session = own.of(side).get().await?;
    let params = capture::Params::new(side);
    let relied_on = captures_now(&session).await?;
    if relied_on {
        let drifts = capture::verify_installed(session.driver(), &params, mappings).await;
        let drifts = drifts.map_err(|error| session.fault(error, true))?;
        let ids = capture::ids_of(session.driver(), &params, mappings, &drifts).await;
        let ids = ids.map_err(|error| session.fault(error, true))?;
        servers::enqueue_tables(&session, Some(&ids)).await?;
    }
    let report = capture::install(session.driver_mut(), &params, mappings).await?;
    if relied_on {
        let changed = report.captured.iter().filter(|table| table.changed);
        let ids: Vec<i32> = changed.map(|table| table.table_id).collect();
        servers::enqueue_tables(&session, Some(&ids)).await?;
    }
    Ok(report)
}

/// No such table, or schema: nothing of segue's is there.
const ABSENT: [&str; 2] = [sqlstate::UNDEFINED_TABLE, sqlstate::INVALID_SCHEMA_NAME];

async fn captures_now(session: &Lease) -> Result<bool, AppError> {
    let phase = phase_of(session).await?;
    // Each direction has its capture on the side that it starts from.
    Ok(phase.is_some_and(|phase| phase.captures() && phase.primary() == session.side()))
}

/// What a side's own row says.
pub(in crate::app) async fn phase_of(session: &Lease) -> Result<Option<Phase>, SqlFault> {
    Ok(state_of(session).await?.map(|(_, phase)| phase))
}

/// The same with its epoch.
async fn state_of(session: &Lease) -> Result<Option<(i64, Phase)>, SqlFault> {
    let row = session.query_opt("SELECT epoch, phase FROM segue.control WHERE id = 1", &[]).await?;
    let state = row
        .and_then(|row| Some((row.try_get::<_, i64>(0).ok()?, row.try_get::<_, String>(1).ok()?)));
    Ok(state.and_then(|(epoch, phase)| Some((epoch, phase.parse().ok()?))))
}

/// What a side's own row says, and none where nothing of segue's is there.
pub(super) async fn phase_if_any(session: &Lease) -> Result<Option<Phase>, SqlFault> {
    Ok(state_if_any(session).await?.map(|(_, phase)| phase))
}

async fn state_if_any(session: &Lease) -> Result<Option<(i64, Phase)>, SqlFault> {
    match state_of(session).await {
        Err(fault) if ABSENT.contains(&&*fault.sqlstate) => Ok(None),
        state => state,
    }
}

/// The tables of the migration as a side knows them: once the target is the primary, the
/// source need not be there for it. Until then the target knows those alone that were there when
/// capture was last put on it.
pub(in crate::app) async fn tables_on(
    config: &Config,
    databases: &Databases,
    side: Side,
) -> Result<(Vec<TableMapping>, Vec<Refusal>), AppError> {
    if side == Side::Source || !config.tables.mapped.is_empty() {
        return tables(config, databases).await;
    }
    let session = databases.own().of(side).get().await?;
    if phase_if_any(&session).await?.is_none_or(|phase| phase.primary() != side) {
        drop(session);
        return tables(config, databases).await;
    }
    let mappings = capture::registered_mappings(session.driver()).await;
    let mappings = mappings.map_err(|error| session.fault(error, true))?;
    drop(session);
    if mappings.is_empty() {
        // Capture was never there.
        return tables(config, databases).await;
    }
    Ok((mappings, Vec::new()))
}

/// What stands against reconciling the tables from `primary` to the other side.
///
/// # Errors
///
/// Whatever a database says.
pub async fn unfit_tables(
    config: &Config,
    databases: &Databases,
    primary: Side,
) -> Result<Vec<Refusal>, AppError> {
    let (mappings, _) = tables_on(config, databases, primary).await?;
    let ignored = IgnoredColumns::new();
    Ok(preflight::refusals(&databases.own(), primary, &mappings, &ignored).await?)
}

/// Whether each write to the tables is captured, mended where it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureCheck {
    /// What had drifted.
    pub drifted: u64,
    /// What is not captured all the same, and why.
    pub uncaptured: Vec<String>,
    /// Tables that never were part of the migration and cannot be, and why.
    pub strays: Vec<String>,
}

/// Looks whether capture stands, where the phase relies on it, and mends it.
///
/// # Errors
///
/// Whatever the database says while it is looked at; what cannot be mended is in the answer.
/// A shadow that is away is no error.
pub(in crate::app) async fn check_capture(
    config: &Config,
    databases: &Databases,
) -> Result<CaptureCheck, AppError> {
    let (source, target) = tokio::join!(
        check_side(config, databases, Side::Source),
        check_side(config, databases, Side::Target)
    );
    match (source, target) {
        (_, Ok(Some(check))) | (Ok(Some(check)), _) => Ok(check),
        // The source is the primary, or would have said that it is not.
        (Err(error), _) => Err(error),
        (Ok(None), _) => Ok(CaptureCheck::default()),
    }
}

/// Nothing where the side's own control row does not rely on its capture.
pub(in crate::app) async fn check_side(
    config: &Config,
    databases: &Databases,
    side: Side,
) -> Result<Option<CaptureCheck>, AppError> {
    let params = capture::Params::new(side);
    let mut check = CaptureCheck::default();
    let session = databases.own().of(side).get().await?;
    if !captures_now(&session).await? {
        return Ok(None);
    }
    let (mappings, refused) = tables_on(config, databases, side).await?;
    let registered = capture::registered(session.driver(), side).await;
    let registered = registered.map_err(|error| session.fault(error, true))?;
    for refusal in refused {
        let known = registered.contains(&refusal.table);
        let list = if known { &mut check.uncaptured } else { &mut check.strays };
        list.push(refusal.message);
    }
    let drifts = capture::verify_installed(session.driver(), &params, &mappings).await;
    let drifts = drifts.map_err(|error| session.fault(error, true))?;
    if drifts.is_empty() {
        return Ok(Some(check));
    }
    check.drifted = drifts.len() as u64;
    for drift in &drifts {
        tracing::error!(table = %drift.table, what = drift.what, "a table is not captured");
    }
    // A session that is asked for locks again and again is not one that others wait for.
    drop(session);
    let mended = install_capture(config, databases, side).await;
    let session = databases.own().of(side).get().await?;
    if !captures_now(&session).await? {
        // The copy was given up meanwhile: capture is not to come back by this.
        capture::give_up(session.driver()).await.map_err(|error| session.fault(error, true))?;
        return Ok(Some(check));
    }
    let left = capture::verify_installed(session.driver(), &params, &mappings).await;
    let left = left.map_err(|error| session.fault(error, true))?;
    let why = mended.err().map(|error| format!(": {error}")).unwrap_or_default();
    check.uncaptured.extend(left.iter().map(|d| format!("{}: {}{why}", d.table, d.what)));
    if check.uncaptured.is_empty() {
        tracing::warn!(
            drifted = check.drifted,
            "capture was mended; its tables are reconciled whole, since writes may have been missed"
        );
    }
    Ok(Some(check))
}

/// The SQL that would put capture on a side.
///
/// # Errors
///
/// Whatever the database says.
pub async fn print_capture(
    config: &Config,
    databases: &Databases,
    side: Side,
) -> Result<(String, Vec<Refusal>), AppError> {
    let (mappings, mut refused) = tables_on(config, databases, side).await?;
    let session = databases.own().of(side).get().await?;
    let params = capture::Params::new(side);
    let (sql, more) = capture::print(session.driver(), &params, &mappings).await?;
    refused.extend(more);
    Ok((sql, refused))
}

/// Makes capture on both sides do nothing, at once and without a lock on any table of the
/// application. Called after the phase has changed: until then writes are to be captured.
///
/// # Errors
///
/// Whatever the database says.
pub async fn switch_capture_off(databases: &Databases) -> Result<(), AppError> {
    for side in [Side::Source, Side::Target] {
        stop_capturing(databases, side).await?;
    }
    Ok(())
}

/// The same on one side.
///
/// # Errors
///
/// Whatever the database says.
pub(super) async fn stop_capturing(databases: &Databases, side: Side) -> Result<(), AppError> {
    let session = databases.own().of(side).get().await?;
    capture::give_up(session.driver()).await.map_err(|error| session.fault(error, true))?;
    Ok(())
}

/// Takes capture off both sides; answers how many triggers there were.
///
/// # Errors
///
/// [`AppError`], with the SQL to run where privileges are missing.
pub async fn remove_capture(databases: &Databases) -> Result<u64, AppError> {
    // Where the primary's row has changed, the other one follows only a moment later.
    let mut newest = None;
    for side in [Side::Source, Side::Target] {
        let session = databases.own().of(side).get().await?;
        newest = newest.max(state_if_any(&session).await?);
    }
    // On the side that follows it is the fence.
    if newest.is_some_and(|(_, phase)| phase.captures()) {
        return Err(in_use());
    }
    let mut taken = 0;
    for side in [Side::Source, Side::Target] {
        let mut session = databases.own().of(side).get().await?;
        taken += capture::remove(session.driver_mut(), &capture::Params::new(side)).await?;
    }
    Ok(taken)
}

fn in_use() -> AppError {
    let message = "the phase relies on capture: without it writes would be lost on the shadow";
    SqlFault::new(FaultKind::Refused, Reason::RefusedCaptureInUse, message)
        .with_hint(
            "go back to source_only first, which needs a sidecar that runs: `segue phase back`, and \
             from dual_write `segue phase back --give-up-copy`",
        )
        .into()
}

/// Where the migration stands, with a control row on both sides: the first of all where there is
/// none yet.
///
/// # Errors
///
/// [`AppError`] where a row cannot be read or written.
pub async fn begin(databases: &Databases, by: &str) -> Result<ControlState, AppError> {
    Ok(control::begin(&ControlTable::new(databases.own()), by).await?)
}

/// Sets the phase on both sides, without gates: for an adoption.
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
