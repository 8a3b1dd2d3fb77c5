//! A counter in `segue.identity` that rises all the time, by which a backup that was restored is
//! noticed.
//!
//! Each side's generation is raised every few seconds by whichever sidecar comes first, and noted on
//! the other side once it is a while old. A side whose generation is older than what the other has
//! noted went back in time. A standby that is promoted keeps its generation, but for what it had not
//! received: one that was behind by less than [`RAISE_EVERY`] is not taken for a backup.
//!
//! - The shadow went back: what it lost is copied again, and nothing of it is proven any more.
//! - The primary went back: what was acknowledged since is gone. Nobody is let in until an operator
//!   has said that it is gone on with.
//!
//! *If we crash*: what is void is noted before the generation is raised, so that the next look finds
//! it again.

use std::time::Duration;

use crate::domain::fault::SqlFault;
use crate::domain::side::{Side, Sides};
use crate::postgres::identity::adopt::{Told, in_transaction, note};
use crate::postgres::outbox::servers;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::Session;

/// How often a generation is raised, and how old it must be to be noted on the other side: a
/// standby that takes over may lack the newest one.
pub const RAISE_EVERY: Duration = Duration::from_secs(2);

const READ: &str = "\
    SELECT generation, raised_at <= pg_catalog.clock_timestamp() - $1::text::interval \
    FROM segue.identity WHERE id = 1";
/// Of several at a time one does it.
const RAISE: &str = "\
    UPDATE segue.identity SET generation = generation + 1, \
        raised_at = pg_catalog.clock_timestamp() WHERE id = 1 AND generation = $1";
const OVERTAKE: &str = "\
    UPDATE segue.identity SET generation = $1::int8 + 1, raised_at = pg_catalog.clock_timestamp() \
    WHERE id = 1 AND generation < $1::int8";
const KNOWN: &str = "SELECT other_generation FROM segue.identity WHERE id = 1";
const NOTE: &str =
    "UPDATE segue.identity SET other_generation = $1 WHERE id = 1 AND other_generation < $1";
const VOID: &str = "\
    INSERT INTO segue.verify_table (table_id, looked_at, voided_at, void_reason) \
    SELECT table_id, '-infinity', pg_catalog.clock_timestamp(), $1 FROM segue.migrated_table \
    ON CONFLICT (table_id) DO UPDATE SET voided_at = excluded.voided_at, \
        void_reason = excluded.void_reason";
const OWN: &str = "SELECT own_id::text FROM segue.identity WHERE id = 1";

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// It is no older than what was seen of it, and than this generation, which no standby lacks.
    Present(i64),
    /// It went back in time.
    Behind {
        /// Its generation.
        found: i64,
        /// What the other side has noted of it.
        known: i64,
    },
}

/// The generations of both sides.
#[derive(Debug, Clone)]
pub struct Generations {
    /// Sessions of any age.
    pools: Sides<Pool>,
}

// === impl Generations ===

impl Generations {
    /// Those of the databases behind these pools, which take a database that went back.
    pub fn new(pools: Sides<Pool>) -> Self {
        Self { pools }
    }

    /// Looks at a side; raises its generation and notes it on the other side where that is due.
    ///
    /// # Errors
    ///
    /// What a database reports: both are needed.
    pub async fn look(&self, side: Side) -> Result<Looked, SqlFault> {
        let other = self.pools.of(side.other()).get().await?;
        // Before the side itself is asked: what it says then is no older, unless it went back.
        let known = number(&other, KNOWN).await?;
        let client = self.pools.of(side).get().await?;
        let age = format!("{} seconds", RAISE_EVERY.as_secs());
        let row = client.repeatable().query_one(READ, &[&age]).await?;
        let (found, due): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
        if found < known {
            return Ok(Looked::Behind { found, known });
        }
        if due {
            other.execute(NOTE, &[&found]).await?;
            client.execute(RAISE, &[&found]).await?;
        }
        Ok(Looked::Present(if due { found } else { known }))
    }

    /// Raises a side's generation: every start is another one.
    ///
    /// # Errors
    ///
    /// What the side reports.
    pub async fn raise(&self, side: Side) -> Result<(), SqlFault> {
        let client = self.pools.of(side).get().await?;
        let row = client.query_one(READ, &[&"0 seconds"]).await?;
        let found: i64 = row.try_get(0)?;
        client.execute(RAISE, &[&found]).await.map(drop)
    }

    /// Notes that the shadow went back in time: all of it is reconciled again, and nothing of it is
    /// proven. Answers how many rows are due again.
    ///
    /// # Errors
    ///
    /// What the primary reports; all of it is done, or nothing.
    pub async fn copy_again(
        &self,
        shadow: Side,
        known: i64,
        reason: &str,
    ) -> Result<u64, SqlFault> {
        let own = own_id(self.pools.of(shadow)).await?;
        // Whoever notes the same notes it once.
        let id = uuid::Uuid::from_u128(own.as_u128() ^ u128::from(known.unsigned_abs()));
        let primary = self.pools.of(shadow.other()).get().await?;
        let told = Told { by: "segue", reason, forced: false };
        again(&primary, id, told).await
    }

    /// Lets sessions with the shadow be opened again: its generation is newer than any before.
    ///
    /// # Errors
    ///
    /// What the shadow reports.
    pub async fn overtake(&self, side: Side, known: i64) -> Result<(), SqlFault> {
        let client = self.pools.of(side).get().await?;
        let done = client.execute(OVERTAKE, &[&known]).await;
        done.map(drop)
    }
}

/// Everything that the primary has is due for the shadow again, and no proof stands; `id` is the
/// event's. Answers how many rows of the outbox are due.
///
/// # Errors
///
/// What the primary reports; all of it is done, or nothing.
pub async fn again(primary: &Lease, id: uuid::Uuid, told: Told<'_>) -> Result<u64, SqlFault> {
    in_transaction(primary, async || {
        let mut rows = servers::recall(primary).await?;
        // Older than the window are those that no outbox row names any more.
        rows += servers::enqueue_tables(primary, None).await?;
        primary.execute(VOID, &[&told.reason]).await?;
        note(primary, id, told).await?;
        Ok(rows)
    })
    .await
}

async fn number(session: &Session, sql: &str) -> Result<i64, SqlFault> {
    let row = session.repeatable().query_one(sql, &[]).await?;
    row.try_get(0)
}

async fn own_id(pool: &Pool) -> Result<uuid::Uuid, SqlFault> {
    let client = pool.get().await?;
    let row = client.repeatable().query_one(OWN, &[]).await?;
    let id: String = row.try_get(0)?;
    Ok(id.parse().unwrap_or_default())
}
