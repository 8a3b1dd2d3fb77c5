//! What a batch writes into the outbox for keys that failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::postgres::outbox::RowKey;
use crate::postgres::outbox::claim::ClaimedRows;
use crate::postgres::outbox::servers::enqueue_tables;
use crate::postgres::outbox::settle::{fail, forget};
use crate::postgres::pool::Lease;
use crate::postgres::reconcile::Report;
use crate::postgres::reconcile::halt::Halt;

/// Rows by the reason of their keys and the attempts behind them.
type Failures<'a> = BTreeMap<(&'a str, u32), Vec<&'a ClaimedRows>>;

/// Gives keys that failed back with their reasons; `wait` tells for how long, by the attempts
/// behind them. Keys of a primary key that a table no longer has give way to the whole of it, in
/// the transaction that forgets them.
pub(super) async fn give_back(
    client: &Lease,
    keys: &BTreeMap<RowKey, ClaimedRows>,
    report: &Report,
    wait: impl Fn(u32) -> Duration,
) -> Result<(), Halt> {
    let tables: BTreeSet<i32> = report.outdated.iter().map(|key| key.table_id).collect();
    if !tables.is_empty() {
        let tables: Vec<i32> = tables.into_iter().collect();
        enqueue_tables(client, Some(&tables)).await.map_err(Halt::Away)?;
        let places = report.outdated.iter().filter_map(|key| keys.get(key));
        forget(client, places.flat_map(|rows| &rows.places)).await.map_err(Halt::Away)?;
    }
    let mut failures: Failures<'_> = BTreeMap::new();
    for (key, reason) in report.failed.iter().filter(|(key, _)| !report.outdated.contains(key)) {
        if let Some(rows) = keys.get(key) {
            failures.entry((reason.as_str(), rows.attempts)).or_default().push(rows);
        }
    }
    for ((reason, attempts), rows) in failures {
        let places = rows.into_iter().flat_map(|rows| &rows.places);
        let wait = wait(attempts.saturating_add(1));
        fail(client, places, reason, wait).await.map_err(Halt::Away)?;
    }
    Ok(())
}
