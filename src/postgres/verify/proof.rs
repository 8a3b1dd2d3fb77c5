//! What has been proven of each chunk, and when, kept beside the primary's outbox.
//!
//! A proof is of the snapshot of the primary that its chunk was read in. A chunk of which the
//! outbox has a row that this snapshot may not have seen was *written since*: it holds what the
//! outbox says it holds, but that is the reconcile's word and not verify's. Proofs are void when
//! a side's server has crashed or was replaced, since it may have lost what was proven, and when
//! capture was off.

use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use crate::domain::control::Phase;
use crate::domain::fault::SqlFault;
use crate::domain::key_range::KeyRange;
use crate::postgres::mapping::table::Role;
use crate::postgres::outbox::servers;
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;
use crate::postgres::verify::chunk::ChunkDone;
use crate::postgres::verify::{Table, Verifier};

/// Transactions after which their numbers are no longer compared.
const TRANSACTIONS_MAX: i64 = 1_000_000_000;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
const LIST: &str = "SELECT chunk, after_key, until_key, rows, proven_at, written_at IS NOT NULL, \
    read_at FROM segue.verify WHERE table_id = $1 ORDER BY chunk";
/// Whoever cuts a table anew waits for who is doing so, and then sees what that one left.
const CUT: &str = "INSERT INTO segue.verify_table AS t (table_id, looked_at) VALUES ($1, '-infinity') \
    ON CONFLICT (table_id) DO UPDATE SET looked_at = t.looked_at";
const CLEAR: &str = "DELETE FROM segue.verify WHERE table_id = $1";
const ADD: &str = "INSERT INTO segue.verify (table_id, chunk, after_key, until_key) \
    SELECT $1, $2, $3, $4";
const PROVE: &str = "UPDATE segue.verify SET rows = $3, \
    proven_at = CASE WHEN $4 THEN pg_catalog.clock_timestamp() END, written_at = NULL, \
    horizon = $5, read_at = $6, capture_gaps = $7, source_server = $8, target_server = $9, differs = $10, \
    unread = $12 \
    WHERE table_id = $1 AND chunk = $2 \
        AND after_key IS NOT DISTINCT FROM $13 AND until_key IS NOT DISTINCT FROM $14 \
        AND EXISTS (SELECT 1 FROM segue.control WHERE id = 1 AND phase = ANY ($11))";
/// Asked before anything of a chunk is read.
const NOW: &str = "SELECT pg_catalog.clock_timestamp(), capture_gaps \
    FROM segue.outbox_state WHERE id = 1";
const LOOKED: &str = "INSERT INTO segue.verify_table (table_id, looked_at) VALUES ($1, $2) \
    ON CONFLICT (table_id) DO UPDATE SET looked_at = excluded.looked_at";
/// Proofs of another server, or of before a time in which nothing, or not everything of the table,
/// was captured.
const VOID: &str = "UPDATE segue.verify AS v SET proven_at = NULL, differs = false, unread = NULL \
    FROM segue.outbox_state AS s \
    WHERE v.table_id = $1 AND (v.proven_at IS NOT NULL OR v.differs OR v.unread IS NOT NULL) AND s.id = 1 \
    AND (v.source_server <> $2 OR v.target_server <> $3 OR v.capture_gaps <> s.capture_gaps \
        OR v.read_at <= (SELECT t.voided_at FROM segue.verify_table AS t WHERE t.table_id = $1))";
/// A chunk and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Its number in the table.
    pub chunk: i64,
    /// Its rows' keys.
    pub range: KeyRange,
    /// Rows of the primary when it was read.
    pub rows: u64,
    /// When it was proven equal; `None` where it was not, or that is void.
    pub proven_at: Option<SystemTime>,
    /// Something was written to it since.
    pub written: bool,
    /// When it was last read, whatever came of it.
    pub read_at: Option<SystemTime>,
}

/// What is noted before a chunk is read: whose proof it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    read_at: SystemTime,
    capture_gaps: i64,
    source_server: String,
    target_server: String,
}

// === impl Proof ===

impl Proof {
    /// Whether both sides were equal when they were last looked at, and nothing was written
    /// since.
    pub fn stands(&self) -> bool {
        self.proven_at.is_some() && !self.written
    }
}

// === impl Verifier ===

impl Verifier {
    /// Whose proof the next chunks will be. Must be asked before they are read.
    ///
    /// # Errors
    ///
    /// What a database reports.
    pub async fn standing(&self) -> Result<Standing, SqlFault> {
        let (one, other) = self.server_names().await?;
        let client = self.reconciler.pool(Role::Primary).get().await?;
        let row = client.query_one(NOW, &[]).await?;
        Ok(Standing {
            read_at: row.try_get(0)?,
            capture_gaps: row.try_get(1)?,
            source_server: one,
            target_server: other,
        })
    }

    /// The primary's server and the shadow's, as far as they can be told from others.
    async fn server_names(&self) -> Result<(String, String), SqlFault> {
        let primary = servers::name(self.reconciler.pool(Role::Primary)).await?;
        let shadow = servers::name(self.reconciler.pool(Role::Shadow)).await?;
        Ok((primary, shadow))
    }

    /// Takes these chunks for the table's, in place of those that were there; nothing of them is
    /// proven.
    ///
    /// If we crash here, the ones before stand.
    ///
    /// # Errors
    ///
    /// What the primary reports.
    pub async fn set_chunks(&self, table: &Table, ranges: &[KeyRange]) -> Result<(), SqlFault> {
        match self.set_chunks_once(table, ranges).await {
            Err(fault) if fault.ended_its_session() => self.set_chunks_once(table, ranges).await,
            set => set,
        }
    }

    async fn set_chunks_once(&self, table: &Table, ranges: &[KeyRange]) -> Result<(), SqlFault> {
        let table_id = table.shape.table_id;
        let client = self.reconciler.pool(Role::Primary).get().await?;
        client.batch_execute(BEGIN).await?;
        let set = async {
            client.execute(CUT, &[&table_id]).await?;
            client.execute(CLEAR, &[&table_id]).await?;
            let add = client.prepare_once(ADD).await?;
            for (chunk, range) in (0_i64..).zip(ranges) {
                client.execute(&add, &[&table_id, &chunk, &range.after, &range.until]).await?;
            }
            client.batch_execute("COMMIT").await
        };
        match set.await {
            Ok(()) => Ok(()),
            Err(fault) => {
                // Dropped in a transaction, the session is closed.
                client.discard();
                Err(fault)
            }
        }
    }

    /// Notes what a chunk turned out to be. False where nothing was noted: the primary is the
    /// other side by now, so that the shadow may have been read ahead of it; or the table was
    /// cut anew meanwhile, so that the number is another chunk's.
    ///
    /// Callers write to the other side only after this side's row has named it, and whatever was
    /// read was read before this.
    ///
    /// # Errors
    ///
    /// What the primary reports.
    pub async fn note(
        &self,
        table: &Table,
        chunk: i64,
        done: &ChunkDone,
        standing: &Standing,
    ) -> Result<bool, SqlFault> {
        let client = self.reconciler.pool(Role::Primary).get().await?;
        let is_primary = |phase: &&Phase| phase.primary() == client.side();
        let phases: Vec<&str> =
            Phase::ALL.iter().filter(is_primary).map(|it| it.as_str()).collect();
        let rows = i64::try_from(done.rows).unwrap_or(i64::MAX);
        // `xmin:xmax:running`: whatever is older than the first has ended before.
        let horizon: Option<i64> = done.snapshot.split(':').next().and_then(|it| it.parse().ok());
        let proven = done.is_equal() && horizon.is_some();
        let differs = done.differs();
        let unread = done.unread();
        let params: [&(dyn ToSql + Sync); 14] = [
            &table.shape.table_id,
            &chunk,
            &rows,
            &proven,
            &horizon.unwrap_or(0),
            &standing.read_at,
            &standing.capture_gaps,
            &standing.source_server,
            &standing.target_server,
            &differs,
            &phases,
            &unread,
            &done.range.after,
            &done.range.until,
        ];
        Ok(client.execute(PROVE, &params).await? == 1)
    }

    /// The chunks of a table with their proofs, as they were last noted: [`Self::look_through`]
    /// brings them up to date.
    ///
    /// # Errors
    ///
    /// What the primary reports.
    pub async fn proofs(&self, table: &Table) -> Result<Vec<Proof>, SqlFault> {
        let client = self.reconciler.pool(Role::Primary).get().await?;
        let rows = client.query(LIST, &[&table.shape.table_id]).await?;
        let proof = |row: &Row| {
            Ok(Proof {
                chunk: row.try_get(0)?,
                range: KeyRange { after: row.try_get(1)?, until: row.try_get(2)? },
                rows: row.try_get::<_, i64>(3)?.max(0).unsigned_abs(),
                proven_at: row.try_get(4)?,
                written: row.try_get(5)?,
                read_at: row.try_get(6)?,
            })
        };
        rows.iter().map(proof).collect::<Result<_, _>>()
    }

    /// Looks through the outbox for chunks that were written since they were proven, and marks
    /// them; voids the proofs that a server's restart, or a gap of capture, has made worthless.
    ///
    /// If we crash before the commit, the next look sees the same rows.
    ///
    /// # Errors
    ///
    /// What a database reports.
    pub async fn look_through(&self, table: &Table) -> Result<(), SqlFault> {
        match self.look_through_once(table).await {
            // It holds rows that others wait for, so that a process which gets no time loses it.
            Err(fault) if fault.ended_its_session() => self.look_through_once(table).await,
            looked => looked,
        }
    }

    async fn look_through_once(&self, table: &Table) -> Result<(), SqlFault> {
        let (primary, shadow) = self.server_names().await?;
        let client = self.reconciler.pool(Role::Primary).get().await?;
        client.batch_execute(BEGIN).await?;
        match look_through(&client, table, &primary, &shadow).await {
            Ok(()) => client.batch_execute("COMMIT").await,
            Err(fault) => {
                client.discard();
                Err(fault)
            }
        }
    }

    /// What a cutover must still look at: the chunks of the table that are not proven, or were
    /// written since. Every row, where nothing of the table was ever proven.
    ///
    /// # Errors
    ///
    /// What a database reports.
    pub async fn open_ranges(&self, table: &Table) -> Result<Vec<KeyRange>, SqlFault> {
        self.look_through(table).await?;
        let proofs = self.proofs(table).await?;
        if proofs.is_empty() {
            return Ok(vec![KeyRange::all()]);
        }
        Ok(proofs.into_iter().filter(|proof| !proof.stands()).map(|proof| proof.range).collect())
    }
}

/// The parts of the ring that were emptied since the last look may have had rows that nobody
/// looked at: then any chunk may have been written.
async fn look_through(
    client: &Lease,
    table: &Table,
    primary: &str,
    shadow: &str,
) -> Result<(), SqlFault> {
    let table_id = table.shape.table_id;
    client.execute(VOID, &[&table_id, &primary, &shadow]).await?;
    // By the clock of before the snapshot that sees the outbox.
    let row = client.query_one(NOW, &[]).await?;
    let now: SystemTime = row.try_get(0)?;
    let written = match client.dialect().tells_writing_transactions() {
        true => written_since(table),
        false => ALL_WRITTEN.to_owned(),
    };
    client.execute(&written, &[&table_id]).await?;
    let unseen = "UPDATE segue.verify AS v SET written_at = pg_catalog.clock_timestamp() \
        FROM segue.outbox_state AS s WHERE v.table_id = $1 AND v.written_at IS NULL AND s.id = 1 \
        AND (s.removed_until >= greatest(v.read_at, (SELECT t.looked_at FROM segue.verify_table AS t \
            WHERE t.table_id = $1)))";
    client.execute(unseen, &[&table_id]).await?;
    client.execute(LOOKED, &[&table_id, &now]).await?;
    Ok(())
}

/// Where no row tells its transaction by a number that a snapshot could be held against, every proof
/// is looked at again.
const ALL_WRITTEN: &str = "UPDATE segue.verify SET written_at = pg_catalog.clock_timestamp() \
    WHERE table_id = $1 AND proven_at IS NOT NULL AND written_at IS NULL";

/// Marks chunks that have a row in the outbox which their snapshot may not have seen. `age`
/// compares transactions across the wrap of their numbers.
fn written_since(table: &Table) -> String {
    let within = table.key(Role::Primary).key_between("n.key", "v.after_key", "v.until_key");
    format!(
        "WITH open AS (SELECT v.chunk, v.after_key, v.until_key, \
             pg_catalog.age(pg_catalog.mod(v.horizon, 4294967296)::text::xid) AS age, \
             pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8 \
                 - v.horizon > {TRANSACTIONS_MAX} AS too_old FROM segue.verify AS v \
             WHERE v.table_id = $1 AND v.proven_at IS NOT NULL AND v.written_at IS NULL), \
         new AS MATERIALIZED (SELECT o.key, pg_catalog.min(pg_catalog.age(o.xmin)) AS age \
             FROM segue.outbox AS o WHERE o.table_id = $1 \
             AND pg_catalog.age(o.xmin) <= (SELECT pg_catalog.max(age) FROM open) GROUP BY o.key) \
         UPDATE segue.verify AS w SET written_at = pg_catalog.clock_timestamp() FROM open AS v \
         WHERE w.table_id = $1 AND w.chunk = v.chunk AND (v.too_old OR EXISTS (SELECT 1 FROM new AS n WHERE n.age <= v.age \
                 AND CASE WHEN n.key IS NULL THEN true ELSE {within} END))"
    )
}
