//! Capture on the target while it follows: there it notes what others write.

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::setup::{install_tables, phase_if_any, phase_of, tables};
use crate::config::Config;
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::postgres::capture;

/// Puts capture on the target, where it notes what others write there while the target follows.
/// Nothing where it would refuse them: there it comes with the phase that does. Tables
/// that the source refuses are not refused here again.
///
/// # Errors
///
/// As [`crate::app::operations::setup::install_capture`].
pub async fn install_on_target(
    config: &Config,
    databases: &Databases,
) -> Result<Option<capture::Report>, AppError> {
    if !databases.own().target.get().await?.dialect().notes_foreign_writes() {
        return Ok(None);
    }
    let (mappings, _) = tables(config, databases).await?;
    install_tables(databases, Side::Target, &mappings).await.map(Some)
}

/// Whether the target follows, by its own control row.
///
/// # Errors
///
/// Whatever the database says.
pub async fn target_follows(databases: &Databases) -> Result<bool, AppError> {
    let session = databases.own().target.get().await?;
    Ok(phase_if_any(&session).await?.is_some_and(follows))
}

fn follows(phase: Phase) -> bool {
    phase.captures() && phase.primary() == Side::Source
}

/// Looks whether the target that follows notes what others write there, and mends that. What was
/// missed is noticed by whoever watches capture (`postgres::drift`).
///
/// # Errors
///
/// Whatever the database says.
pub(in crate::app) async fn check_notes(
    config: &Config,
    databases: &Databases,
) -> Result<u64, AppError> {
    let session = databases.own().target.get().await?;
    if !session.dialect().notes_foreign_writes() || !phase_of(&session).await?.is_some_and(follows)
    {
        return Ok(0);
    }
    let (mappings, _) = tables(config, databases).await?;
    let params = capture::Params::new(Side::Target);
    let drifts = capture::verify_installed(session.driver(), &params, &mappings).await;
    let drifts = drifts.map_err(|error| session.fault(error, true))?;
    // A session that is asked for locks again and again is not one that others wait for.
    drop(session);
    if drifts.is_empty() {
        return Ok(0);
    }
    for drift in &drifts {
        tracing::error!(table = %drift.table, what = drift.what, "others' writes are not noted");
    }
    install_on_target(config, databases).await?;
    let session = databases.own().target.get().await?;
    if !phase_of(&session).await?.is_some_and(Phase::captures) {
        // The copy was given up meanwhile: capture is not to come back by this.
        capture::give_up(session.driver()).await.map_err(|error| session.fault(error, true))?;
    }
    Ok(drifts.len() as u64)
}
