//! The source as one chunk sees it: the snapshot, and the mark that tells what came after.

use std::time::SystemTime;

use tokio_postgres::types::Oid;

use crate::domain::fault::SqlFault;
use crate::postgres::backfill::admit::Captured;
use crate::postgres::backfill::begin_reading;
use crate::postgres::pool::{Lease, Pool};
use crate::postgres::reconcile::halt::{Halt, of_fault};
use crate::postgres::reconcile::session::Transaction;

/// No row of the outbox that the snapshot cannot see was captured before this moment: it is from
/// a transaction that was open then, and that none of them had begun before. It must be asked
/// *before* the snapshot is taken, since later some of them may have ended. NULL where that
/// cannot be known: the session may not see when others' transactions began, or one is prepared.
const CAPTURED_AFTER: &str = "\
    SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_prepared_xacts AS p \
            WHERE p.database = pg_catalog.current_database()) \
        OR pg_catalog.bool_or(a.backend_type = 'client backend' AND a.state IS NULL) THEN NULL \
        ELSE least(pg_catalog.statement_timestamp(), pg_catalog.min(a.xact_start)) END \
    FROM pg_catalog.pg_stat_activity AS a \
    WHERE a.datname = pg_catalog.current_database() OR a.datname IS NULL";

/// The snapshot's horizon: transactions before it have ended, and their subtransactions with
/// them. Those between it and the snapshot's end are told apart by nothing here: what they
/// captured counts as not seen, which only means that it is reconciled once more.
const FACTS: &str = "\
    SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()), c.phase, \
        s.capture_gaps FROM segue.control AS c, segue.outbox_state AS s WHERE c.id = 1 AND s.id = 1";

/// What a snapshot knows of the outbox, noted with the snapshot itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// What is older, of transactions, is seen by the snapshot.
    pub(super) horizon: Oid,
    /// No row that is not seen was captured before.
    pub(super) captured_after: Option<SystemTime>,
    /// The server whose transactions these are.
    pub(super) incarnation: String,
}

/// A snapshot of the source that is open.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) transaction: Transaction,
    /// `None` where nothing is captured, and nobody writes.
    pub(super) seen: Option<Seen>,
}

/// Why a snapshot is of no use.
#[derive(Debug)]
pub(super) enum Unusable {
    Halt(Box<Halt>),
    Void(String),
}

impl From<Halt> for Unusable {
    fn from(halt: Halt) -> Self {
        Self::Halt(Box::new(halt))
    }
}

/// Takes a snapshot, and notes what it sees of the outbox.
// DESIGN's step (1): `A` is what lies before the horizon, and needs not be listed.
pub(super) async fn take(pool: &Pool, captured: Option<Captured>) -> Result<Snapshot, Unusable> {
    let mut seen = None;
    if captured.is_some() {
        let client = pool.get().await.map_err(Halt::Away)?;
        let row = client.query_one(CAPTURED_AFTER, &[]).await.map_err(of_fault)?;
        let captured_after = row.try_get(0).map_err(of_fault)?;
        let incarnation = client.facts().incarnation.clone();
        seen = Some(Seen { horizon: 0, captured_after, incarnation });
    }
    let transaction = Transaction::open(pool, &begin_reading()).await?;
    if let (Some(seen), Some(captured)) = (&mut seen, captured) {
        let client = transaction.client()?;
        let facts = client.prepared(FACTS).await.map_err(of_fault)?;
        let row = client.query_one(&facts.statement, &[]).await.map_err(of_fault)?;
        let horizon: i64 = row.try_get(0).map_err(of_fault)?;
        // The lower half is what `xmin` shows.
        seen.horizon = u32::try_from(horizon & 0xffff_ffff).unwrap_or(u32::MAX);
        if client.facts().incarnation != seen.incarnation {
            // Not the server that was asked when transactions began.
            seen.captured_after = None;
            seen.incarnation.clone_from(&client.facts().incarnation);
        }
        let phase: String = row.try_get(1).map_err(of_fault)?;
        let gaps: i64 = row.try_get(2).map_err(of_fault)?;
        still_captured(captured, &phase, gaps).map_err(Unusable::Void)?;
    }
    Ok(Snapshot { transaction, seen })
}

/// Whether every write since the copy was begun has been captured.
pub(super) fn still_captured(captured: Captured, phase: &str, gaps: i64) -> Result<(), String> {
    let phase_captures =
        phase.parse::<crate::domain::control::Phase>().is_ok_and(super::admit::copies);
    if phase_captures && gaps == captured.gaps {
        return Ok(());
    }
    Err(format!(
        "capture was switched off since the copy was begun (phase {phase}): writes were missed that \
         no outbox row tells of; set dual_write again, and begin anew with --empty-target"
    ))
}

/// Looks whether capture has stood to this moment.
pub(super) async fn check_captured(
    client: &Lease,
    captured: Captured,
) -> Result<Result<(), String>, SqlFault> {
    let facts = client.prepared(FACTS).await?;
    let row = client.query_one(&facts.statement, &[]).await?;
    let phase: String = row.try_get(1)?;
    let gaps: i64 = row.try_get(2)?;
    Ok(still_captured(captured, &phase, gaps))
}
