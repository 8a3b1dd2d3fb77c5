//! What a phase needs beside the control row: capture before it, none after it.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::{setup, target_capture};
use crate::config::Config;
use crate::domain::control::Phase;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::Side;
use crate::ports::admin::PhaseHooks;
use crate::postgres::capture::{Refusal, Report};
use crate::postgres::schema::SetupError;

/// Capture, by the configuration of this sidecar.
#[derive(Debug, Clone)]
pub(in crate::app) struct Hooks {
    config: Arc<Config>,
    databases: Databases,
}

// === impl Hooks ===

impl Hooks {
    pub(in crate::app) fn new(config: &Config, databases: &Databases) -> Self {
        Self { config: Arc::new(config.clone()), databases: databases.clone() }
    }

    async fn unfit_tables(&self) -> Result<Vec<String>, SqlFault> {
        let (_, mut refused) = setup::tables(&self.config, &self.databases).await.map_err(fault)?;
        let unfit = setup::unfit_tables(&self.config, &self.databases, Side::Source).await;
        refused.extend(unfit.map_err(fault)?);
        Ok(refused.iter().map(told).collect())
    }

    async fn enter(&self, phase: Phase) -> Result<(), SqlFault> {
        match phase {
            // A table that came since dual_write is left out no more than one from before it.
            Phase::DualWrite | Phase::ShadowRead => {
                let report = setup::install_capture(&self.config, &self.databases, Side::Source);
                all_captured(&report.await.map_err(fault)?)?;
                let report = target_capture::install_on_target(&self.config, &self.databases).await;
                report.map_err(fault)?.map_or(Ok(()), |report| all_captured(&report))
            }
            // The way back stands before anything can be turned round.
            Phase::Shift => {
                let report = setup::install_capture(&self.config, &self.databases, Side::Target);
                all_captured(&report.await.map_err(fault)?)
            }
            _ => Ok(()),
        }
    }
}

fn all_captured(report: &Report) -> Result<(), SqlFault> {
    if report.refused.is_empty() {
        return Ok(());
    }
    let tables = report.refused.iter().map(told).collect::<Vec<_>>().join("; ");
    let message = format!("not all tables can be captured: {tables}");
    Err(SqlFault::new(FaultKind::Precondition, Reason::RefusedCapture, message)
        .with_hint("mend them, or name them in tables.exclude"))
}

impl PhaseHooks for Hooks {
    fn unfit(&self) -> BoxFuture<'_, Result<Vec<String>, SqlFault>> {
        self.unfit_tables().boxed()
    }

    fn before(&self, phase: Phase) -> BoxFuture<'_, Result<(), SqlFault>> {
        self.enter(phase).boxed()
    }

    fn after(&self, phase: Phase) -> BoxFuture<'_, Result<(), SqlFault>> {
        async move {
            match phase {
                Phase::SourceOnly => {
                    setup::switch_capture_off(&self.databases).await.map_err(fault)
                }
                Phase::TargetOnly => {
                    setup::stop_capturing(&self.databases, Side::Target).await.map_err(fault)
                }
                _ => Ok(()),
            }
        }
        .boxed()
    }
}

pub(in crate::app) fn told(refusal: &Refusal) -> String {
    format!("{}: {} ({})", refusal.table, refusal.message, refusal.reason)
}

pub(in crate::app) fn fault(error: AppError) -> SqlFault {
    match error {
        AppError::Database(fault) => fault,
        // Its SQL is longer than a message of a call may be.
        AppError::Setup(SetupError::Privilege { side, role, action, message, .. }) => {
            let message = format!("role {role:?} may not {action}: {message}");
            SqlFault::new(FaultKind::Precondition, Reason::RefusedSetup, message)
                .with_hint(format!(
                    "run what `segue init --print` prints for the {side}, as a role that may"
                ))
                .on(side)
        }
        other => SqlFault::new(FaultKind::Precondition, Reason::RefusedSetup, other.to_string()),
    }
}
