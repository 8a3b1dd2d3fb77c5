//! What the databases say of the copy and of its proof, for the gates.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::backfill::BackfillProgress;
use crate::domain::copied::{CopyFigures, TableProof, copied, proven};
use crate::domain::fault::SqlFault;
use crate::domain::gate::Progress;
use crate::domain::proof_age::ProofAges;
use crate::domain::side::{Side, Sides};
use crate::domain::table::TableName;
use crate::ports::ControlView;
use crate::ports::admin::CopyProgress;
use crate::postgres::backfill::progress;
use crate::postgres::drift::{CaptureWatch, Look};
use crate::postgres::outbox::servers;
use crate::postgres::pool::Pool;
use crate::postgres::session::asked::Row;

const MIGRATED: &str = "\
    SELECT m.table_id, pg_catalog.concat(m.source_schema, '.', m.source_name), s.capture_gaps \
    FROM segue.migrated_table AS m CROSS JOIN segue.outbox_state AS s WHERE s.id = 1 \
    ORDER BY m.table_id";
/// Copies that were begun under another count of gaps in capture, or under none.
const BEGUN: &str = "\
    SELECT table_id, capture_gaps IS NULL FROM segue.backfill_table \
    WHERE capture_gaps IS DISTINCT FROM $1";
/// A proof of another server, or of before a gap in capture, is void whether or not somebody has
/// noted it.
const PROOFS: &str = "\
    SELECT m.source_schema, m.source_name, pg_catalog.count(v.chunk), \
        pg_catalog.count(*) FILTER (WHERE v.proven_at IS NOT NULL AND NOT v.void), \
        pg_catalog.count(*) FILTER (WHERE v.proven_at IS NOT NULL AND NOT v.void \
            AND v.written_at IS NOT NULL), \
        pg_catalog.count(*) FILTER (WHERE v.differs AND NOT v.void), \
        coalesce(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() \
            - pg_catalog.min(v.read_at) FILTER (WHERE v.proven_at IS NOT NULL AND NOT v.void)), 0), \
        pg_catalog.min(v.unread) FILTER (WHERE NOT v.void), \
        coalesce(w.void_reason, '') \
    FROM segue.migrated_table AS m LEFT JOIN ( \
        SELECT p.*, p.source_server <> $1 OR p.target_server <> $2 \
            OR p.capture_gaps <> s.capture_gaps \
            OR coalesce(p.read_at <= t.voided_at, false) AS void \
        FROM segue.verify AS p CROSS JOIN segue.outbox_state AS s \
        LEFT JOIN segue.verify_table AS t USING (table_id) WHERE s.id = 1) AS v USING (table_id) \
    LEFT JOIN segue.verify_table AS w USING (table_id) \
    GROUP BY m.table_id, m.source_schema, m.source_name, w.void_reason ORDER BY m.table_id";

/// Asks both databases, each for no longer than a limit.
#[derive(Clone)]
pub struct CopyEvidence {
    pools: Sides<Pool>,
    control: Arc<dyn ControlView>,
    limit: Duration,
    ages: ProofAges,
    watch: CaptureWatch,
}

// === impl CopyEvidence ===

impl CopyEvidence {
    /// Asks these; the control row says which is the primary. Proofs may be so old.
    pub fn new(
        pools: Sides<Pool>,
        control: Arc<dyn ControlView>,
        limit: Duration,
        ages: ProofAges,
    ) -> Self {
        let watch = CaptureWatch::new(pools.clone(), Arc::clone(&control));
        Self { pools, control, limit, ages, watch }
    }

    /// The history is copied from the source, whichever side is the primary by now.
    async fn copy(&self) -> Result<CopyFigures, SqlFault> {
        let client = self.pools.source.get().await?;
        let rows = client.query(MIGRATED, &[]).await?;
        let mut figures = CopyFigures::default();
        let mut gaps = 0_i64;
        for row in &rows {
            figures.migrated.push((row.try_get(0)?, row.try_get(1)?));
            gaps = row.try_get(2)?;
        }
        drop(client);
        let tables = progress::tables(&self.pools.target, None).await?;
        let workers = progress::workers(&self.pools.target).await?;
        figures.progress = BackfillProgress { tables, workers };
        let client = self.pools.target.get().await?;
        for row in client.query(BEGUN, &[&gaps]).await? {
            let (id, uncaptured) = (row.try_get(0)?, row.try_get(1)?);
            let list = if uncaptured { &mut figures.uncaptured } else { &mut figures.overtaken };
            list.push(id);
        }
        Ok(figures)
    }

    /// Proofs from before capture was off are none: where something is decided, that is looked at
    /// first. Otherwise the leader has done so a few seconds ago.
    async fn proofs(&self, anew: bool) -> Result<Vec<TableProof>, SqlFault> {
        if anew {
            self.watch.look(Look::Thorough).await?;
        }
        let primary: Side = self.control.current().phase.primary();
        let (one, other) = (self.pools.of(primary), self.pools.of(primary.other()));
        let (here, there) = (servers::name(one).await?, servers::name(other).await?);
        let client = one.get().await?;
        let rows = client.query(PROOFS, &[&here, &there]).await?;
        let proof = |row: &Row| {
            let count = |index| row.try_get::<_, i64>(index).map(|it| it.max(0).unsigned_abs());
            Ok(TableProof {
                table: TableName::new(row.try_get::<_, String>(0)?, row.try_get::<_, String>(1)?),
                chunks: count(2)?,
                proven: count(3)?,
                written: count(4)?,
                differing: count(5)?,
                unread: row.try_get(7)?,
                age: Duration::from_secs_f64(row.try_get::<_, f64>(6)?.clamp(0.0, 1e12)),
                voided: row.try_get(8)?,
            })
        };
        rows.iter().map(proof).collect::<Result<_, _>>()
    }

    /// What cannot be found out in time is not known: no gate passes by that.
    async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, SqlFault>>,
        judged: impl FnOnce(&T) -> Progress,
    ) -> Progress {
        match tokio::time::timeout(self.limit, asked).await {
            Ok(Ok(found)) => judged(&found),
            Ok(Err(fault)) => Progress::Unknown(format!("it cannot be read: {fault}")),
            Err(_) => Progress::Unknown(format!("there was no answer within {:?}", self.limit)),
        }
    }
}

impl std::fmt::Debug for CopyEvidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyEvidence").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl CopyProgress for CopyEvidence {
    fn backfill(&self) -> BoxFuture<'_, Progress> {
        self.within(self.copy(), copied).boxed()
    }

    fn verify(&self, anew: bool) -> BoxFuture<'_, Progress> {
        self.within(self.proofs(anew), |proofs| proven(proofs, &self.ages)).boxed()
    }
}
