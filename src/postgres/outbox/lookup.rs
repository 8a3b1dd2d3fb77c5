//! Single writes in the primary's outbox.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::side::Sides;
use crate::ports::ControlView;
use crate::ports::settled::{OutboxLookup, Waiting};
use crate::postgres::pool::Pool;

/// One statement, so that rows and epoch are of one moment. Keys that were folded into their
/// table no longer have their writes' names: until it is done, every write waits.
const WAITING: &str = "
SELECT (SELECT epoch FROM segue.control WHERE id = 1), ARRAY(
    SELECT w.id FROM pg_catalog.unnest($1::text[]) AS w (id) WHERE EXISTS (
        SELECT 1 FROM segue.outbox AS o
        WHERE o.write_id = w.id::uuid AND o.forgotten_at IS NULL)
        OR EXISTS (SELECT 1 FROM segue.pending_table))";

/// The outbox of whichever side is the primary, behind pools that reconciles do not use.
#[derive(Clone)]
pub struct Lookup {
    pools: Sides<Pool>,
    control: Arc<dyn ControlView>,
}

// === impl Lookup ===

impl Lookup {
    /// Looks behind these pools.
    pub fn new(pools: Sides<Pool>, control: Arc<dyn ControlView>) -> Self {
        Self { pools, control }
    }

    async fn look(&self, writes: &[WriteId]) -> Result<Waiting, SqlFault> {
        let side = self.control.current().phase.primary();
        let session = self.pools.of(side).get().await?;
        // Dropped before it has ended, the session is closed: the next one must not wait for it.
        session.set_busy(true);
        let ids: Vec<String> = writes.iter().map(ToString::to_string).collect();
        let prepared = session.prepared(WAITING).await?;
        let row = session.query_one(&prepared.statement, &[&ids]).await;
        let row = row.map_err(|error| session.fault(error, true))?;
        session.set_busy(false);
        let failed = |error| session.fault(error, true);
        let epoch: Option<i64> = row.try_get(0).map_err(failed)?;
        let waiting: Vec<String> = row.try_get(1).map_err(failed)?;
        let epoch = epoch.ok_or_else(|| {
            let message = "segue.control has no row there";
            SqlFault::new(FaultKind::Precondition, "control.absent", message).on(side)
        })?;
        let ids = waiting.iter().filter_map(|id| id.parse::<Uuid>().ok());
        let writes = ids.map(|id| WriteId(id.as_u128())).collect();
        Ok(Waiting { epoch: epoch.unsigned_abs(), writes })
    }
}

impl OutboxLookup for Lookup {
    fn waiting<'a>(&'a self, writes: &'a [WriteId]) -> BoxFuture<'a, Result<Waiting, SqlFault>> {
        Box::pin(self.look(writes))
    }
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("pools", &self.pools).finish_non_exhaustive()
    }
}
