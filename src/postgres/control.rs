//! `segue.control`: one row in each database.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Row;

use crate::domain::control::{ControlRow, ControlState, Phase};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::side::{Side, Sides};
use crate::ports::control::{ControlChange, ControlStore};
use crate::postgres::pool::Pool;

/// No such table or schema: segue has not been set up in this database.
const UNDEFINED_TABLE: &str = "42P01";
const UNDEFINED_SCHEMA: &str = "3F000";

const READ: &str = "
SELECT epoch, phase, target_percentage, reason, changed_by, changed_at
FROM segue.control WHERE id = 1";

const CHANGE: &str = "
UPDATE segue.control SET epoch = $2, phase = $3, target_percentage = $4, reason = $5,
    changed_by = $6, changed_at = pg_catalog.now()
WHERE id = 1 AND epoch = $1";

const FIRST: &str = "
INSERT INTO segue.control (id, epoch, phase, target_percentage, reason, changed_by)
VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING";

/// The control rows behind pools of segue's own sessions.
#[derive(Debug, Clone)]
pub struct ControlTable {
    pools: Sides<Pool>,
}

// === impl ControlTable ===

impl ControlTable {
    /// The rows of these two databases.
    pub fn new(pools: Sides<Pool>) -> Self {
        Self { pools }
    }

    async fn read_row(&self, side: Side) -> Result<Option<ControlRow>, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let prepared = match session.prepared(READ).await {
            Ok(prepared) => prepared,
            Err(fault) if [UNDEFINED_TABLE, UNDEFINED_SCHEMA].contains(&&*fault.sqlstate) => {
                return Ok(None);
            }
            Err(fault) => return Err(fault),
        };
        let row = session
            .query_opt(&prepared.statement, &[])
            .await
            .map_err(|error| session.fault(error, true))?;
        row.map(|row| control_row(&row, side)).transpose()
    }

    async fn change(
        &self,
        side: Side,
        from: Option<u64>,
        to: ControlChange,
    ) -> Result<bool, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let epoch = epoch_of(to.state.epoch, side)?;
        let phase = to.state.phase.as_str();
        let changed = match from {
            Some(from) => {
                let from = epoch_of(from, side)?;
                let prepared = session.prepared(CHANGE).await?;
                session
                    .execute(
                        &prepared.statement,
                        &[&from, &epoch, &phase, &to.target_percentage, &to.reason, &to.changed_by],
                    )
                    .await
            }
            None => {
                let prepared = session.prepared(FIRST).await?;
                session
                    .execute(
                        &prepared.statement,
                        &[&epoch, &phase, &to.target_percentage, &to.reason, &to.changed_by],
                    )
                    .await
            }
        };
        changed.map(|rows| rows == 1).map_err(|error| session.fault(error, true))
    }
}

impl ControlStore for ControlTable {
    fn read(&self, side: Side) -> BoxFuture<'_, Result<Option<ControlRow>, SqlFault>> {
        self.read_row(side).boxed()
    }

    fn compare_and_set(
        &self,
        side: Side,
        from: Option<u64>,
        to: ControlChange,
    ) -> BoxFuture<'_, Result<bool, SqlFault>> {
        self.change(side, from, to).boxed()
    }
}

fn epoch_of(epoch: u64, side: Side) -> Result<i64, SqlFault> {
    i64::try_from(epoch).map_err(|_| {
        let message = format!("epoch {epoch} is above what segue.control holds");
        SqlFault::new(FaultKind::Internal, "control.epoch", message).on(side)
    })
}

fn control_row(row: &Row, side: Side) -> Result<ControlRow, SqlFault> {
    let unreadable = |message: String| {
        SqlFault::new(FaultKind::Precondition, "control.unreadable", message)
            .on(side)
            .with_hint("the row may be of a newer segue; run the version that wrote it")
    };
    let decode = || -> Result<_, tokio_postgres::Error> {
        let epoch: i64 = row.try_get(0)?;
        let phase: String = row.try_get(1)?;
        Ok((
            epoch,
            phase,
            row.try_get(2)?,
            row.try_get(3)?,
            row.try_get::<_, Option<String>>(4)?,
            row.try_get(5)?,
        ))
    };
    let (epoch, phase, target_percentage, reason, changed_by, changed_at) =
        decode().map_err(|error| unreadable(format!("segue.control cannot be read: {error}")))?;
    let phase: Phase = phase.parse().map_err(|error| unreadable(format!("{error}")))?;
    Ok(ControlRow {
        state: ControlState { epoch: epoch.unsigned_abs(), phase },
        target_percentage,
        reason,
        changed_by: changed_by.unwrap_or_default(),
        changed_at,
    })
}
