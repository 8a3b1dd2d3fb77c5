//! `segue.pause` and `segue.pause_report`, on the primary.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::cutover::{Pause, Stage};
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::fleet::MemberId;
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::sqlstate;
use crate::postgres::fence::{mark, number};
use crate::postgres::pool::Pool;

/// One at a time: another's is not touched while its lease lasts.
const ANNOUNCE: &str = "
INSERT INTO segue.pause AS p (id, pause_id, stage, epoch, announced_by, lease_until)
VALUES (1, $1::text::uuid, $2, $3, $4,
    pg_catalog.clock_timestamp() + $5::float8 * '1 second'::interval)
ON CONFLICT (id) DO UPDATE SET pause_id = excluded.pause_id, stage = excluded.stage,
    epoch = excluded.epoch, announced_by = excluded.announced_by,
    lease_until = excluded.lease_until
WHERE p.pause_id = excluded.pause_id OR p.lease_until < pg_catalog.clock_timestamp()";

/// A pause that was lifted stays lifted.
const RENEW: &str = "
UPDATE segue.pause SET lease_until = pg_catalog.clock_timestamp() + $2::float8 * '1 second'::interval
WHERE pause_id = $1::text::uuid AND lease_until > pg_catalog.clock_timestamp()";

const LIFT: &str = "DELETE FROM segue.pause WHERE pause_id = $1::text::uuid";

const READ: &str = "
SELECT pause_id::text, stage, epoch,
    extract(epoch FROM lease_until - pg_catalog.clock_timestamp())::float8
FROM segue.pause WHERE id = 1";

const REPORT: &str = "
INSERT INTO segue.pause_report (pause_id, member_id, stage)
VALUES ($1::text::uuid, $2::text::uuid, $3)
ON CONFLICT (pause_id, member_id) DO UPDATE SET stage = excluded.stage,
    at = pg_catalog.clock_timestamp()";

const REPORTS: &str =
    "SELECT member_id::text, stage FROM segue.pause_report WHERE pause_id = $1::text::uuid";

const FORGET: &str = "
DELETE FROM segue.pause_report WHERE at < pg_catalog.clock_timestamp() - '1 day'::interval";

const ATTEMPTS_MAX: u32 = 5;

/// The pause behind pools of their own.
#[derive(Debug, Clone)]
pub struct PauseTable {
    pools: Sides<Pool>,
}

// === impl PauseTable ===

impl PauseTable {
    /// The tables of these two databases.
    pub fn new(pools: Sides<Pool>) -> Self {
        Self { pools }
    }

    /// Announces a pause, or its next stage. Answers whether it stands: another's may.
    ///
    /// *If we crash after it*, it ends with its lease.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn announce(
        &self,
        side: Side,
        pause: &Pause,
        by: &str,
        lease: Duration,
    ) -> Result<bool, SqlFault> {
        self.run(side, FORGET, &[]).await?;
        let (id, stage) = (name(pause.id), pause.stage.as_str());
        let (epoch, lease_s) = (number(pause.epoch, side)?, lease.as_secs_f64());
        let done = self.run(side, ANNOUNCE, &[&id, &stage, &epoch, &by, &lease_s]).await?;
        Ok(done == 1)
    }

    /// Makes it last longer. Answers whether it still stood.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn renew(&self, side: Side, id: u128, lease: Duration) -> Result<bool, SqlFault> {
        Ok(self.run(side, RENEW, &[&name(id), &lease.as_secs_f64()]).await? == 1)
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// What the database reports; it ends with its lease then.
    pub async fn lift(&self, side: Side, id: u128) -> Result<(), SqlFault> {
        self.run(side, LIFT, &[&name(id)]).await.map(drop)
    }

    /// The pause that is announced on a side.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn read(&self, side: Side) -> Result<Option<Pause>, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let prepared = session.prepared(READ).await?;
        let row = session.repeatable().query_opt(&prepared.statement, &[]).await;
        let Some(row) = row? else {
            // A fence that a lost coordinator left keeps out even those who are not segue's.
            mark::lift_if_lapsed(&session).await;
            return Ok(None);
        };
        let (id, stage): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let left_s: f64 = row.try_get(3)?;
        if left_s <= 0.0 {
            mark::lift_if_lapsed(&session).await;
        }
        Ok(Some(Pause {
            id: parsed(&id, side)?,
            stage: stage.parse().map_err(|error: String| unreadable(error, side))?,
            epoch: row.try_get::<_, i64>(2)?.unsigned_abs(),
            left: (left_s > 0.0).then(|| Duration::from_secs_f64(left_s)),
        }))
    }

    /// A member has come so far.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn report(
        &self,
        side: Side,
        id: u128,
        member: MemberId,
        stage: Stage,
    ) -> Result<(), SqlFault> {
        let (id, member) = (name(id), member.to_string());
        self.run(side, REPORT, &[&id, &member, &stage.as_str()]).await.map(drop)
    }

    /// How far members have come.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn reports(&self, side: Side, id: u128) -> Result<Vec<(MemberId, Stage)>, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let prepared = session.prepared(REPORTS).await?;
        let rows = session.repeatable().query(&prepared.statement, &[&name(id)]).await?;
        let mut reports = Vec::with_capacity(rows.len());
        for row in &rows {
            let (member, stage): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let stage = stage.parse().map_err(|error: String| unreadable(error, side))?;
            reports.push((MemberId(parsed(&member, side)?), stage));
        }
        Ok(reports)
    }

    async fn run(
        &self,
        side: Side,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let prepared = session.prepared(sql).await?;
        let mut attempt = 1;
        loop {
            let ran = session.execute(&prepared.statement, params).await;
            match ran {
                // In a serializable database it may meet another one, and is undone.
                Err(fault)
                    if fault.sqlstate == sqlstate::SERIALIZATION_FAILURE
                        && attempt < ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                ran => return ran,
            }
        }
    }
}

fn name(id: u128) -> String {
    Uuid::from_u128(id).to_string()
}

fn parsed(id: &str, side: Side) -> Result<u128, SqlFault> {
    id.parse::<Uuid>().map(|id| id.as_u128()).map_err(|error| unreadable(error.to_string(), side))
}

fn unreadable(message: String, side: Side) -> SqlFault {
    SqlFault::new(FaultKind::Precondition, Reason::PauseUnreadable, message).on(side)
}
