//! How the source is, and what of its outbox must be kept for the chunks that are under way.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::domain::fault::SqlFault;
use crate::domain::key::OutboxMark;
use crate::ports::backfill::{SourceLook, SourceWatch};
use crate::postgres::pool::Pool;

/// A moment before the hold's own: a chunk that is claimed while this is on its way must not
/// begin before what is held.
const MARGIN: &str = "1 minute";
/// Much longer than between two looks: the hold outlives a process that is only slow.
const HOLD_FOR: Duration = Duration::from_secs(15 * 60);

const LOOK: &str = "SELECT epoch FROM segue.control WHERE id = 1";
const LOOK_IDLE: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_database";
/// The oldest key that is due; what failed and waits for its next attempt is not counted, nor
/// does it get in the way of the rest.
const AGE: &str = "\
    SELECT greatest(pg_catalog.date_part('epoch', \
        pg_catalog.clock_timestamp() - o.next_attempt_at), 0) \
    FROM segue.outbox AS o WHERE o.forgotten_at IS NULL \
    ORDER BY o.next_attempt_at LIMIT 1";

/// Looks at the source for one process.
#[derive(Debug)]
pub struct Watch {
    source: Pool,
    owner: uuid::Uuid,
    captured: bool,
}

impl Watch {
    /// `captured` says whether there is an outbox to look at.
    pub fn new(source: Pool, owner: uuid::Uuid, captured: bool) -> Self {
        Self { source, owner, captured }
    }

    async fn see(&self, hold: Option<OutboxMark>) -> Result<SourceLook, SqlFault> {
        let client = self.source.get().await?;
        let look = client.prepared(if self.captured { LOOK } else { LOOK_IDLE }).await?;
        let begun = Instant::now();
        client.query_opt(&look.statement, &[]).await?;
        let latency = begun.elapsed();
        if !self.captured {
            return Ok(SourceLook { latency, outbox_age: None });
        }
        let since = format!(
            "INSERT INTO segue.outbox_hold (owner, since, until) VALUES ($1::text::uuid, \
             coalesce('2000-01-01 00:00:00+00'::timestamptz + $2::int8 * '1 microsecond'::interval, \
                 pg_catalog.clock_timestamp()) - '{MARGIN}'::interval, \
             pg_catalog.clock_timestamp() + $3::float8 * '1 second'::interval) \
             ON CONFLICT (owner) DO UPDATE SET since = excluded.since, until = excluded.until"
        );
        let (owner, mark) = (self.owner.to_string(), hold.map(|mark| mark.0));
        let hold = client.prepared(&since).await?;
        client.execute(&hold.statement, &[&owner, &mark, &HOLD_FOR.as_secs_f64()]).await?;
        let age = client.prepared(AGE).await?;
        let row = client.query_opt(&age.statement, &[]).await?;
        let age_s: Option<f64> = row.map(|row| row.try_get(0)).transpose()?;
        let age = Duration::from_secs_f64(age_s.unwrap_or(0.0).clamp(0.0, 1e9));
        Ok(SourceLook { latency, outbox_age: Some(age) })
    }
}

impl SourceWatch for Watch {
    fn look(&self, hold: Option<OutboxMark>) -> BoxFuture<'_, Result<SourceLook, SqlFault>> {
        self.see(hold).boxed()
    }

    fn release(&self) -> BoxFuture<'_, Result<(), SqlFault>> {
        async move {
            if !self.captured {
                return Ok(());
            }
            let client = self.source.get().await?;
            let sql = "DELETE FROM segue.outbox_hold WHERE owner = $1::text::uuid";
            let owner = self.owner.to_string();
            client.execute(sql, &[&owner]).await.map(drop)
        }
        .boxed()
    }
}
