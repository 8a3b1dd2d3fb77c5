//! A claim that failed since a key in it cannot be read.

use crate::domain::fault::SqlFault;
use crate::ports::reconcile::BatchDone;
use crate::postgres::outbox::backoff::Backoff;
use crate::postgres::outbox::unreadable::{is_unreadable, set_aside};
use crate::postgres::reconcile::halt::{Halt, on};
use crate::postgres::reconcile::session::Transaction;

/// Takes a claim back.
pub(super) const UNCLAIM: &str = "ROLLBACK TO claim";

/// Gives the keys back that no session can read, each with its reason, so that the next claim
/// goes by without them. Any other fault of a claim is the batch's.
pub(super) async fn give_back(
    transaction: Transaction,
    fault: SqlFault,
    backoff: Backoff,
) -> Result<BatchDone, Halt> {
    if !is_unreadable(&fault) {
        return Err(Halt::Away(fault));
    }
    let client = transaction.client()?;
    client.batch_execute(UNCLAIM).await.map_err(on(transaction.side()))?;
    let rows = set_aside(client, (backoff.first, backoff.max)).await.map_err(Halt::Away)?;
    transaction.end("COMMIT").await?;
    if rows == 0 {
        return Err(Halt::Away(fault));
    }
    Ok(BatchDone { rows, keys: rows, failed: rows, more: true, ..BatchDone::default() })
}
