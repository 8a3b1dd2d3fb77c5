//! Claiming what is due: many outbox rows, gathered into few keys.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::postgres::outbox::{RowKey, place_of};
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;
use crate::postgres::session::cell::Raw;

/// Where an outbox row is, as long as the claim holds its lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowPlace {
    /// The part of the ring.
    pub slot: i16,
    /// `ctid` in it, as text; the row's id on CockroachDB.
    pub ctid: String,
}

/// The claimed outbox rows of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedRows {
    /// The rows, all of them locked.
    pub places: Vec<RowPlace>,
    /// The most attempts that any of them has behind it.
    pub attempts: u32,
    /// Some of the writes that they are from, for the traces.
    pub writes: Vec<WriteId>,
}

/// What one claim took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nothing is due that nobody else holds.
    Nothing,
    /// Keys with their outbox rows.
    Keys(BTreeMap<RowKey, ClaimedRows>),
    /// A row without a key, to be claimed by [`claim_table`]: of which table, and the range that it
    /// may stand for. Without one it stands for the whole table.
    Table(i32, Option<WriteId>),
}

/// Bounds of one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimLimits {
    /// Outbox rows that are looked at and locked.
    pub rows_max: i64,
    /// Keys that are taken; further rows are released with the transaction.
    pub keys_max: usize,
    /// Whether a truncated table may be taken; otherwise it is passed over.
    pub whole_tables: bool,
    /// Rows that were due before are passed over: while an old snapshot is open somewhere, the
    /// index still leads to all that was forgotten since, and each claim would visit it.
    pub from: Option<SystemTime>,
}

/// One row as the claim read it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DueRow {
    place: RowPlace,
    table_id: i32,
    key: Option<Vec<String>>,
    attempts: u32,
    due_at: SystemTime,
    write: Option<WriteId>,
}

/// What a claim took, and what it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The keys.
    pub claim: Claim,
    /// Rows that were locked.
    pub rows: u64,
    /// The first of them was due then.
    pub oldest: Option<SystemTime>,
}

/// Writes of one key that are remembered: a hot key has thousands.
const WRITES_MAX: usize = 8;

// === impl ClaimedRows ===

impl ClaimedRows {
    fn none() -> Self {
        Self { places: Vec::new(), attempts: 0, writes: Vec::new() }
    }

    fn add(&mut self, row: DueRow) {
        self.attempts = self.attempts.max(row.attempts);
        self.places.push(row.place);
        if self.writes.len() < WRITES_MAX {
            self.writes.extend(row.write.filter(|write| !self.writes.contains(write)));
        }
    }
}

/// Due rows, oldest first. `statement_timestamp()` and not the volatile clock, so that the
/// partial index bounds the scan. What another member holds is passed over.
const CLAIM: &str = "\
    SELECT slot, {place}::text, table_id, key, attempts, next_attempt_at, write_id FROM segue.outbox \
    WHERE forgotten_at IS NULL AND next_attempt_at <= pg_catalog.statement_timestamp() \
        AND next_attempt_at >= coalesce($3, '-infinity'::timestamptz) AND (key IS NOT NULL OR $2) \
    ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED";

/// The rows of one truncated table, or of one range of its key. Each is named by its time as well, since its place may be
/// another row's later.
const CLAIM_TABLE: &str = "\
    SELECT slot, {place}::text, attempts, next_attempt_at FROM segue.outbox \
    WHERE forgotten_at IS NULL AND next_attempt_at <= pg_catalog.statement_timestamp() \
        AND key IS NULL AND table_id = $1 AND ($3::text IS NULL OR write_id = $3::text::uuid) \
    ORDER BY next_attempt_at LIMIT $2 FOR UPDATE SKIP LOCKED";
/// Rows that one table is claimed by; further ones are for another time.
const TABLE_ROWS_MAX: i64 = 1000;

/// Claims what is due in the client's open transaction, and tells how many rows were locked.
///
/// If we crash here, the locks go with the connection, and the rows are due as before.
///
/// # Errors
///
/// What the database reports.
// Modelled as `Action::Claim` in tests/model.
pub async fn claim(client: &Lease, limits: ClaimLimits) -> Result<Claimed, SqlFault> {
    let claim = client.prepared(&placed(client, CLAIM)).await?;
    let params: [&(dyn ToSql + Sync); 3] = [&limits.rows_max, &limits.whole_tables, &limits.from];
    let rows = client.query(&claim.statement, &params).await?;
    let due = rows.iter().map(due_row).collect::<Result<Vec<_>, _>>()?;
    let oldest = due.first().map(|row| row.due_at);
    Ok(Claimed { claim: gather(due, limits.keys_max), rows: rows.len() as u64, oldest })
}

/// A row that stands for a whole table, and the most attempts behind any of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableRow {
    /// Where it is.
    pub place: RowPlace,
    /// When it was due: no other row of its place has the same.
    pub due_at: SystemTime,
    /// Failed attempts behind it.
    pub attempts: u32,
}

/// Claims the rows that say that a table must be gone through, or a range of its key, and none
/// besides. A pass through the whole table settles those of its ranges as well.
///
/// # Errors
///
/// What the database reports.
pub async fn claim_table(
    client: &Lease,
    table_id: i32,
    range: Option<WriteId>,
) -> Result<Vec<TableRow>, SqlFault> {
    let claim = client.prepared(&placed(client, CLAIM_TABLE)).await?;
    let range = range.map(|range| range.to_string());
    let rows = client.query(&claim.statement, &[&table_id, &TABLE_ROWS_MAX, &range]).await;
    let table_row = |row: &Row| -> Result<TableRow, SqlFault> {
        Ok(TableRow {
            place: RowPlace { slot: row.try_get(0)?, ctid: row.try_get(1)? },
            attempts: u32::try_from(row.try_get::<_, i32>(2)?).unwrap_or(0),
            due_at: row.try_get(3)?,
        })
    };
    let rows = rows?;
    rows.iter().map(table_row).collect::<Result<_, _>>()
}

fn placed(client: &Lease, sql: &str) -> String {
    sql.replace("{place}", place_of(client).0)
}

fn due_row(row: &Row) -> Result<DueRow, SqlFault> {
    Ok(DueRow {
        place: RowPlace { slot: row.try_get(0)?, ctid: row.try_get(1)? },
        table_id: row.try_get(2)?,
        key: row.try_get(3)?,
        attempts: u32::try_from(row.try_get::<_, i32>(4)?).unwrap_or(0),
        due_at: row.try_get(5)?,
        write: row.try_get::<_, Raw<'_>>(6)?.0.and_then(write_of),
    })
}

/// A uuid is its sixteen bytes.
fn write_of(cell: &[u8]) -> Option<WriteId> {
    cell.try_into().ok().map(|bytes| WriteId(u128::from_be_bytes(bytes)))
}

/// Gathers rows by key. A whole-table row at the head is taken alone; one that comes later
/// waits for its turn.
fn gather(due: Vec<DueRow>, keys_max: usize) -> Claim {
    let Some(first) = due.first() else {
        return Claim::Nothing;
    };
    if first.key.is_none() {
        return Claim::Table(first.table_id, first.write);
    }
    let mut keys: BTreeMap<RowKey, ClaimedRows> = BTreeMap::new();
    for mut row in due {
        let Some(values) = row.key.take() else { continue };
        let key = RowKey { table_id: row.table_id, values };
        if keys.len() >= keys_max && !keys.contains_key(&key) {
            continue;
        }
        keys.entry(key).or_insert_with(ClaimedRows::none).add(row);
    }
    Claim::Keys(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(table_id: i32, key: Option<&str>, ctid: &str, attempts: u32) -> DueRow {
        DueRow {
            place: RowPlace { slot: 0, ctid: ctid.to_owned() },
            table_id,
            key: key.map(|value| vec![value.to_owned()]),
            attempts,
            due_at: SystemTime::UNIX_EPOCH,
            write: None,
        }
    }

    #[test]
    fn rows_of_one_key_are_one_key() {
        let rows = vec![
            due(1, Some("a"), "(0,1)", 0),
            due(1, Some("b"), "(0,2)", 0),
            due(1, Some("a"), "(0,3)", 4),
            due(2, Some("a"), "(0,4)", 0),
        ];
        let Claim::Keys(keys) = gather(rows, 10) else { panic!("keys expected") };
        assert_eq!(keys.len(), 3);
        let first = &keys[&RowKey { table_id: 1, values: vec!["a".to_owned()] }];
        assert_eq!(first.places.len(), 2);
        assert_eq!(first.attempts, 4);
    }

    #[test]
    fn keys_are_bounded_but_all_rows_of_a_taken_key_come_along() {
        let rows = vec![
            due(1, Some("a"), "(0,1)", 0),
            due(1, Some("b"), "(0,2)", 0),
            due(1, Some("a"), "(0,3)", 0),
        ];
        let Claim::Keys(keys) = gather(rows, 1) else { panic!("keys expected") };
        assert_eq!(keys.len(), 1);
        assert_eq!(keys.values().next().map(|rows| rows.places.len()), Some(2));
    }

    #[test]
    fn a_truncated_table_is_taken_alone() {
        let rows = vec![
            due(1, None, "(0,1)", 2),
            due(1, Some("a"), "(0,2)", 0),
            due(1, None, "(0,3)", 1),
            due(2, None, "(0,4)", 0),
        ];
        assert_eq!(gather(rows, 10), Claim::Table(1, None));
        let later = vec![due(1, Some("a"), "(0,2)", 0), due(1, None, "(0,1)", 0)];
        assert!(matches!(gather(later, 10), Claim::Keys(keys) if keys.len() == 1));
        assert_eq!(gather(Vec::new(), 10), Claim::Nothing);
    }
}
