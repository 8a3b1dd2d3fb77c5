//! `segue.member` and `segue.leader`, on the primary.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join3};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::{Fleet, Member, MemberId};
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::ports::fleet::{FleetStore, Renewal, Renewed};
use crate::postgres::control::row::{self, control_row};
use crate::postgres::fence::number;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::asked::Row;

const RENEW: &str = "
INSERT INTO segue.member AS m (member_id, name, address, version, epoch, revision, lease_until,
    figures)
VALUES ($1::text::uuid, $2, $3, $4, $5, $6,
    pg_catalog.clock_timestamp() + $7::float8 * '1 second'::interval, $8)
ON CONFLICT (member_id) DO UPDATE SET name = excluded.name, address = excluded.address,
    version = excluded.version, epoch = excluded.epoch, revision = excluded.revision,
    renewed_at = pg_catalog.clock_timestamp(), lease_until = excluded.lease_until, figures = excluded.figures";

/// Keeps the lead, or takes it where its lease has ended. Who is in the way is not waited for.
const LEAD: &str = "
UPDATE segue.leader SET term = CASE WHEN member_id = $1::text::uuid THEN term ELSE term + 1 END,
    member_id = $1::text::uuid, lease_until = pg_catalog.clock_timestamp() + $2::float8 * '1 second'::interval
WHERE id = 1 AND (member_id = $1::text::uuid OR lease_until < pg_catalog.clock_timestamp())";

const MEMBERS: &str = "
SELECT member_id::text, name, address, version, epoch, revision, started_at, lease_until, figures
FROM segue.member ORDER BY name, member_id";

const LEADER: &str = "
SELECT pg_catalog.clock_timestamp(),
    (SELECT member_id::text FROM segue.leader WHERE id = 1 AND lease_until > pg_catalog.clock_timestamp())";

const RESIGN: &str = "
UPDATE segue.leader SET lease_until = '1970-01-01 00:00:00+00'
WHERE id = 1 AND member_id = $1::text::uuid";

const LEAVE: &str = "DELETE FROM segue.member WHERE member_id = $1::text::uuid";

const FORGET: &str = "
DELETE FROM segue.member WHERE lease_until < pg_catalog.clock_timestamp() - $1::float8 * '1 second'::interval";

/// The fleet's tables behind pools that nothing else uses: reconciles that wait for a shadow
/// must not keep a member from its lease.
#[derive(Debug, Clone)]
pub struct FleetTable {
    pools: Sides<Pool>,
    /// See [`FleetStore::ends_readers`].
    ends_readers: Arc<Sides<AtomicBool>>,
}

// === impl FleetTable ===

impl FleetTable {
    /// The tables of these two databases.
    pub fn new(pools: Sides<Pool>) -> Self {
        let unknown = || AtomicBool::new(true);
        let ends_readers = Arc::new(Sides { source: unknown(), target: unknown() });
        Self { pools, ends_readers }
    }

    async fn session(&self, side: Side) -> Result<Lease, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let ends_readers = session.dialect().can_end_sessions();
        self.ends_readers.of(side).store(ends_readers, Ordering::Release);
        Ok(session)
    }

    async fn renew_one(&self, side: Side, renewal: Renewal) -> Result<Renewed, SqlFault> {
        let session = self.session(side).await?;
        // Dropped before it has ended, the session is closed: the next one must not wait for it.
        session.set_busy(true);
        let id = renewal.id.to_string();
        let epoch = number(renewal.acknowledged.epoch, side)?;
        let revision = number(renewal.acknowledged.revision, side)?;
        let lease_s = renewal.lease.as_secs_f64();
        let (renew, read, lead) = (
            session.prepared(RENEW).await?,
            session.prepared(row::READ).await?,
            session.prepared(LEAD).await?,
        );
        let renew_params: [&(dyn ToSql + Sync); 8] = [
            &id,
            &renewal.name,
            &renewal.address,
            &renewal.version,
            &epoch,
            &revision,
            &lease_s,
            &renewal.figures,
        ];
        let lead_params: [&(dyn ToSql + Sync); 2] = [&id, &lease_s];
        // Sent in this order in one round trip, each in a transaction of its own: the control
        // row is read after the lease is there for all to see.
        let (renewed, row, leads) = join3(
            session.execute(&renew.statement, &renew_params),
            session.query_opt(&read.statement, &[]),
            session.execute(&lead.statement, &lead_params),
        )
        .await;
        renewed?;
        let row = row?;
        let leads = leads? == 1;
        session.set_busy(false);
        let row = row.map(|row| control_row(&row, side)).transpose()?;
        Ok(Renewed { row, leads })
    }

    async fn read_all(&self, side: Side) -> Result<Fleet, SqlFault> {
        let session = self.session(side).await?;
        let leader = session.prepared(LEADER).await?;
        let leader = session.query_one(&leader.statement, &[]).await?;
        let now = leader.try_get(0)?;
        let leader: Option<String> = leader.try_get(1)?;
        let members = session.prepared(MEMBERS).await?;
        let rows = session.query(&members.statement, &[]).await?;
        Ok(Fleet {
            now,
            leader: leader.map(|id| member_id(&id, side)).transpose()?,
            members: rows.iter().map(|row| member(row, side)).collect::<Result<_, _>>()?,
        })
    }

    async fn run(
        &self,
        side: Side,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SqlFault> {
        let session = self.session(side).await?;
        let prepared = session.prepared(sql).await?;
        session.execute(&prepared.statement, params).await
    }
}

impl FleetStore for FleetTable {
    fn renew(&self, side: Side, renewal: Renewal) -> BoxFuture<'_, Result<Renewed, SqlFault>> {
        self.renew_one(side, renewal).boxed()
    }

    fn fleet(&self, side: Side) -> BoxFuture<'_, Result<Fleet, SqlFault>> {
        self.read_all(side).boxed()
    }

    fn leave(&self, side: Side, id: MemberId) -> BoxFuture<'_, Result<(), SqlFault>> {
        Box::pin(async move {
            let id = id.to_string();
            self.run(side, LEAVE, &[&id]).await?;
            self.run(side, RESIGN, &[&id]).await?;
            Ok(())
        })
    }

    fn ends_readers(&self, side: Side) -> bool {
        self.ends_readers.of(side).load(Ordering::Acquire)
    }

    fn forget_lapsed(&self, side: Side, ago: Duration) -> BoxFuture<'_, Result<u64, SqlFault>> {
        Box::pin(async move { self.run(side, FORGET, &[&ago.as_secs_f64()]).await })
    }
}

fn member_id(text: &str, side: Side) -> Result<MemberId, SqlFault> {
    let id: Uuid = text.parse().map_err(|error| {
        let message = format!("the member id {text:?} cannot be read: {error}");
        SqlFault::new(FaultKind::Internal, Reason::MemberId, message).on(side)
    })?;
    Ok(MemberId(id.as_u128()))
}

fn member(row: &Row, side: Side) -> Result<Member, SqlFault> {
    let failed = |error: SqlFault| {
        let message = format!("segue.member cannot be read: {error}");
        SqlFault::new(FaultKind::Precondition, Reason::MemberUnreadable, message).on(side)
    };
    let id: String = row.try_get(0).map_err(failed)?;
    Ok(Member {
        id: member_id(&id, side)?,
        name: row.try_get(1).map_err(failed)?,
        address: row.try_get(2).map_err(failed)?,
        version: row.try_get(3).map_err(failed)?,
        epoch: row.try_get::<_, i64>(4).map_err(failed)?.unsigned_abs(),
        revision: row.try_get::<_, i64>(5).map_err(failed)?.unsigned_abs(),
        started_at: row.try_get(6).map_err(failed)?,
        lease_until: row.try_get(7).map_err(failed)?,
        figures: row.try_get(8).map_err(failed)?,
    })
}
