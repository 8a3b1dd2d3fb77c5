//! Whether a server was restarted or another one took its place: it may have lost commits.
//!
//! What was forgotten in the window is reconciled again then. Each side's last incarnation is
//! kept beside the outbox, so that one member notices once, whichever it is.

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::postgres::outbox::{SLOT_NOW, said};
use crate::postgres::pool::{Lease, Pool};

const SEEN: &str = "SELECT incarnation, timeline FROM segue.server_seen WHERE side = $1 FOR UPDATE";
/// Whom a side was last seen to be. Shared, so that a recall waits for who forgets by it.
const WHO: &str =
    "SELECT pg_catalog.concat(incarnation, '/', timeline) FROM segue.server_seen WHERE side = $1";
const FIRST: &str = "INSERT INTO segue.server_seen (side, incarnation, timeline) \
    VALUES ($1, $2, $3) ON CONFLICT (side) DO NOTHING";
const NOTE: &str = "UPDATE segue.server_seen SET incarnation = $2, timeline = $3, \
    seen_at = pg_catalog.clock_timestamp() WHERE side = $1";
/// The first digits of a log file's name.
const TIMELINE: &str =
    "SELECT pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8)";
/// Recalling millions of rows takes longer than segue's other statements may.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL statement_timeout = 0; SET LOCAL synchronous_commit = on";
/// A recalled key waits since its recall: what it stands for was done in time once, and its old
/// age would say of the shadow that it has fallen behind by the whole window.
const RECALL: &str = "UPDATE segue.outbox SET forgotten_at = NULL, \
    next_attempt_at = pg_catalog.clock_timestamp(), created_at = pg_catalog.clock_timestamp() \
    WHERE forgotten_at IS NOT NULL";

/// Looks at the servers of both sides.
#[derive(Debug, Clone)]
pub struct Servers {
    primary: Pool,
    shadow: Pool,
}

/// Who a session is with. Empty where the server has no such notion.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Who {
    incarnation: String,
    timeline: String,
}

impl Servers {
    /// The servers behind these pools.
    pub fn new(primary: Pool, shadow: Pool) -> Self {
        Self { primary, shadow }
    }

    /// Recalls the window of forgotten rows where a server is not the one that was seen last.
    /// Answers how many rows are due again.
    ///
    /// If we crash here, the transaction is rolled back and the next look does it.
    ///
    /// # Errors
    ///
    /// What the primary reports. A shadow that is away is looked at another time.
    pub async fn check(&self) -> Result<u64, SqlFault> {
        let mut recalled = self.look(&self.primary).await?;
        match self.look(&self.shadow).await {
            Ok(rows) => recalled += rows,
            Err(fault) if fault.side == Some(self.shadow.side()) => {
                tracing::debug!(%fault, "the shadow's server could not be looked at");
            }
            Err(fault) => return Err(fault),
        }
        Ok(recalled)
    }

    async fn look(&self, pool: &Pool) -> Result<u64, SqlFault> {
        let Some(who) = who(pool).await? else { return Ok(0) };
        let side = pool.side();
        let client = self.primary.get().await?;
        client.batch_execute(BEGIN).await.map_err(said(&client))?;
        let done = self.compare(&client, side, &who).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await.map_err(said(&client))?;
        done
    }

    async fn compare(&self, client: &Lease, side: Side, who: &Who) -> Result<u64, SqlFault> {
        let name = side.to_string();
        let Some(row) = client.query_opt(SEEN, &[&name]).await.map_err(said(client))? else {
            let first = client.execute(FIRST, &[&name, &who.incarnation, &who.timeline]).await;
            first.map_err(said(client))?;
            return Ok(0);
        };
        let text = |index| row.try_get::<_, String>(index).map_err(said(client));
        let seen = Who { incarnation: text(0)?, timeline: text(1)? };
        if seen == *who {
            return Ok(0);
        }
        let mut rows = recall(client).await?;
        // A primary that lost commits lost their outbox rows with them, and the shadow may have
        // what they wrote: no key names it, so that all must be looked at.
        let lost = side == self.primary.side() && seen.timeline != who.timeline;
        if lost {
            rows += enqueue_tables(client, None).await?;
        }
        client
            .execute(NOTE, &[&name, &who.incarnation, &who.timeline])
            .await
            .map_err(said(client))?;
        tracing::warn!(
            %side, rows, failed_over = lost,
            "a server was restarted or replaced; what may have been lost there is reconciled again"
        );
        Ok(rows)
    }
}

/// Whom a side was last seen to be; nothing where it has not been looked at yet. With `hold` no
/// recall passes before the client's transaction has ended: what the transaction forgets is
/// recalled with the rest.
///
/// # Errors
///
/// What the primary reports.
pub async fn seen(client: &Lease, side: Side, hold: bool) -> Result<Option<String>, SqlFault> {
    let sql = match (hold, client.facts().is_cockroach) {
        (false, _) => WHO.to_owned(),
        // SERIALIZABLE transactions have no shared locks there.
        (true, true) => format!("{WHO} FOR UPDATE"),
        (true, false) => format!("{WHO} FOR SHARE"),
    };
    let who = client.prepared(&sql).await?;
    let row = client.query_opt(&who.statement, &[&side.as_str()]).await.map_err(said(client))?;
    row.map(|row| row.try_get(0)).transpose().map_err(said(client))
}

/// Makes all of the window of forgotten rows due again; answers how many.
///
/// # Errors
///
/// What the database reports.
pub async fn recall(client: &Lease) -> Result<u64, SqlFault> {
    client.execute(RECALL, &[]).await.map_err(said(client))
}

/// Writes the row that asks for a whole table, for each table of these ids or for all.
///
/// # Errors
///
/// What the database reports.
pub async fn enqueue_tables(client: &Lease, ids: Option<&[i32]>) -> Result<u64, SqlFault> {
    let sql = format!(
        "INSERT INTO segue.outbox (slot, table_id, key) SELECT {SLOT_NOW}, table_id, NULL \
         FROM segue.migrated_table WHERE $1::int4[] IS NULL OR table_id = ANY ($1)"
    );
    client.execute(&sql, &[&ids]).await.map_err(said(client))
}

/// Who a side's server is now, in the words of [`seen`]; empty where it has no such notion.
///
/// # Errors
///
/// What the side reports.
pub async fn name(pool: &Pool) -> Result<String, SqlFault> {
    let who = who(pool).await?;
    Ok(who.map(|who| format!("{}/{}", who.incarnation, who.timeline)).unwrap_or_default())
}

async fn who(pool: &Pool) -> Result<Option<Who>, SqlFault> {
    let client = pool.get().await?;
    let facts = client.facts();
    if facts.incarnation.is_empty() || facts.is_cockroach || facts.in_recovery {
        return Ok(None);
    }
    let incarnation = facts.incarnation.clone();
    let row = client.query_one(TIMELINE, &[]).await.map_err(said(&client))?;
    let timeline = row.try_get(0).map_err(said(&client))?;
    Ok(Some(Who { incarnation, timeline }))
}
