//! A claim that failed since a key in it cannot be read.

use crate::domain::fault::SqlFault;
use crate::ports::reconcile::BatchDone;
use crate::postgres::outbox::backoff::Backoff;
use crate::postgres::outbox::settle::forget;
use crate::postgres::outbox::unreadable::{Unreadable, is_unreadable, set_aside, take};
use crate::postgres::reconcile::Reconciler;
use crate::postgres::reconcile::halt::Halt;
use crate::postgres::reconcile::session::Transaction;

/// Takes a claim back.
pub(super) const UNCLAIM: &str = "ROLLBACK TO claim";

/// Gives the keys back that no session can read, each with its reason, so that the next claim
/// goes by without them; where neither side has the row any more there is nothing to be done, and
/// they are forgotten. Any other fault of a claim is the batch's.
///
/// If we crash before the commit, they are due as before.
pub(super) async fn give_back(
    reconciler: &Reconciler,
    transaction: Transaction,
    fault: SqlFault,
    backoff: Backoff,
) -> Result<BatchDone, Halt> {
    if !is_unreadable(&fault) {
        return Err(Halt::Away(fault));
    }
    let client = transaction.client()?;
    client.batch_execute(UNCLAIM).await?;
    let taken = take(client).await.map_err(Halt::Away)?;
    let gone = gone(reconciler, &taken).await;
    let done = forget(client, gone.iter().map(|row| &row.place)).await.map_err(Halt::Away)?;
    let failed = set_aside(client, (backoff.first, backoff.max)).await.map_err(Halt::Away)?;
    transaction.end("COMMIT").await?;
    let rows = done + failed;
    if rows == 0 {
        return Err(Halt::Away(fault));
    }
    Ok(BatchDone { rows, keys: rows, failed, more: true, ..BatchDone::default() })
}

/// Those whose rows are on neither side. Where a side cannot be asked, they wait as they did.
async fn gone<'a>(reconciler: &Reconciler, taken: &'a [Unreadable]) -> Vec<&'a Unreadable> {
    let mut gone = Vec::new();
    for row in taken {
        match reconciler.is_gone(row.table_id, &row.key).await {
            Ok(true) => gone.push(row),
            Ok(false) => {}
            Err(_) => break,
        }
    }
    gone
}
