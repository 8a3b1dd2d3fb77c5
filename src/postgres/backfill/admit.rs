//! Whether a backfill may begin, and what must have happened before.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use crate::domain::backfill::TablePlan;
use crate::domain::control::Phase;
use crate::domain::fault::SqlFault;
use crate::domain::sqlstate;
use crate::postgres::backfill::plan::Plan;
use crate::postgres::fence::{check_follows, say_copying, share_copies};
use crate::postgres::mapping::table::Role;
use crate::postgres::pool::Pool;

/// What must hold all through the copy, or what was copied before is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// How often capture was switched off before the copy was begun.
    pub gaps: i64,
}

/// Whether the history may be copied in a phase: writes are captured on the source.
pub fn copies(phase: Phase) -> bool {
    matches!(phase, Phase::DualWrite | Phase::ShadowRead | Phase::Shift)
}

/// Whether a phase lets the target's tables be emptied: nobody is answered from them.
pub fn may_empty(phase: Phase) -> bool {
    matches!(phase, Phase::SourceOnly | Phase::DualWrite | Phase::ShadowRead)
}

const STATE: &str = "\
    SELECT c.phase, s.capture_gaps FROM segue.control AS c, segue.outbox_state AS s \
    WHERE c.id = 1 AND s.id = 1";

/// The source's phase, and how often capture was switched off there until now.
///
/// # Errors
///
/// What the source reports.
pub async fn state(source: &Pool) -> Result<(Option<Phase>, Captured), SqlFault> {
    let client = source.get().await?;
    let row = client.query_opt(STATE, &[]).await?;
    let Some(row) = row else { return Ok((None, Captured { gaps: 0 })) };
    let phase: String = row.try_get(0)?;
    let gaps = row.try_get(1)?;
    Ok((phase.parse().ok(), Captured { gaps }))
}

/// Whether segue's tables are there at all, in a version that knows of backfills.
///
/// # Errors
///
/// What the database reports.
pub async fn has_schema(pool: &Pool) -> Result<bool, SqlFault> {
    let client = pool.get().await?;
    let sql = "SELECT pg_catalog.to_regclass('segue.outbox_state') IS NOT NULL \
        AND pg_catalog.to_regclass('segue.migrated_table') IS NOT NULL";
    let row = client.query_one(sql, &[]).await?;
    row.try_get(0)
}

const BEGUN: &str = "SELECT pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot())";
const OLDEST: &str = "SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())";
const WHO: &str = "\
    SELECT coalesce((SELECT pg_catalog.concat('process ', pid, ' (', state, ', since ', \
            pg_catalog.date_trunc('second', xact_start), ')') \
        FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL \
        ORDER BY xact_start LIMIT 1), \
        (SELECT pg_catalog.concat('prepared transaction ', gid) \
            FROM pg_catalog.pg_prepared_xacts ORDER BY prepared LIMIT 1), 'not known')";
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Waits until every transaction has ended that had written anything by now. One of them may
/// have written before capture stood, and commit after a chunk was read: no snapshot would have
/// its rows, and no outbox row would tell of them. `told` hears of each look in vain.
///
/// # Errors
///
/// What the source reports. False where `stop` came first.
pub async fn old_transactions_ended(
    source: &Pool,
    stop: &CancellationToken,
    told: impl Fn(&str),
) -> Result<bool, SqlFault> {
    let client = source.get().await?;
    let number = async |sql: &str| -> Result<i64, SqlFault> {
        let row = client.query_one(sql, &[]).await?;
        row.try_get(0)
    };
    let begun = number(BEGUN).await?;
    while number(OLDEST).await? < begun {
        let row = client.query_one(WHO, &[]).await?;
        told(row.try_get(0)?);
        tokio::select! {
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
    Ok(true)
}

/// Rows of the target that are asked for where they come from; more are not, and refused.
const PROVEN_ROWS_MAX: usize = 20_000;

/// Keys that were captured since a phase last gave the copy up, or another target was adopted. Not since the present phase was
/// set: capture stands before the phase that relies on it, and goes on through those after it. What
/// was captured in `source_only` waits there, and is reconciled by the row as it is later.
const PROVEN: &str = "\
    SELECT pg_catalog.count(DISTINCT o.key) FROM segue.outbox AS o \
    WHERE o.table_id = $1 AND o.key::text = ANY ($2) AND o.created_at >= coalesce( \
        (SELECT pg_catalog.max(h.at) FROM segue.history AS h \
            WHERE h.to_phase = 'source_only' AND h.from_phase <> 'source_only' \
                OR h.kind = 'identity' AND h.forced), '-infinity')";

const CLAIMS: &str = "\
    SELECT table_id, capture_gaps, source_schema, source_name, target_schema, target_name, \
        key_columns FROM segue.backfill_table WHERE table_id = ANY ($1)";

/// What stands against copying into the target as it is, table by table. A table that no copy
/// was begun for must be empty, but for rows that dual writes have put there since capture
/// stands: an older row would never be overwritten. `known` are the tables whose copy was begun, where
/// the claims on the target do not tell.
///
/// # Errors
///
/// What a database reports.
pub async fn target_refusals(
    source: &Pool,
    target: &Pool,
    plan: &Plan,
    captured: Option<Captured>,
    known: Option<Vec<i32>>,
) -> Result<Vec<String>, SqlFault> {
    let mut refused = Vec::new();
    let begun = match known {
        Some(known) => known,
        None => begun(target, plan, captured, &mut refused).await?,
    };
    for table in plan.plans.iter().filter(|table| !begun.contains(&table.table_id)) {
        if let Some(reason) = not_empty(source, target, plan, table, captured.is_some()).await? {
            refused.push(format!("{}: {reason}", table.mapping.target));
        }
    }
    Ok(refused)
}

/// The tables whose copy was begun, and what stands against going on with it.
async fn begun(
    target: &Pool,
    plan: &Plan,
    captured: Option<Captured>,
    refused: &mut Vec<String>,
) -> Result<Vec<i32>, SqlFault> {
    let client = target.get().await?;
    let ids: Vec<i32> = plan.plans.iter().map(|table| table.table_id).collect();
    let mut begun: Vec<i32> = Vec::new();
    for row in client.query(CLAIMS, &[&ids]).await? {
        let id: i32 = row.try_get(0)?;
        begun.push(id);
        let Some(table) = plan.plans.iter().find(|table| table.table_id == id) else { continue };
        let gaps: Option<i64> = row.try_get(1)?;
        let names: Vec<String> = (2..6).map(|n| row.try_get(n)).collect::<Result<_, _>>()?;
        let key: Vec<String> = row.try_get(6)?;
        let (one, other) = (&table.mapping.source, &table.mapping.target);
        let now = [&one.schema, &one.name, &other.schema, &other.name];
        if !names.iter().eq(now) || key != table.key {
            refused.push(format!("{one}: its copy was begun under another name or key"));
        } else if captured.map(|it| it.gaps) != gaps {
            refused.push(format!("{one}: capture has been switched off since its copy was begun"));
        }
    }
    Ok(begun)
}

async fn not_empty(
    source: &Pool,
    target: &Pool,
    plan: &Plan,
    table: &TablePlan,
    captured: bool,
) -> Result<Option<String>, SqlFault> {
    let Some(copied) = plan.tables.0.get(&table.table_id) else { return Ok(None) };
    let client = target.get().await?;
    let begin = super::begin_reading();
    client.batch_execute(&begin).await?;
    let sql = format!(
        "SELECT (ARRAY[{}])::pg_catalog.text FROM {} AS t LIMIT {}",
        copied.shape.key_texts(),
        copied.shape.quoted(Role::Shadow),
        PROVEN_ROWS_MAX + 1
    );
    let rows = client.query(&sql, &[]).await?;
    client.batch_execute("COMMIT").await?;
    if rows.is_empty() {
        return Ok(None);
    }
    if !captured || rows.len() > PROVEN_ROWS_MAX {
        return Ok(Some("it is not empty, and no copy to it was begun".to_owned()));
    }
    let keys: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let client = source.get().await?;
    let params: [&(dyn ToSql + Sync); 2] = [&table.table_id, &keys];
    let row = client.query_one(PROVEN, &params).await?;
    let proven: i64 = row.try_get(0)?;
    let unproven = keys.len().saturating_sub(usize::try_from(proven).unwrap_or(0));
    Ok((unproven > 0).then(|| {
        format!("{unproven} of its rows were there before the dual writes, and may be stale")
    }))
}

const ALIVE: &str = "\
    SELECT host FROM segue.backfill_worker WHERE lease_until > pg_catalog.clock_timestamp() LIMIT 1";

/// Attempts to empty the target where other transactions, such as reconciles, are in the way.
const EMPTY_ATTEMPTS: u32 = 10;
/// Between two of them, longer each time.
const EMPTY_PAUSE: Duration = Duration::from_millis(200);

/// Empties the target's tables of the plan, and forgets that they were ever copied; under the
/// lock of copies, so that no primary is emptied. Answers the
/// process that still copies, where one does; nothing was done then.
///
/// If we crash here, all is as before or all is empty.
///
/// # Errors
///
/// What the target reports.
pub async fn empty_target(
    target: &Pool,
    plan: &Plan,
    has_claims: bool,
) -> Result<Option<String>, SqlFault> {
    for attempt in 1..EMPTY_ATTEMPTS {
        match empty_once(target, plan, has_claims).await {
            // A conflict or a deadlock: it was rolled back.
            Err(fault)
                if [sqlstate::SERIALIZATION_FAILURE, sqlstate::DEADLOCK_DETECTED]
                    .contains(&&*fault.sqlstate) =>
            {
                tracing::debug!(%fault, attempt, "the target is emptied in another attempt");
                tokio::time::sleep(EMPTY_PAUSE * attempt).await;
            }
            done => return done,
        }
    }
    empty_once(target, plan, has_claims).await
}

async fn empty_once(
    target: &Pool,
    plan: &Plan,
    has_claims: bool,
) -> Result<Option<String>, SqlFault> {
    let client = target.get().await?;
    if has_claims && let Some(row) = client.query_opt(ALIVE, &[]).await? {
        return Ok(Some(row.try_get(0)?));
    }
    let tables: Vec<String> =
        plan.plans.iter().map(|table| table.mapping.target.quoted()).collect();
    if tables.is_empty() {
        return Ok(None);
    }
    let ids: Vec<String> = plan.plans.iter().map(|table| table.table_id.to_string()).collect();
    let ids = ids.join(", ");
    let dialect = client.dialect();
    let role = dialect.as_replica();
    let claims = if has_claims {
        format!(
            "DELETE FROM segue.backfill WHERE table_id IN ({ids}); \
             DELETE FROM segue.backfill_table WHERE table_id IN ({ids}); "
        )
    } else {
        String::new()
    };
    let share = match has_claims {
        true => share_copies(client.facts()),
        false => say_copying(client.facts()),
    };
    let isolation = dialect.writers_isolation().unwrap_or_default();
    let begin = format!(
        "BEGIN{isolation}; {role}SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = 0; {share}"
    );
    let emptied = async {
        client.batch_execute(&begin).await?;
        if has_claims {
            check_follows(&client).await?;
        }
        let sql = format!("{}{claims}COMMIT", dialect.empty(&tables));
        client.batch_execute(&sql).await
    };
    if let Err(fault) = emptied.await {
        client.discard();
        return Err(fault);
    }
    Ok(None)
}
