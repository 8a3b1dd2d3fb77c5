//! `segue.mismatch`: the fleet's one list of judged samples.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::{Statement, Transaction};

use crate::domain::fault::SqlFault;
use crate::domain::gate::Findings;
use crate::domain::mismatch::{Mismatch, MismatchKey, Resolution};
use crate::domain::verdict::Verdict;
use crate::ports::MismatchStore;
use crate::postgres::pool::Pool;
use crate::postgres::session::asked::Row;
use crate::postgres::session::fault;

/// Counts add up, and the latest example stands. What an operator resolved stays so where the
/// statement is what differs: that was judged once and for all. Data or an error found again
/// after the resolution is a new occurrence and opens the entry again; who resolved it before
/// stays on record. Rows are written in the order of their key, so that two members do not
/// deadlock. What was pending, was not for a while, and is again begins anew.
const ADD: &str = "
INSERT INTO segue.mismatch AS m (fingerprint, verdict, category, statement, statement_name, count,
    first_seen, last_seen, reason, rewrite, example, rules, suspected)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (fingerprint, verdict, category) DO UPDATE SET
    count = m.count + excluded.count,
    first_seen = CASE WHEN m.verdict = 'pending'
            AND excluded.first_seen > m.last_seen + '10 minutes'::interval
        THEN excluded.first_seen ELSE least(m.first_seen, excluded.first_seen) END,
    last_seen = greatest(m.last_seen, excluded.last_seen),
    reason = excluded.reason,
    rewrite = excluded.rewrite,
    example = CASE WHEN excluded.example = '' THEN m.example ELSE excluded.example END,
    rules = ARRAY(SELECT DISTINCT r.rule
        FROM pg_catalog.unnest(m.rules || excluded.rules) AS r (rule) ORDER BY r.rule),
    suspected = m.suspected AND excluded.suspected,
    resolved_at = CASE WHEN m.verdict IN ('data', 'error') AND excluded.last_seen > m.resolved_at
        THEN NULL ELSE m.resolved_at END";

const RESOLVE: &str = "
UPDATE segue.mismatch
SET resolved_at = pg_catalog.clock_timestamp(), resolved_by = $3, resolved_reason = $4
WHERE fingerprint = $1 AND ($2::text IS NULL OR verdict = $2::text) AND resolved_at IS NULL";

/// The list, findings first, most frequent first.
const LIST: &str = "
SELECT fingerprint, verdict, category, statement, statement_name, count, first_seen, last_seen,
    reason, rewrite, example, rules, suspected
FROM segue.mismatch
WHERE resolved_at IS NULL
ORDER BY verdict IN ('data', 'incompatible', 'error') DESC, count DESC, fingerprint, verdict, category
LIMIT $1";

/// Samples by the hour, so that gates can ask for those of a window. Verdicts that say nothing
/// of the data are left out.
const ADD_HOUR: &str = "
INSERT INTO segue.sample_hour AS h (hour, verdict, count)
VALUES (pg_catalog.date_trunc('hour', pg_catalog.clock_timestamp()), $1, $2)
ON CONFLICT (hour, verdict) DO UPDATE SET count = h.count + excluded.count";

/// An hour counts for a window that it has a part in.
const FINDINGS: &str = "
SELECT
    (SELECT coalesce(pg_catalog.sum(count), 0)::int8 FROM segue.sample_hour
     WHERE hour > pg_catalog.clock_timestamp() - ($1::float8 + 3600) * '1 second'::interval),
    (SELECT pg_catalog.min(hour) FROM segue.sample_hour
     WHERE hour >= (SELECT coalesce(pg_catalog.max(at), '1970-01-01 00:00:00+00')
        FROM segue.history WHERE to_phase = 'source_only') - '1 hour'::interval),
    pg_catalog.count(*) FILTER (WHERE verdict = 'data'),
    pg_catalog.count(*) FILTER (WHERE verdict IN ('incompatible', 'error') AND resolved_at IS NULL)
FROM segue.mismatch
WHERE last_seen > pg_catalog.clock_timestamp() - $1::float8 * '1 second'::interval";

/// Verdicts that say something of the data.
const JUDGED: [Verdict; 5] =
    [Verdict::Match, Verdict::Normalized, Verdict::Incompatible, Verdict::Error, Verdict::Data];

/// The list of one side's database.
#[derive(Debug, Clone)]
pub struct MismatchTable {
    pool: Pool,
}

// === impl MismatchTable ===

impl MismatchTable {
    /// The list behind a pool of segue's own connections.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    async fn add_all(&self, gathered: &[Mismatch]) -> Result<(), SqlFault> {
        let mut session = self.pool.get().await?;
        let prepared = session.prepared(ADD).await?;
        let hourly = session.prepared(ADD_HOUR).await?;
        let side = session.side();
        // Dropped before it is committed, it is rolled back.
        let adding = async {
            let transaction = session.driver_mut().transaction().await?;
            let mut sorted: Vec<&Mismatch> = gathered.iter().collect();
            sorted.sort_by(|a, b| a.key.cmp(&b.key));
            for mismatch in sorted {
                add_one(&transaction, &prepared.statement, mismatch).await?;
            }
            for verdict in JUDGED {
                let of_verdict = gathered.iter().filter(|it| it.key.verdict == verdict);
                let count: u64 = of_verdict.map(|it| it.count).sum();
                if count > 0 {
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    let name = verdict.as_str();
                    transaction.execute(&hourly.statement, &[&name, &count]).await?;
                }
            }
            transaction.commit().await
        };
        adding.await.map_err(|error| fault::from_error(error, side, true))
    }

    async fn list_some(&self, limit: u32) -> Result<Vec<Mismatch>, SqlFault> {
        let session = self.pool.get().await?;
        let prepared = session.prepared(LIST).await?;
        let rows = session.query(&prepared.statement, &[&i64::from(limit)]).await?;
        rows.iter().map(mismatch_of).collect()
    }

    async fn findings_of(&self, window: Duration) -> Result<Findings, SqlFault> {
        let session = self.pool.get().await?;
        let prepared = session.prepared(FINDINGS).await?;
        let row = session.query_one(&prepared.statement, &[&window.as_secs_f64()]).await?;
        let count = |index| row.try_get::<_, i64>(index).map(i64::unsigned_abs);
        Ok(Findings {
            judged: count(0)?,
            since: row.try_get(1)?,
            data: count(2)?,
            unresolved: count(3)?,
        })
    }

    async fn resolve_some(&self, resolution: Resolution) -> Result<u64, SqlFault> {
        let session = self.pool.get().await?;
        let Resolution { fingerprint, verdict, reason, resolved_by } = resolution;
        let verdict = verdict.map(Verdict::as_str);
        session.execute(RESOLVE, &[&fingerprint, &verdict, &resolved_by, &reason]).await
    }
}

async fn add_one(
    transaction: &Transaction<'_>,
    statement: &Statement,
    mismatch: &Mismatch,
) -> Result<u64, tokio_postgres::Error> {
    let count = i64::try_from(mismatch.count).unwrap_or(i64::MAX);
    let rules: Vec<&str> = mismatch.rules.iter().map(String::as_str).collect();
    transaction
        .execute(
            statement,
            &[
                &mismatch.key.fingerprint,
                &mismatch.key.verdict.as_str(),
                &mismatch.key.category,
                &mismatch.statement,
                &mismatch.statement_name.as_deref(),
                &count,
                &mismatch.first_seen,
                &mismatch.last_seen,
                &mismatch.reason,
                &mismatch.rewrite,
                &mismatch.example,
                &rules,
                &mismatch.suspected,
            ],
        )
        .await
}

impl MismatchStore for MismatchTable {
    fn add<'a>(&'a self, gathered: &'a [Mismatch]) -> BoxFuture<'a, Result<(), SqlFault>> {
        self.add_all(gathered).boxed()
    }

    fn list(&self, limit: u32) -> BoxFuture<'_, Result<Vec<Mismatch>, SqlFault>> {
        self.list_some(limit).boxed()
    }

    fn findings(&self, window: Duration) -> BoxFuture<'_, Result<Findings, SqlFault>> {
        self.findings_of(window).boxed()
    }

    fn resolve(&self, resolution: Resolution) -> BoxFuture<'_, Result<u64, SqlFault>> {
        self.resolve_some(resolution).boxed()
    }
}

fn mismatch_of(row: &Row) -> Result<Mismatch, SqlFault> {
    let verdict: &str = row.try_get(1)?;
    let name: Option<&str> = row.try_get(4)?;
    let count: i64 = row.try_get(5)?;
    let first_seen: SystemTime = row.try_get(6)?;
    let last_seen: SystemTime = row.try_get(7)?;
    let rules: Vec<String> = row.try_get(11)?;
    Ok(Mismatch {
        key: MismatchKey {
            fingerprint: row.try_get(0)?,
            // A verdict of a newer sidecar shows as what always wants a look.
            verdict: verdict.parse().unwrap_or(Verdict::Data),
            category: row.try_get(2)?,
        },
        statement: row.try_get(3)?,
        statement_name: name.map(Into::into),
        count: count.unsigned_abs(),
        first_seen,
        last_seen,
        reason: row.try_get(8)?,
        rewrite: row.try_get(9)?,
        example: row.try_get(10)?,
        rules: BTreeSet::from_iter(rules),
        suspected: row.try_get(12)?,
    })
}
