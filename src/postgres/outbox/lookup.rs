//! Single writes in the primary's outbox.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::{OutboxMark, WriteId};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::ports::ControlView;
use crate::ports::settled::{Oldest, OutboxLookup, Waiting};
use crate::postgres::pool::Pool;

/// One statement, so that rows and epoch are of one moment. Keys that were folded into their
/// table no longer have their writes' names: until it is done, every write waits.
const WAITING: &str = "
SELECT (SELECT epoch FROM segue.control WHERE id = 1), ARRAY(
    SELECT w.id FROM pg_catalog.unnest($1::text[]) AS w (id) WHERE EXISTS (
        SELECT 1 FROM segue.outbox AS o
        WHERE o.write_id = w.id::uuid AND o.forgotten_at IS NULL)
        OR EXISTS (SELECT 1 FROM segue.pending_table))";

/// As there. A folded key says no longer when it was written. The moment is after all that waits,
/// whatever the server's clock was set to since.
const OLDEST: &str = "
SELECT (SELECT epoch FROM segue.control WHERE id = 1),
    (pg_catalog.date_part('epoch', greatest(pg_catalog.clock_timestamp(),
            (SELECT pg_catalog.max(o.created_at) FROM segue.outbox AS o WHERE o.forgotten_at IS NULL))
        - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::int8,
    CASE WHEN EXISTS (SELECT 1 FROM segue.pending_table) THEN 0
    ELSE (SELECT (pg_catalog.date_part('epoch', pg_catalog.min(o.created_at)
            - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::int8
        FROM segue.outbox AS o WHERE o.forgotten_at IS NULL) END";

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
        let row = session.query_one(&prepared.statement, &[&ids]).await?;
        session.set_busy(false);
        let epoch: Option<i64> = row.try_get(0)?;
        let waiting: Vec<String> = row.try_get(1)?;
        let ids = waiting.iter().filter_map(|id| id.parse::<Uuid>().ok());
        let writes = ids.map(|id| WriteId(id.as_u128())).collect();
        Ok(Waiting { epoch: known(epoch, side)?, writes })
    }

    async fn look_for_oldest(&self) -> Result<Oldest, SqlFault> {
        let side = self.control.current().phase.primary();
        let session = self.pools.of(side).get().await?;
        // As above.
        session.set_busy(true);
        let prepared = session.prepared(OLDEST).await?;
        let row = session.query_one(&prepared.statement, &[]).await?;
        session.set_busy(false);
        let epoch: Option<i64> = row.try_get(0)?;
        let now = row.try_get(1).map(OutboxMark)?;
        let since: Option<i64> = row.try_get(2)?;
        Ok(Oldest { epoch: known(epoch, side)?, now, since: since.map(OutboxMark) })
    }
}

fn known(epoch: Option<i64>, side: Side) -> Result<u64, SqlFault> {
    let epoch = epoch.ok_or_else(|| {
        let message = "segue.control has no row there";
        SqlFault::new(FaultKind::Precondition, Reason::ControlAbsent, message).on(side)
    })?;
    Ok(epoch.unsigned_abs())
}

impl OutboxLookup for Lookup {
    fn waiting<'a>(&'a self, writes: &'a [WriteId]) -> BoxFuture<'a, Result<Waiting, SqlFault>> {
        Box::pin(self.look(writes))
    }

    fn oldest(&self) -> BoxFuture<'_, Result<Oldest, SqlFault>> {
        Box::pin(self.look_for_oldest())
    }
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookup").field("pools", &self.pools).finish_non_exhaustive()
    }
}
