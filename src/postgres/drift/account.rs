//! What the server's counters are held against: changes that capture's triggers saw.
//!
//! On the primary these are rows of the outbox, on the side that follows what its triggers count of
//! segue's own copies and of writes that are noted (`segue.accounted`). Both are written in the
//! transaction that changes the rows, and so tell what was committed.
//!
//! Counters come a minute late, so that those of a look may have all in them that was committed since
//! the look before the last one that kept them. All of it is counted here, which may be too much and is
//! never too little: a captured write is not taken for one that was not. What that hides are uncaptured
//! changes up to the number of captured ones of the one or two minutes before.
//!
//! One case makes it too little: a session that commits and begins, within a second, a transaction of
//! more than a minute, since the server counts the first one's rows only at the end of the second.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::domain::drift::{Accounted, Counted};
use crate::domain::fault::SqlFault;
use crate::postgres::drift::look::{COUNT_EVERY, Known, Look, Since};
use crate::postgres::pool::Lease;
use crate::postgres::schema::{OUTBOX_SLOTS, SLOT_SECONDS};

/// Newer than a horizon: `age` counts backwards.
const SINCE: &str = "pg_catalog.age(o.xmin) <= pg_catalog.age( \
    pg_catalog.mod($2::int8, 4294967296)::text::xid)";
/// What no later look asks for. Tables that are no longer looked at keep nothing.
const PRUNE: &str = "DELETE FROM segue.accounted AS a WHERE pg_catalog.age(a.xmin) > ( \
    SELECT pg_catalog.max(pg_catalog.age(pg_catalog.mod(coalesce(s.horizon_before, s.horizon), \
        4294967296)::text::xid)) FROM segue.capture_seen AS s \
    WHERE s.counted_at > pg_catalog.clock_timestamp() - $1 * '1 second'::interval)";
/// Looks after which a table that was not looked at counts as gone.
const GONE_AFTER: u32 = 10;

/// A table whose counters have moved.
struct Moved {
    id: i32,
    before: Counted,
    now: Counted,
}

/// Until when rows of the outbox that were forgotten may be gone, and the windows of its ring from
/// then ($1) until now.
fn state() -> String {
    let window = |at: &str| {
        format!("pg_catalog.floor(pg_catalog.date_part('epoch', {at}) / {SLOT_SECONDS})::int8")
    };
    format!(
        "SELECT (SELECT s.removed_until FROM segue.outbox_state AS s WHERE s.id = 1), {}, {}",
        window("$1::timestamptz"),
        window("pg_catalog.clock_timestamp()")
    )
}

/// Decides whose counters are held against what triggers saw, and answers what that is.
pub(super) async fn account(
    client: &Lease,
    known: &mut [Known],
    look: Look,
    is_primary: bool,
) -> Result<HashMap<i32, Accounted>, SqlFault> {
    let (mut moved, mut oldest) = (Vec::new(), None::<Since>);
    for table in known.iter_mut() {
        let counters = table.before.as_ref().and_then(|it| it.counted).zip(table.now.counted);
        let (Some((before, now)), Some(since)) = (counters, table.since) else { continue };
        table.is_counted = table.was_the_same && (table.is_due || look == Look::Thorough);
        if table.is_counted && before.moved(now) {
            moved.push(Moved { id: table.id, before, now });
            oldest = Some(match oldest {
                Some(other) if other.horizon <= since.horizon => other,
                _ => since,
            });
        }
    }
    match oldest {
        None => Ok(HashMap::new()),
        Some(since) if is_primary => captured(client, &moved, since).await,
        Some(since) => copied(client, &moved, since).await,
    }
}

/// What the outbox has of these tables. First it is looked where the rows of busy tables are, in the
/// parts of the ring since that look; then everywhere, for tables of which that is not enough: a
/// transaction that began earlier has written to older parts.
async fn captured(
    client: &Lease,
    moved: &[Moved],
    since: Since,
) -> Result<HashMap<i32, Accounted>, SqlFault> {
    let state = client.query_one(&state(), &[&since.at]).await?;
    let removed: Option<SystemTime> = state.try_get(0)?;
    if removed.is_some_and(|removed| removed >= since.at) {
        return Ok(moved.iter().map(|it| (it.id, Accounted::Unknown)).collect());
    }
    let (first, last): (i64, i64) = (state.try_get(1)?, state.try_get(2)?);
    let ring = i64::from(OUTBOX_SLOTS);
    let parts = (first.max(last - ring + 1)..=last).map(|part| part.rem_euclid(ring).to_string());
    let recent = format!("AND o.slot IN ({})", parts.collect::<Vec<_>>().join(", "));
    let mut found: HashMap<i32, Accounted> =
        moved.iter().map(|it| (it.id, Accounted::Captured(0))).collect();
    for parts in [recent.as_str(), ""] {
        let unseen = |it: &&Moved| {
            let accounted = found.get(&it.id).copied().unwrap_or(Accounted::Unknown);
            it.before.unseen(it.now, accounted).is_some()
        };
        let open: Vec<i32> = moved.iter().filter(unseen).map(|it| it.id).collect();
        if open.is_empty() {
            break;
        }
        let sql = format!(
            "SELECT o.table_id, pg_catalog.count(*), pg_catalog.bool_or(o.key IS NULL) \
             FROM segue.outbox AS o WHERE o.table_id = ANY ($1) {parts} AND {SINCE} GROUP BY 1"
        );
        for row in client.query(&sql, &[&open, &since.horizon]).await? {
            let (keys, whole): (i64, bool) = (row.try_get(1)?, row.try_get(2)?);
            let seen = if whole { Accounted::Unknown } else { Accounted::Captured(keys) };
            found.insert(row.try_get(0)?, seen);
        }
    }
    Ok(found)
}

async fn copied(
    client: &Lease,
    moved: &[Moved],
    since: Since,
) -> Result<HashMap<i32, Accounted>, SqlFault> {
    let tables: Vec<i32> = moved.iter().map(|it| it.id).collect();
    let sql = format!(
        "SELECT o.table_id, pg_catalog.sum(o.changes)::int8 FROM segue.accounted AS o \
         WHERE o.table_id = ANY ($1) AND {SINCE} GROUP BY 1"
    );
    let mut found: HashMap<i32, Accounted> =
        tables.iter().map(|id| (*id, Accounted::Copied(0))).collect();
    for row in client.query(&sql, &[&tables, &since.horizon]).await? {
        found.insert(row.try_get(0)?, Accounted::Copied(row.try_get(1)?));
    }
    Ok(found)
}

/// Removes what no later look asks for.
pub(super) async fn prune(client: &Lease) -> Result<(), SqlFault> {
    let gone_after = (COUNT_EVERY * GONE_AFTER).as_secs_f64();
    client.execute(PRUNE, &[&gone_after]).await.map(drop)
}
