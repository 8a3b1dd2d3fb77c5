//! What is looked at under the fence: the rows that were written last.

use std::collections::BTreeSet;

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::postgres::outbox::RowKey;
use crate::postgres::reconcile::Reconciler;

/// Compares rows column by column, by reconciling them once more: nothing may be left to
/// change.
///
/// # Errors
///
/// A fault where something had to be changed, or could not be compared.
pub(super) async fn last_written(
    keys: BTreeSet<RowKey>,
    reconciler: &Reconciler,
) -> Result<u64, SqlFault> {
    let count = keys.len() as u64;
    let report = reconciler.reconcile(keys).await;
    if report.changed > 0 {
        let message = format!(
            "{} rows of the last {count} keys differed, though the outbox was empty; they are \
             equal now",
            report.changed
        );
        return Err(refused(message, "find out why before you try again: `segue verify`"));
    }
    if let Some((key, reason)) = report.failed.first() {
        let message =
            format!("the row {:?} of table {} differs: {reason}", key.values, key.table_id);
        return Err(refused(message, "see `segue outbox --stuck`"));
    }
    if let Some(stopped) = report.stopped {
        return Err(refused(
            format!("the last rows could not be compared: {stopped:?}"),
            "try again",
        ));
    }
    Ok(count)
}

fn refused(message: String, hint: &str) -> SqlFault {
    SqlFault::new(FaultKind::Precondition, Reason::RefusedDiffers, message).with_hint(hint)
}
