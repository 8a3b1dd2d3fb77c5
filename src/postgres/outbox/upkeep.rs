//! The ring, and the window of forgotten rows.
//!
//! Forgotten rows are kept for a window, for a failover that lost what they stand for. Where the
//! outbox passes its limit the window goes first (`pressure`), and only then are keys that wait
//! folded into their tables ([`fold`]).
//!
//! [`fold`]: crate::postgres::outbox::fold

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::sqlstate;
use crate::ports::reconcile::{OutboxSize, Upkeep};
use crate::postgres::outbox::{Outbox, place_of};
use crate::postgres::pool::Lease;
use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};

/// What the upkeep needs to know.
#[derive(Debug, Clone)]
pub struct UpkeepParams {
    /// How long forgotten rows are kept, for a failover that lost what they stand for.
    pub window: Duration,
    /// How long a part of the ring is waited for before it is left for another time.
    pub lock_wait: Duration,
    /// Bytes of waiting keys at which they are folded into their tables.
    pub bytes_max: u64,
    /// How long answers for idempotency keys are kept.
    pub idempotency_kept: Duration,
    /// Rows that one statement removes.
    pub rows_max: i64,
}

/// Keeps the primary's outbox small.
#[derive(Debug)]
pub struct OutboxUpkeep {
    pub(super) outbox: Outbox,
    pub(super) params: UpkeepParams,
    /// Bytes of each part when it was last rid of what is done.
    pub(super) thinned: Mutex<BTreeMap<i16, u64>>,
}

/// What must stay of what is forgotten.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Keep {
    /// The window, and what a chunk of the backfill asks for.
    Window(Duration),
    /// What a chunk of the backfill asks for.
    Held,
    /// Nothing: a chunk finds that out, and makes its whole range equal.
    Nothing,
}

// === impl Keep ===

impl Keep {
    fn age_s(self) -> f64 {
        match self {
            Self::Window(window) => window.as_secs_f64(),
            Self::Held | Self::Nothing => 0.0,
        }
    }

    /// What was forgotten before this moment may go; `age` is the SQL of an age in seconds.
    fn until(self, age: &str) -> String {
        let aged = format!("pg_catalog.clock_timestamp() - {age}::float8 * '1 second'::interval");
        match self {
            Self::Nothing => aged,
            Self::Window(_) | Self::Held => format!("least({aged}, {HELD_SINCE})"),
        }
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
fn state_of(slot: i16, keep: Keep) -> String {
    let until = keep.until("$1");
    format!(
        "SELECT EXISTS (SELECT 1 FROM segue.outbox_{slot}), \
         EXISTS (SELECT 1 FROM segue.outbox_{slot} WHERE forgotten_at IS NULL) \
         OR EXISTS (SELECT 1 FROM segue.outbox_{slot} WHERE forgotten_at > {until})"
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
/// changes a row where there were any. `within` narrows the rows down.
pub(super) fn remove_sql(table: &str, place: &str, keep: Keep, within: &str) -> String {
    let until = keep.until("$1");
    format!(
        "WITH gone AS (DELETE FROM {table} WHERE {place} = ANY (ARRAY(SELECT {place} \
         FROM {table} WHERE forgotten_at < {until}{within} \
         LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING forgotten_at) \
         UPDATE segue.outbox_state SET removed_until = greatest(removed_until, \
             (SELECT pg_catalog.max(forgotten_at) FROM gone)) \
         WHERE id = 1 AND EXISTS (SELECT 1 FROM gone)"
    )
}

impl OutboxUpkeep {
    /// The upkeep of one outbox.
    pub fn new(outbox: Outbox, params: UpkeepParams) -> Self {
        Self { outbox, params, thinned: Mutex::default() }
    }

    /// Empties parts of the ring, or removes single rows where there is no ring.
    pub(super) async fn truncate(&self, keep: Keep) -> Result<u64, SqlFault> {
        let client = self.outbox.client().await?;
        if !client.dialect().has_outbox_ring() {
            return self.remove_forgotten(&client, keep).await;
        }
        let slots = client.query(&resting_slots(), &[]).await?;
        let mut emptied = 0;
        for row in slots {
            let slot: i16 = row.try_get(0)?;
            emptied += u64::from(self.truncate_slot(&client, slot, keep).await?);
        }
        Ok(emptied)
    }

    /// Looks first without a lock, then again under it: what was inserted in between stays.
    /// If we crash here, the transaction is rolled back.
    async fn truncate_slot(&self, client: &Lease, slot: i16, keep: Keep) -> Result<bool, SqlFault> {
        if !may_truncate(client, slot, keep).await? {
            self.thin_out(client, slot).await?;
            return Ok(false);
        }
        let begin = format!(
            "BEGIN; SET LOCAL lock_timeout = {}; LOCK TABLE segue.outbox_{slot} IN ACCESS EXCLUSIVE MODE",
            self.params.lock_wait.as_millis().max(1)
        );
        let ended = match client.batch_execute(&begin).await {
            Ok(()) => match may_truncate(client, slot, keep).await {
                Ok(true) => {
                    let note = note_removed(slot);
                    let sql = format!("{note}; TRUNCATE segue.outbox_{slot}; COMMIT");
                    client.batch_execute(&sql).await.map(|()| true)
                }
                other => other.map(|_| false),
            },
            // Somebody uses it: another time.
            Err(fault) if fault.sqlstate == sqlstate::LOCK_NOT_AVAILABLE => Ok(false),
            Err(fault) => Err(fault),
        };
        if !matches!(ended, Ok(true)) {
            client.batch_execute("ROLLBACK").await?;
        }
        ended
    }

    /// A stuck row keeps its part from being emptied; what is old and forgotten beside it
    /// goes row by row, so that the part does not grow at each turn of the ring.
    async fn thin_out(&self, client: &Lease, slot: i16) -> Result<(), SqlFault> {
        // Three windows: time enough for the whole part to be emptied at once instead.
        let keep = Keep::Window(self.params.window * 3);
        let sql = remove_sql(&format!("segue.outbox_{slot}"), place_of(client).0, keep, "");
        let age_s = keep.age_s();
        client.execute(&sql, &[&age_s, &self.params.rows_max]).await?;
        Ok(())
    }

    /// Where there is no ring: what is past the window goes row by row. Answers how many
    /// statements that took.
    async fn remove_forgotten(&self, client: &Lease, keep: Keep) -> Result<u64, SqlFault> {
        let sql = remove_sql("segue.outbox", place_of(client).0, keep, "");
        let age_s = keep.age_s();
        let rows_max = client.dialect().removed_at_once(self.params.rows_max);
        let mut statements = 0;
        while execute(client, &sql, &[&age_s, &rows_max]).await? > 0 {
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
        let rows_max = client.dialect().removed_at_once(self.params.rows_max);
        execute(&client, sql, &[&kept_s, &rows_max]).await
    }
}

/// How often one is made that the server asks to make again.
const ATTEMPTS: u32 = 5;

/// Runs a statement that is a transaction of its own, again where the server says that it could not
/// be ordered among others. Nothing of it was applied then.
async fn execute(
    client: &Lease,
    sql: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<u64, SqlFault> {
    for _ in 1..ATTEMPTS {
        match client.execute(sql, params).await {
            Err(fault) if fault.sqlstate == sqlstate::SERIALIZATION_FAILURE => {}
            done => return done,
        }
    }
    client.execute(sql, params).await
}

async fn may_truncate(client: &Lease, slot: i16, keep: Keep) -> Result<bool, SqlFault> {
    let row = client.query_one(&state_of(slot, keep), &[&keep.age_s()]).await?;
    let has_rows: bool = row.try_get(0)?;
    let must_stay: bool = row.try_get(1)?;
    Ok(has_rows && !must_stay)
}

impl Upkeep for OutboxUpkeep {
    fn truncate_ring(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
        Box::pin(self.truncate(Keep::Window(self.params.window)))
    }

    fn expire_idempotency(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
        Box::pin(self.expire())
    }

    fn check_size(&self) -> BoxFuture<'_, Result<OutboxSize, SqlFault>> {
        Box::pin(self.check())
    }
}
