//! What a sidecar does before it takes calls.

use std::time::Duration;

use crate::app::AppError;
use crate::app::databases::Databases;
use crate::app::operations::callers;
use crate::app::operations::identity;
use crate::app::operations::setup::{CaptureCheck, check_capture, check_side, phase_of};
use crate::config::Config;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::postgres::pool::Lease;
use crate::postgres::schema::{self, Permission, SetupError};

/// A shadow that does not answer within this when the primary has is not waited for at the start: no
/// phase needs it for what callers are answered.
const SHADOW_WAIT: Duration = Duration::from_secs(1);

/// Its own tables are brought up to date where that is allowed, and capture must stand. The shadow
/// may be away then, which must not keep the application from its data, nor from a start in good
/// time.
pub(super) async fn at_start(config: &Config, databases: &Databases) -> Result<(), AppError> {
    let permission =
        if config.control.migrate_at_start { Permission::Change } else { Permission::Look };
    // Before anything is written, and before any session is opened that may be kept.
    if identity::established(config, databases, permission).await?.is_none() {
        tracing::warn!("whether these are the two sides of one migration is not known yet");
    }
    let Sides { source, target } = sessions(databases).await;
    let mut away = None;
    for (side, session) in [(Side::Source, source), (Side::Target, target)] {
        let mut session = match session {
            Ok(session) => session,
            // Waiting does not help where the way to the database is wrong.
            Err(fault) if fault.kind == FaultKind::Refused => return Err(fault.into()),
            Err(fault) => {
                tracing::warn!(%side, %fault, "segue's tables there could not be looked at");
                away = Some(side);
                continue;
            }
        };
        match schema::migrate(session.driver_mut(), side, permission).await {
            Ok(done) if done.from != done.to => {
                tracing::info!(%side, from = done.from, to = done.to, "segue's tables are up to date");
            }
            Ok(_) => {}
            Err(SetupError::Outdated { side, found, needed, .. }) => {
                return Err(AppError::NotSetUp { side, found, needed });
            }
            Err(error) => return Err(error.into()),
        }
        drop(session);
        callers::at_start(config, databases, side, permission).await?;
    }
    // A table that turned up beside the migration is warned of by the watch: it must not
    // keep the application from its data.
    let check = checked(config, databases, away).await?;
    if check.uncaptured.is_empty() {
        Ok(())
    } else {
        Err(AppError::NotCaptured { tables: check.uncaptured.join("; ") })
    }
}

/// Whether capture stands. A shadow that is away is not asked.
async fn checked(
    config: &Config,
    databases: &Databases,
    away: Option<Side>,
) -> Result<CaptureCheck, AppError> {
    if let Some(away) = away {
        let there = away.other();
        let session = databases.own().of(there).get().await?;
        let is_primary = is_primary(&session).await;
        drop(session);
        if is_primary {
            return Ok(check_side(config, databases, there).await?.unwrap_or_default());
        }
    }
    check_capture(config, databases).await
}

/// Opens a session with each side at once.
async fn sessions(databases: &Databases) -> Sides<Result<Lease, SqlFault>> {
    let own = databases.own();
    let mut source = Box::pin(own.source.get());
    let mut target = Box::pin(own.target.get());
    tokio::select! {
        first = &mut source => {
            let second = other_session(&first, target).await;
            Sides { source: first, target: second }
        }
        first = &mut target => {
            let second = other_session(&first, source).await;
            Sides { source: second, target: first }
        }
    }
}

/// The session of the side that did not answer first. It is waited for as long as it takes, unless
/// the first one is the primary by its own row.
async fn other_session(
    first: &Result<Lease, SqlFault>,
    other: impl Future<Output = Result<Lease, SqlFault>>,
) -> Result<Lease, SqlFault> {
    let Ok(session) = first else { return other.await };
    if !is_primary(session).await {
        return other.await;
    }
    let shadow = session.side().other();
    tokio::time::timeout(SHADOW_WAIT, other).await.unwrap_or_else(|_| {
        let message = format!("no answer within {SHADOW_WAIT:?}, and nothing waits for it now");
        Err(SqlFault::new(FaultKind::Unavailable, Reason::UnavailableShadow, message).on(shadow))
    })
}

/// Whether the session's side is the primary by its own row.
async fn is_primary(session: &Lease) -> bool {
    let phase = phase_of(session).await;
    matches!(phase, Ok(Some(phase)) if phase.primary() == session.side())
}
