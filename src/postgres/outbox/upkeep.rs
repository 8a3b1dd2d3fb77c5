//! The ring, the window of forgotten rows, the size of the outbox, and giving the copy up.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::domain::control::Phase;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::ports::reconcile::{OutboxSize, Upkeep};
use crate::postgres::capture;
use crate::postgres::control::NOTIFY;
use crate::postgres::outbox::{Outbox, place_of, said};
use crate::postgres::pool::Lease;
use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};

/// What the upkeep needs to know.
#[derive(Debug, Clone)]
pub struct UpkeepParams {
    /// How long forgotten rows are kept, for a failover that lost what they stand for.
    pub window: Duration,
    /// How long a part of the ring is waited for before it is left for another time.
    pub lock_wait: Duration,
    /// Bytes at which the copy is given up.
    pub bytes_max: u64,
    /// How long answers for idempotency keys are kept.
    pub idempotency_kept: Duration,
    /// Rows that one statement removes.
    pub rows_max: i64,
}

/// Keeps the primary's outbox small.
#[derive(Debug)]
pub struct OutboxUpkeep {
    outbox: Outbox,
    params: UpkeepParams,
}

/// About what a waiting row takes with its index entry.
const WAITING_ROW_BYTES: u64 = 200;

/// Nobody is asked: the next write could fill the disk.
/// Only where this side is the primary by its own row: one that is not has nothing to give up.
fn give_up_sql(side: Side, is_cockroach: bool) -> String {
    let alone = alone(side);
    let told = if is_cockroach { "1" } else { NOTIFY };
    let here: Vec<_> =
        Phase::ALL.into_iter().filter(|it| it.primary() == side && *it != alone).collect();
    let here: Vec<_> = here.iter().map(|phase| format!("'{phase}'")).collect();
    let here = here.join(", ");
    format!(
        "WITH present AS (SELECT phase, target_percentage FROM segue.control \
            WHERE id = 1 AND phase IN ({here})), \
        changed AS (UPDATE segue.control SET phase = '{alone}', epoch = epoch + 1, \
            revision = revision + 1, target_percentage = 0, held = false, reason = $1, \
            changed_by = 'segue', changed_at = pg_catalog.clock_timestamp(), \
            phase_since = pg_catalog.clock_timestamp(), settled_at = NULL \
            WHERE phase IN ({here}) RETURNING epoch) \
        INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage, \
            to_percentage, forced, changed_by, reason) \
        SELECT pg_catalog.gen_random_uuid(), 'phase', c.epoch, p.phase, '{alone}', \
            p.target_percentage, 0, true, 'segue', $1 FROM changed AS c, present AS p \
        RETURNING {told}"
    )
}

/// The phase in which a side is on its own.
fn alone(side: Side) -> Phase {
    match side {
        Side::Source => Phase::SourceOnly,
        Side::Target => Phase::TargetOnly,
    }
}

/// Parts that are not written to now nor soon. `slot` is as capture computes it.
fn resting_slots() -> String {
    format!(
        "SELECT s::int2 FROM pg_catalog.generate_series(0, {OUTBOX_SLOTS} - 1) AS g(s), \
         LATERAL (SELECT pg_catalog.mod(s - pg_catalog.mod(pg_catalog.floor( \
             pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) / {SLOT_SECONDS})::int8, \
             {OUTBOX_SLOTS}) + {OUTBOX_SLOTS}, {OUTBOX_SLOTS}) AS ahead) AS a \
         WHERE a.ahead NOT IN (0, 1) ORDER BY 1"
    )
}

/// What was forgotten since then is kept for a chunk of the backfill that is under way; NULL
/// where there is none.
const HELD_SINCE: &str = "(SELECT pg_catalog.min(h.since) FROM segue.outbox_hold AS h \
    WHERE h.until > pg_catalog.clock_timestamp())";

/// Whether a part has rows, and whether one of them must stay.
fn state_of(slot: i16) -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM segue.outbox_{slot}), \
         EXISTS (SELECT 1 FROM segue.outbox_{slot} WHERE forgotten_at IS NULL) \
         OR EXISTS (SELECT 1 FROM segue.outbox_{slot} WHERE forgotten_at > \
             least(pg_catalog.clock_timestamp() - $1::float8 * '1 second'::interval, {HELD_SINCE}))"
    )
}

/// Notes up to which moment what was forgotten may be gone, before a part is emptied.
fn note_removed(slot: i16) -> String {
    format!(
        "UPDATE segue.outbox_state SET removed_until = greatest(removed_until, \
         (SELECT pg_catalog.max(forgotten_at) FROM segue.outbox_{slot})) WHERE id = 1"
    )
}

/// Removes some of the rows that were forgotten longer ago than may be asked for, and notes it;
/// changes a row where there were any.
fn remove_sql(table: &str, place: &str) -> String {
    format!(
        "WITH gone AS (DELETE FROM {table} WHERE {place} = ANY (ARRAY(SELECT {place} \
         FROM {table} WHERE forgotten_at < least(pg_catalog.clock_timestamp() \
             - $1::float8 * '1 second'::interval, {HELD_SINCE}) \
         LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING forgotten_at) \
         UPDATE segue.outbox_state SET removed_until = greatest(removed_until, \
             (SELECT pg_catalog.max(forgotten_at) FROM gone)) \
         WHERE id = 1 AND EXISTS (SELECT 1 FROM gone)"
    )
}

impl OutboxUpkeep {
    /// The upkeep of one outbox.
    pub fn new(outbox: Outbox, params: UpkeepParams) -> Self {
        Self { outbox, params }
    }

    async fn truncate(&self, window: Duration) -> Result<u64, SqlFault> {
        let client = self.outbox.client().await?;
        if client.facts().is_cockroach {
            return self.remove_forgotten(&client, window).await;
        }
        let slots = client.query(&resting_slots(), &[]).await.map_err(said(&client))?;
        let mut emptied = 0;
        for row in slots {
            let slot: i16 = row.try_get(0).map_err(said(&client))?;
            emptied += u64::from(self.truncate_slot(&client, slot, window).await?);
        }
        Ok(emptied)
    }

    /// Looks first without a lock, then again under it: what was inserted in between stays.
    /// If we crash here, the transaction is rolled back.
    async fn truncate_slot(
        &self,
        client: &Lease,
        slot: i16,
        window: Duration,
    ) -> Result<bool, SqlFault> {
        if !may_truncate(client, slot, window).await? {
            self.thin_out(client, slot).await?;
            return Ok(false);
        }
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = {}; LOCK TABLE segue.outbox_{slot} IN ACCESS EXCLUSIVE MODE",
            self.params.lock_wait.as_millis().max(1)
        );
        let ended = match client.batch_execute(&begin).await {
            Ok(()) => match may_truncate(client, slot, window).await {
                Ok(true) => {
                    let note = note_removed(slot);
                    let sql = format!("{note}; TRUNCATE segue.outbox_{slot}; COMMIT");
                    client.batch_execute(&sql).await.map(|()| true).map_err(said(client))
                }
                other => other.map(|_| false),
            },
            // Somebody uses it: another time.
            Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => Ok(false),
            Err(error) => Err(said(client)(error)),
        };
        if !matches!(ended, Ok(true)) {
            client.batch_execute("ROLLBACK").await.map_err(said(client))?;
        }
        ended
    }

    /// A stuck row keeps its part from being emptied; what is old and forgotten beside it
    /// goes row by row, so that the part does not grow at each turn of the ring.
    async fn thin_out(&self, client: &Lease, slot: i16) -> Result<(), SqlFault> {
        let sql = remove_sql(&format!("segue.outbox_{slot}"), place_of(client).0);
        // Three windows: time enough for the whole part to be emptied at once instead.
        let age_s = self.params.window.as_secs_f64() * 3.0;
        client.execute(&sql, &[&age_s, &self.params.rows_max]).await.map_err(said(client))?;
        Ok(())
    }

    /// Where there is no ring: what is past the window goes row by row. Answers how many
    /// statements that took.
    async fn remove_forgotten(&self, client: &Lease, window: Duration) -> Result<u64, SqlFault> {
        let sql = remove_sql("segue.outbox", place_of(client).0);
        let (age_s, rows_max) = (window.as_secs_f64(), self.params.rows_max);
        let mut statements = 0;
        while client.execute(&sql, &[&age_s, &rows_max]).await.map_err(said(client))? > 0 {
            statements += 1;
        }
        Ok(statements)
    }

    async fn expire(&self) -> Result<u64, SqlFault> {
        let client = self.outbox.client().await?;
        let sql = "DELETE FROM segue.idempotency WHERE key = ANY (ARRAY(SELECT key \
            FROM segue.idempotency WHERE created_at < pg_catalog.clock_timestamp() \
                - $1::float8 * '1 second'::interval LIMIT $2 FOR UPDATE SKIP LOCKED))";
        let kept_s = self.params.idempotency_kept.as_secs_f64();
        client.execute(sql, &[&kept_s, &self.params.rows_max]).await.map_err(said(&client))
    }

    async fn check(&self) -> Result<OutboxSize, SqlFault> {
        let mut status = self.outbox.status().await?;
        if status.bytes <= self.params.bytes_max {
            return Ok(OutboxSize::Within { bytes: status.bytes });
        }
        // A healthy outbox may be full of what is done and only kept for a failover.
        if self.truncate(Duration::ZERO).await? > 0 {
            tracing::warn!(
                bytes = status.bytes,
                "the outbox is over its limit; forgotten rows go before their window is over"
            );
            status = self.outbox.status().await?;
        }
        let bytes = status.bytes;
        let waiting = status.pending.saturating_mul(WAITING_ROW_BYTES);
        let mostly_done =
            waiting < self.params.bytes_max / 2 && bytes < self.params.bytes_max.saturating_mul(2);
        if bytes <= self.params.bytes_max || mostly_done {
            return Ok(OutboxSize::Within { bytes });
        }
        let reason = format!(
            "the outbox has {bytes} bytes, more than outbox.max_bytes = {}: the copy is given up \
             before it fills the primary's disk",
            self.params.bytes_max
        );
        tracing::error!(side = %self.outbox.side(), "{reason}; there is no way on but a new backfill");
        self.give_up(&reason).await?;
        Ok(OutboxSize::GivenUp { bytes })
    }

    /// Back to `source_only`, or from `reversed` on to `target_only`. First capture becomes a no-op and the control row says why, in
    /// one transaction that locks no table of the application; then the outbox is emptied.
    ///
    /// If we crash between the two, the outbox is too large still, and the next look does
    /// both again.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub async fn give_up(&self, reason: &str) -> Result<(), SqlFault> {
        let client = self.outbox.client().await?;
        client.batch_execute("BEGIN").await.map_err(said(&client))?;
        capture::give_up(&**client).await.map_err(said(&client))?;
        let side = self.outbox.side();
        let is_cockroach = client.facts().is_cockroach;
        let given_up = client.execute(&give_up_sql(side, is_cockroach), &[&reason]).await;
        given_up.map_err(said(&client))?;
        let row = client.query_opt("SELECT phase FROM segue.control WHERE id = 1", &[]).await;
        let phase = row.map_err(said(&client))?.and_then(|row| row.try_get::<_, String>(0).ok());
        if phase.as_deref() != Some(alone(side).as_str()) {
            // The primary is the other one by now: here capture is a fence, and stays.
            return client.batch_execute("ROLLBACK").await.map_err(said(&client));
        }
        client.batch_execute("COMMIT").await.map_err(said(&client))?;
        if is_cockroach {
            return self.remove_all(&client).await;
        }
        for slot in 0..OUTBOX_SLOTS {
            let sql = format!(
                "BEGIN; SET LOCAL lock_timeout = {}; UPDATE segue.outbox_state \
                 SET removed_until = pg_catalog.clock_timestamp() WHERE id = 1; \
                 TRUNCATE segue.outbox_{slot}; COMMIT",
                self.params.lock_wait.as_millis().max(1)
            );
            if let Err(error) = client.batch_execute(&sql).await {
                client.batch_execute("ROLLBACK").await.map_err(said(&client))?;
                tracing::warn!(slot, %error, "part of the outbox is in use and is emptied later");
            }
        }
        Ok(())
    }
}

impl OutboxUpkeep {
    /// Empties an outbox without a ring, whose copy has been given up.
    async fn remove_all(&self, client: &Lease) -> Result<(), SqlFault> {
        let note = "UPDATE segue.outbox_state SET removed_until = pg_catalog.clock_timestamp() \
            WHERE id = 1";
        client.execute(note, &[]).await.map_err(said(client))?;
        let remove = "DELETE FROM segue.outbox WHERE row_id = ANY (ARRAY(SELECT row_id \
            FROM segue.outbox LIMIT $1))";
        let rows_max = self.params.rows_max;
        while client.execute(remove, &[&rows_max]).await.map_err(said(client))? > 0 {}
        Ok(())
    }
}

async fn may_truncate(client: &Lease, slot: i16, window: Duration) -> Result<bool, SqlFault> {
    let row = client.query_one(&state_of(slot), &[&window.as_secs_f64()]).await;
    let row = row.map_err(said(client))?;
    let has_rows: bool = row.try_get(0).map_err(said(client))?;
    let must_stay: bool = row.try_get(1).map_err(said(client))?;
    Ok(has_rows && !must_stay)
}

impl Upkeep for OutboxUpkeep {
    fn truncate_ring(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
        Box::pin(self.truncate(self.params.window))
    }

    fn expire_idempotency(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
        Box::pin(self.expire())
    }

    fn check_size(&self) -> BoxFuture<'_, Result<OutboxSize, SqlFault>> {
        Box::pin(self.check())
    }
}
