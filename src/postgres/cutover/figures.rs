//! Figures of both sides that a cutover goes by: the keys that wait, and how many rows there are.

use std::collections::BTreeSet;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::domain::table::{TableMapping, TableName};
use crate::postgres::outbox::RowKey;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::session::Session;
use crate::postgres::session::asked::Row;

/// Keys that are looked at; what was written before them was looked at by whoever verifies
/// while nothing is held.
const KEYS_MAX: i64 = 2_000;

const PENDING: &str = "\
    SELECT DISTINCT table_id, key FROM segue.outbox \
    WHERE forgotten_at IS NULL AND key IS NOT NULL LIMIT $1";

/// Rows that stand for all keys of their table.
const WHOLE_TABLES: &str = "\
    SELECT pg_catalog.count(*) FROM segue.outbox WHERE forgotten_at IS NULL AND key IS NULL";
/// Keys that are taken in hand at once: more than one claim has.
const ALL_MAX: i64 = 50_000;

const ESTIMATE: &str =
    "SELECT reltuples::float8 FROM pg_catalog.pg_class WHERE oid = $1::text::pg_catalog.regclass";

/// The keys that wait now: those of the writes that came last.
///
/// # Errors
///
/// What the database reports.
pub async fn pending(session: &Session) -> Result<BTreeSet<RowKey>, SqlFault> {
    keys(session, KEYS_MAX).await
}

/// All keys that wait, claimed or not; nothing where they are too many to be taken in hand, or
/// are not named one by one.
///
/// # Errors
///
/// What the database reports.
pub async fn all_pending(session: &Session) -> Result<Option<BTreeSet<RowKey>>, SqlFault> {
    let whole = session.repeatable().query_one(WHOLE_TABLES, &[]).await?;
    let keys = keys(session, ALL_MAX).await?;
    let some = whole.try_get::<_, i64>(0)? > 0;
    Ok((!some && (keys.len() as u64) < ALL_MAX.unsigned_abs()).then_some(keys))
}

async fn keys(session: &Session, keys_max: i64) -> Result<BTreeSet<RowKey>, SqlFault> {
    let prepared = session.prepared(PENDING).await?;
    let rows = session.repeatable().query(&prepared.statement, &[&keys_max]).await?;
    let key = |row: &Row| Ok(RowKey { table_id: row.try_get(0)?, values: row.try_get(1)? });
    rows.iter().map(key).collect::<Result<_, _>>()
}

/// What counting has found.
#[derive(Debug, Default)]
pub struct Counted {
    /// Tables that were counted.
    pub tables: u64,
    /// Their rows on one side.
    pub rows: u64,
    /// Tables that are too large for it.
    pub left_out: u64,
}

/// Counts the rows of both sides, but for tables that are too large for it.
///
/// # Errors
///
/// A fault that names the table whose counts differ.
pub async fn counts(
    primary: &Pool,
    shadow: &Pool,
    mappings: &[TableMapping],
    rows_max: u64,
) -> Result<Counted, SqlFault> {
    let (one, other) = (primary.get().await?, shadow.get().await?);
    let mut counted = Counted::default();
    for mapping in mappings {
        let (here, there) = (mapping.on(one.side()), mapping.on(other.side()));
        let estimated = match one.dialect().tells_sizes() {
            true => estimate(&one, here).await?,
            false => estimate(&other, there).await?,
        };
        if estimated > rows_max as f64 {
            counted.left_out += 1;
            continue;
        }
        let (rows, copied) = tokio::join!(count(&one, here), count(&other, there));
        let (rows, copied) = (rows?, copied?);
        if rows != copied {
            let message = format!(
                "{here} has {rows} rows on the {}, and {copied} on the {}",
                one.side(),
                other.side()
            );
            let fault = SqlFault::new(FaultKind::Precondition, Reason::RefusedDiffers, message);
            return Err(fault.with_hint("`segue verify --repair` finds and mends them"));
        }
        counted.tables += 1;
        counted.rows += u64::try_from(rows).unwrap_or_default();
    }
    Ok(counted)
}

async fn estimate(session: &Lease, table: &TableName) -> Result<f64, SqlFault> {
    let prepared = session.prepared(ESTIMATE).await?;
    let row = session.repeatable().query_one(&prepared.statement, &[&table.quoted()]).await?;
    row.try_get(0)
}

async fn count(session: &Lease, table: &TableName) -> Result<i64, SqlFault> {
    let sql = format!("SELECT pg_catalog.count(*) FROM {}", table.quoted());
    let row = session.repeatable().query_one(&sql, &[]).await?;
    row.try_get(0)
}
