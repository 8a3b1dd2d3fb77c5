//! Whether a server has crashed or another one took its place: it may have lost commits.
//!
//! What was forgotten in the window is reconciled again then. Each side's last incarnation is
//! kept beside the outbox, so that one member notices once, whichever it is.

use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::postgres::outbox::SLOT_NOW;
use crate::postgres::pool::{Lease, Pool};

const SEEN: &str = "SELECT incarnation, timeline FROM segue.server_seen WHERE side = $1 FOR UPDATE";
/// Whom a side was last seen to be. Shared, so that a recall waits for who forgets by it.
const WHO: &str =
    "SELECT pg_catalog.concat(incarnation, '/', timeline) FROM segue.server_seen WHERE side = $1";
const FIRST: &str = "INSERT INTO segue.server_seen (side, incarnation, timeline) \
    VALUES ($1, $2, $3) ON CONFLICT (side) DO NOTHING";
const NOTE: &str = "UPDATE segue.server_seen SET incarnation = $2, timeline = $3, \
    seen_at = pg_catalog.clock_timestamp() WHERE side = $1";
/// The first digits of a log file's name; and since when the server counts. It keeps its counters
/// when it is shut down, and begins anew when it has crashed (the manual's chapter on the
/// cumulative statistics system); somebody who resets them looks like a crash, which costs a
/// recall.
const TIMELINE: &str = "SELECT pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8), \
     (SELECT coalesce(b.stats_reset::text, '') FROM pg_catalog.pg_stat_bgwriter AS b)";
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
    /// When it was started, and since when it counts, see [`COUNTS_SINCE`].
    incarnation: String,
    timeline: String,
}

/// Between the two parts of an incarnation.
const COUNTS_SINCE: &str = ", counting since ";

// === impl Who ===

impl Who {
    fn counts_since(&self) -> Option<&str> {
        let since = self.incarnation.split_once(COUNTS_SINCE).map(|(_, since)| since);
        since.filter(|since| !since.is_empty())
    }

    /// See [`name`].
    fn name(&self) -> String {
        format!("{}/{}", self.counts_since().unwrap_or(&self.incarnation), self.timeline)
    }

    /// Whether a server that was seen as this has only been shut down and started since, so that
    /// it has all that it had committed.
    fn was_only_restarted(&self, now: &Self) -> bool {
        let since = self.counts_since();
        self.timeline == now.timeline && since.is_some() && since == now.counts_since()
    }
}

// === impl Servers ===

impl Servers {
    /// The servers behind these pools.
    pub fn new(primary: Pool, shadow: Pool) -> Self {
        Self { primary, shadow }
    }

    /// Recalls the window of forgotten rows where a server is not the one that was seen last, or
    /// has crashed since.
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
        client.batch_execute(BEGIN).await?;
        let done = self.compare(&client, side, &who).await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await?;
        done
    }

    async fn compare(&self, client: &Lease, side: Side, who: &Who) -> Result<u64, SqlFault> {
        let name = side.to_string();
        let Some(row) = client.query_opt(SEEN, &[&name]).await? else {
            client.execute(FIRST, &[&name, &who.incarnation, &who.timeline]).await?;
            return Ok(0);
        };
        let text = |index| row.try_get::<_, String>(index);
        let seen = Who { incarnation: text(0)?, timeline: text(1)? };
        if seen == *who {
            return Ok(0);
        }
        if seen.was_only_restarted(who) {
            self.note(client, &name, who).await?;
            tracing::info!(%side, "a server was shut down and started again; it has lost nothing");
            return Ok(0);
        }
        let mut rows = recall(client).await?;
        // A primary that lost commits lost their outbox rows with them, and the shadow may have
        // what they wrote: no key names it, so that all must be looked at.
        let lost = side == self.primary.side() && seen.timeline != who.timeline;
        if lost {
            rows += enqueue_tables(client, None).await?;
        }
        self.note(client, &name, who).await?;
        tracing::warn!(
            %side, rows, failed_over = lost,
            "a server has crashed or was replaced; what may have been lost there is reconciled again"
        );
        Ok(rows)
    }

    async fn note(&self, client: &Lease, side: &str, who: &Who) -> Result<(), SqlFault> {
        let noted = client.execute(NOTE, &[&side, &who.incarnation, &who.timeline]).await;
        noted.map(drop)
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
    let sql = match hold {
        false => WHO.to_owned(),
        true => format!("{WHO}{}", client.dialect().lock_row_clause()),
    };
    let who = client.prepared(&sql).await?;
    let row = client.query_opt(&who.statement, &[&side.as_str()]).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Makes all of the window of forgotten rows due again; answers how many.
///
/// # Errors
///
/// What the database reports.
pub async fn recall(client: &Lease) -> Result<u64, SqlFault> {
    client.execute(RECALL, &[]).await
}

/// Writes the row that asks for a whole table, for each table of these ids or for all.
///
/// # Errors
///
/// What the database reports.
pub async fn enqueue_tables(client: &Lease, ids: Option<&[i32]>) -> Result<u64, SqlFault> {
    let sql = format!(
        "INSERT INTO segue.outbox (slot, table_id, key) SELECT {SLOT_NOW}, table_id, NULL \
         FROM segue.migrated_table WHERE $1::int4[] IS NULL OR table_id = ANY ($1::int4[])"
    );
    client.execute(&sql, &[&ids]).await
}

/// What tells a side's server from another one, and from itself before a crash: as long as it is
/// the same, nothing that it had committed was lost. Empty where there is no such notion.
///
/// # Errors
///
/// What the side reports.
pub async fn name(pool: &Pool) -> Result<String, SqlFault> {
    let who = who(pool).await?;
    Ok(who.map(|who| who.name()).unwrap_or_default())
}

async fn who(pool: &Pool) -> Result<Option<Who>, SqlFault> {
    let client = pool.get().await?;
    let facts = client.facts();
    if facts.incarnation.is_empty() || !facts.dialect.may_lose_commits() || facts.in_recovery {
        return Ok(None);
    }
    let started = facts.incarnation.clone();
    let row = client.query_one(TIMELINE, &[]).await?;
    let timeline = row.try_get(0)?;
    let since: String = row.try_get(1)?;
    let incarnation = format!("{started}{COUNTS_SINCE}{since}");
    Ok(Some(Who { incarnation, timeline }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_shut_down_is_told_from_one_that_crashed_or_another() {
        let who = |started: &str, since: &str, timeline: &str| Who {
            incarnation: format!("{started}{COUNTS_SINCE}{since}"),
            timeline: timeline.to_owned(),
        };
        let then = who("1", "a", "01");
        assert!(then.was_only_restarted(&who("2", "a", "01")));
        assert_eq!(then.name(), who("2", "a", "01").name());
        for now in [who("2", "b", "01"), who("2", "a", "02")] {
            assert!(!then.was_only_restarted(&now), "{now:?}");
            assert_ne!(then.name(), now.name());
        }
        // Nothing is known of when it began to count, or it was noted by an older version.
        assert!(!who("1", "", "01").was_only_restarted(&who("2", "", "01")));
        assert_ne!(who("1", "", "01").name(), who("2", "", "01").name());
        let older = Who { incarnation: "1".to_owned(), timeline: "01".to_owned() };
        assert!(!older.was_only_restarted(&who("2", "a", "01")));
    }
}
