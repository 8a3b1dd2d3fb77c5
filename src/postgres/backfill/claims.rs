//! The state of a copy in `segue.backfill` on the target, shared by any number of processes.
//!
//! A chunk belongs to the process that claimed it as long as that renews its lease, by the
//! target's clock. Each claim raises the chunk's generation, which the writing transaction locks
//! and checks: a process that was stopped and wakes can no longer write. What such a process has
//! left open is ended by whoever notices that its lease has run out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::types::ToSql;

use crate::domain::backfill::{Chunk, ChunkId, Copied, TablePlan, TableProgress, WorkerProgress};
use crate::domain::fault::SqlFault;
use crate::domain::key_range::KeyRange;
use crate::ports::backfill::{Beat, ChunkStore, KeySplitter, Next};
use crate::postgres::backfill::progress;
use crate::postgres::own_transactions::COPY_SESSIONS;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::asked::Row;

/// What a process is to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Made anew at each start.
    pub id: uuid::Uuid,
    /// Machine and process, for people.
    pub host: String,
    /// Chunks that it copies at once.
    pub workers: u32,
    /// How long it may be silent.
    pub lease: Duration,
}

impl Owner {
    /// The name of its sessions on the target, by which they are ended when its lease is over.
    pub fn application_name(&self) -> String {
        format!("{COPY_SESSIONS}{}", self.id)
    }
}

/// Chunks that are cut at once for each worker.
const AHEAD: usize = 4;

/// Chunks that are free, or whose owner's lease is over. What a stopped process still holds
/// locked is passed over until its sessions are ended. A generation is never given twice, not
/// even where all claims were thrown away meanwhile.
const CLAIM: &str = "\
    WITH free AS ( \
        SELECT c.table_id, c.chunk FROM segue.backfill AS c \
        JOIN segue.backfill_table AS t USING (table_id) \
        WHERE c.state <> 'done' AND c.table_id = ANY ($3) \
            AND (c.state = 'ready' AND c.next_attempt_at <= pg_catalog.clock_timestamp() \
                OR c.state = 'claimed' AND NOT EXISTS (SELECT 1 FROM segue.backfill_worker AS w \
                    WHERE w.owner = c.owner AND w.lease_until > pg_catalog.clock_timestamp())) \
        ORDER BY t.place, c.table_id, c.chunk LIMIT 1 FOR UPDATE OF c SKIP LOCKED) \
    UPDATE segue.backfill AS c SET state = 'claimed', owner = $1::text::uuid, \
        generation = greatest(c.generation + 1, (pg_catalog.date_part('epoch', \
            pg_catalog.clock_timestamp()) * 1000000)::int8), attempts = c.attempts + 1, \
        claimed_at = pg_catalog.clock_timestamp(), \
        first_begun_at = coalesce(c.first_begun_at, \
            '2000-01-01 00:00:00+00'::timestamptz + $2::int8 * '1 microsecond'::interval) \
    FROM free AS f WHERE c.table_id = f.table_id AND c.chunk = f.chunk \
        AND EXISTS (SELECT 1 FROM segue.backfill_worker AS w WHERE w.owner = $1::text::uuid \
            AND w.lease_until > pg_catalog.clock_timestamp()) \
    RETURNING c.table_id, c.chunk, c.after_key, c.until_key, c.generation, c.attempts, \
        (pg_catalog.date_part('epoch', c.first_begun_at - '2000-01-01 00:00:00+00'::timestamptz) \
            * 1000000)::int8";

const AGAIN: &str = "\
    UPDATE segue.backfill SET generation = generation + 1, attempts = attempts + 1, \
        claimed_at = pg_catalog.clock_timestamp() \
    WHERE table_id = $1 AND chunk = $2 AND generation = $3 AND state = 'claimed' \
    RETURNING generation, attempts";

const FINISH: &str = "\
    UPDATE segue.backfill SET state = 'done', done_at = pg_catalog.clock_timestamp(), \
        way = $4, rows = $5, bytes = $6, reconciled = $7, failed = $8, last_error = NULL \
    WHERE table_id = $1 AND chunk = $2 AND generation = $3 AND state = 'claimed'";

const GIVE_BACK: &str = "\
    UPDATE segue.backfill SET state = 'ready', owner = NULL, last_error = $4, \
        next_attempt_at = pg_catalog.clock_timestamp() + $5::float8 * '1 second'::interval \
    WHERE table_id = $1 AND chunk = $2 AND generation = $3 AND state = 'claimed'";

/// The row's lock is the splitter's lease: a process that is stopped loses it with the limit on
/// idle transactions, and nothing of what it has cut is there.
const TAKE_SPLITTER: &str = "\
    SELECT table_id, split_after, chunk_rows, chunks FROM segue.backfill_table \
    WHERE NOT split_done AND table_id = ANY ($1) ORDER BY place, table_id LIMIT 1 \
    FOR UPDATE SKIP LOCKED";
const ADD_CHUNK: &str = "\
    INSERT INTO segue.backfill (table_id, chunk, after_key, until_key) VALUES ($1, $2, $3, $4)";
const MOVE_SPLITTER: &str = "\
    UPDATE segue.backfill_table SET split_after = $2, chunks = $3, split_done = $4 \
    WHERE table_id = $1";
const BEGIN_SPLIT: &str = "\
    BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = pg_catalog; \
    SET LOCAL synchronous_commit = on; SET LOCAL idle_in_transaction_session_timeout = '5min'";

const LEFT: &str = "\
    SELECT EXISTS (SELECT 1 FROM segue.backfill WHERE state <> 'done' AND table_id = ANY ($1)) \
        OR EXISTS (SELECT 1 FROM segue.backfill_table WHERE NOT split_done AND table_id = ANY ($1))";

const RENEW: &str = "\
    INSERT INTO segue.backfill_worker AS w (owner, host, workers, lease_until, throttled, share) \
    VALUES ($1::text::uuid, $2, $3, \
        pg_catalog.clock_timestamp() + $4::float8 * '1 second'::interval, $5, $6) \
    ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until, \
        throttled = excluded.throttled, share = excluded.share";

/// Ends what a process whose lease is over has left open: a `COPY` that waits for its data is
/// ended by no timeout.
const END_SESSIONS: &str = "\
    SELECT pg_catalog.count(*) FROM (SELECT pg_catalog.pg_terminate_backend(a.pid) \
        FROM pg_catalog.pg_stat_activity AS a JOIN segue.backfill_worker AS w \
            ON a.application_name = $1 || w.owner::text \
        WHERE w.lease_until < pg_catalog.clock_timestamp() \
            AND a.datname = pg_catalog.current_database()) AS ended";
const FORGET_WORKERS: &str = "\
    DELETE FROM segue.backfill_worker WHERE lease_until < pg_catalog.clock_timestamp() - '1 day'::interval";
const LEAVE: &str = "DELETE FROM segue.backfill_worker WHERE owner = $1::text::uuid";

const PLAN: &str = "\
    INSERT INTO segue.backfill_table (table_id, source_schema, source_name, target_schema, \
        target_name, place, key_columns, chunk_rows, rows_estimated, bytes_estimated, capture_gaps) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (table_id) DO NOTHING";

/// The claims of a copy.
pub struct Claims {
    target: Pool,
    splitter: Arc<dyn KeySplitter>,
    owner: Owner,
    tables: Vec<i32>,
    capture_gaps: Option<i64>,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claims").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Claims {
    /// The claims of these tables. `capture_gaps` is how often capture was switched off until
    /// now, where it matters.
    pub fn new(
        target: Pool,
        splitter: Arc<dyn KeySplitter>,
        owner: Owner,
        tables: Vec<i32>,
        capture_gaps: Option<i64>,
    ) -> Self {
        Self { target, splitter, owner, tables, capture_gaps }
    }

    async fn plan_all(&self, tables: &[TablePlan]) -> Result<(), SqlFault> {
        let client = self.target.get().await?;
        for table in tables {
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let (source, target) = (&table.mapping.source, &table.mapping.target);
            let (rows, estimated, bytes) = (
                number(table.chunk_rows),
                number(table.rows_estimated),
                number(table.bytes_estimated),
            );
            let params: [&(dyn ToSql + Sync); 11] = [
                &table.table_id,
                &source.schema,
                &source.name,
                &target.schema,
                &target.name,
                &table.place,
                &table.key,
                &rows,
                &estimated,
                &bytes,
                &self.capture_gaps,
            ];
            client.execute(PLAN, &params).await?;
        }
        Ok(())
    }

    async fn next(&self) -> Result<Next, SqlFault> {
        let begun_at = self.splitter.now().await?;
        let client = self.target.get().await?;
        if let Some(chunk) = self.take(&client, begun_at.0).await? {
            return Ok(Next::Chunk(Box::new(chunk)));
        }
        if self.split(&client).await?
            && let Some(chunk) = self.take(&client, begun_at.0).await?
        {
            return Ok(Next::Chunk(Box::new(chunk)));
        }
        let left = client.query_one(LEFT, &[&self.tables]).await?;
        Ok(if left.try_get(0)? { Next::Wait } else { Next::Done })
    }

    /// If we crash after the commit, the lease runs out and somebody takes it over.
    async fn take(&self, client: &Lease, begun_at: i64) -> Result<Option<Chunk>, SqlFault> {
        let claim = client.prepared(CLAIM).await?;
        let owner = self.owner.id.to_string();
        let params: [&(dyn ToSql + Sync); 3] = [&owner, &begun_at, &self.tables];
        let row = client.query_opt(&claim.statement, &params).await?;
        let chunk = |row: &Row| -> Result<Chunk, SqlFault> {
            Ok(Chunk {
                id: ChunkId { table_id: row.try_get(0)?, number: row.try_get(1)? },
                range: KeyRange { after: row.try_get(2)?, until: row.try_get(3)? },
                generation: Some(row.try_get(4)?),
                attempt: u32::try_from(row.try_get::<_, i32>(5)?).unwrap_or(u32::MAX),
                begun_at: crate::domain::key::OutboxMark(row.try_get(6)?),
            })
        };
        row.as_ref().map(chunk).transpose()
    }

    /// Cuts more chunks; false where others do, or nothing is left to cut.
    async fn split(&self, client: &Lease) -> Result<bool, SqlFault> {
        client.batch_execute(BEGIN_SPLIT).await?;
        let cut = self.split_one(client).await;
        let end = if matches!(cut, Ok(true)) { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await?;
        cut
    }

    async fn split_one(&self, client: &Lease) -> Result<bool, SqlFault> {
        let row = client.query_opt(TAKE_SPLITTER, &[&self.tables]).await?;
        let Some(row) = row else { return Ok(false) };
        let table_id: i32 = row.try_get(0)?;
        let after: Option<Vec<String>> = row.try_get(1)?;
        let chunk_rows: i64 = row.try_get(2)?;
        let mut chunks: i64 = row.try_get(3)?;
        let ahead = AHEAD * usize::try_from(self.owner.workers.max(1)).unwrap_or(1);
        let rest = KeyRange { after, until: None };
        let rows = chunk_rows.max(1).unsigned_abs();
        let bounds = self.splitter.bounds(table_id, &rest, rows, ahead).await?;
        let done = bounds.len() < ahead;
        let mut parts = rest.split_at(bounds);
        let last = parts.pop();
        if done {
            parts.extend(last.clone());
        }
        let add = client.prepared(ADD_CHUNK).await?;
        for part in &parts {
            chunks += 1;
            let params: [&(dyn ToSql + Sync); 4] = [&table_id, &chunks, &part.after, &part.until];
            client.execute(&add.statement, &params).await?;
        }
        let split_after = last.and_then(|rest| rest.after);
        let params: [&(dyn ToSql + Sync); 4] = [&table_id, &split_after, &chunks, &done];
        client.execute(MOVE_SPLITTER, &params).await?;
        Ok(true)
    }

    async fn renew_lease(&self, beat: &Beat) -> Result<(), SqlFault> {
        let client = self.target.get().await?;
        let (owner, lease_s) = (self.owner.id.to_string(), self.owner.lease.as_secs_f64());
        let workers = i32::try_from(self.owner.workers).unwrap_or(i32::MAX);
        let renew = client.prepared(RENEW).await?;
        let params: [&(dyn ToSql + Sync); 6] =
            [&owner, &self.owner.host, &workers, &lease_s, &beat.throttled, &beat.share];
        client.execute(&renew.statement, &params).await?;
        if !client.dialect().can_end_sessions() {
            return Ok(());
        }
        let end = client.prepared(END_SESSIONS).await?;
        let row = client.query_one(&end.statement, &[&COPY_SESSIONS]).await?;
        let ended: i64 = row.try_get(0)?;
        if ended > 0 {
            tracing::warn!(ended, "sessions of a backfill whose lease is over were ended");
        }
        client.execute(FORGET_WORKERS, &[]).await?;
        Ok(())
    }

    async fn change(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<u64, SqlFault> {
        let client = self.target.get().await?;
        let statement = client.prepared(sql).await?;
        client.execute(&statement.statement, params).await
    }

    async fn claim_again(&self, chunk: &Chunk) -> Result<Option<Chunk>, SqlFault> {
        let client = self.target.get().await?;
        let again = client.prepared(AGAIN).await?;
        let (id, generation) = (chunk.id, chunk.generation.unwrap_or(0));
        let params: [&(dyn ToSql + Sync); 3] = [&id.table_id, &id.number, &generation];
        let row = client.query_opt(&again.statement, &params).await?;
        let Some(row) = row else { return Ok(None) };
        let attempts: i32 = row.try_get(1)?;
        Ok(Some(Chunk {
            generation: Some(row.try_get(0)?),
            attempt: u32::try_from(attempts).unwrap_or(u32::MAX),
            ..chunk.clone()
        }))
    }
}

impl ChunkStore for Claims {
    fn plan<'a>(&'a self, tables: &'a [TablePlan]) -> BoxFuture<'a, Result<(), SqlFault>> {
        self.plan_all(tables).boxed()
    }

    fn claim(&self) -> BoxFuture<'_, Result<Next, SqlFault>> {
        self.next().boxed()
    }

    fn again<'a>(&'a self, chunk: &'a Chunk) -> BoxFuture<'a, Result<Option<Chunk>, SqlFault>> {
        self.claim_again(chunk).boxed()
    }

    fn finish<'a>(
        &'a self,
        chunk: &'a Chunk,
        copied: &'a Copied,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        async move {
            let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let generation = chunk.generation.unwrap_or(0);
            let (rows, bytes) = (number(copied.rows), number(copied.bytes));
            let (reconciled, failed) = (number(copied.reconciled), number(copied.failed));
            let way = copied.way.as_str();
            let id = chunk.id;
            let params: [&(dyn ToSql + Sync); 8] =
                [&id.table_id, &id.number, &generation, &way, &rows, &bytes, &reconciled, &failed];
            Ok(self.change(FINISH, &params).await? == 1)
        }
        .boxed()
    }

    fn give_back<'a>(
        &'a self,
        chunk: &'a Chunk,
        reason: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<(), SqlFault>> {
        async move {
            let (id, generation) = (chunk.id, chunk.generation.unwrap_or(0));
            let wait_s = wait.as_secs_f64();
            let params: [&(dyn ToSql + Sync); 5] =
                [&id.table_id, &id.number, &generation, &reason, &wait_s];
            self.change(GIVE_BACK, &params).await.map(drop)
        }
        .boxed()
    }

    fn renew<'a>(&'a self, beat: &'a Beat) -> BoxFuture<'a, Result<(), SqlFault>> {
        self.renew_lease(beat).boxed()
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), SqlFault>> {
        async move {
            let owner = self.owner.id.to_string();
            self.change(LEAVE, &[&owner]).await.map(drop)
        }
        .boxed()
    }

    fn progress(&self) -> BoxFuture<'_, Result<Vec<TableProgress>, SqlFault>> {
        progress::tables(&self.target, Some(&self.tables)).boxed()
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<WorkerProgress>, SqlFault>> {
        progress::workers(&self.target).boxed()
    }
}
