//! What becomes of claimed rows: forgotten, or given back with the reason.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use crate::domain::fault::SqlFault;
use crate::postgres::outbox::claim::RowPlace;
use crate::postgres::outbox::{RowKey, SLOT_NOW, place_of};
use crate::postgres::pool::Lease;

/// Bytes of a reason that are kept: enough to act on, little enough to keep for many rows.
const REASON_BYTES_MAX: usize = 2000;

/// Marks exactly these rows as forgotten, in the transaction that claimed them. The shadow
/// must have committed before.
///
/// If we crash before this is committed, the rows are reconciled again, which changes
/// nothing.
///
/// # Errors
///
/// What the database reports.
// Modelled as `Action::Forget` in tests/model.
pub async fn forget(
    client: &Lease,
    places: impl IntoIterator<Item = &RowPlace>,
) -> Result<u64, SqlFault> {
    let by_slot = by_slot(places);
    let (place, of) = place_of(client);
    let updates = by_slot.into_iter().map(|(slot, ctids)| async move {
        // The slot stands in the text, so that only its leaf is planned and locked.
        let sql = format!(
            "UPDATE segue.outbox SET forgotten_at = pg_catalog.clock_timestamp() \
             WHERE slot = {slot} AND {place} = ANY ($1::text::{of}[])"
        );
        let forget = client.prepared(&sql).await?;
        client.execute(&forget.statement, &[&ctids]).await
    });
    Ok(try_join_all(updates).await?.into_iter().sum())
}

/// Removes exactly these rows, in the transaction that claimed them, where the outbox is over its
/// limit: the shadow must have committed before. Noted as removed, so that whoever asks for what
/// was forgotten lately learns that it is not all there.
///
/// # Errors
///
/// What the database reports.
pub async fn forget_now(
    client: &Lease,
    places: impl IntoIterator<Item = &RowPlace>,
) -> Result<u64, SqlFault> {
    let rows = remove(client, places).await?;
    if rows > 0 {
        let note = client.prepared(NOTE_REMOVED).await?;
        client.execute(&note.statement, &[]).await?;
    }
    Ok(rows)
}

const NOTE_REMOVED: &str = "UPDATE segue.outbox_state \
    SET removed_until = pg_catalog.clock_timestamp() WHERE id = 1";

/// Removes exactly these rows, which the transaction has locked.
pub(super) async fn remove(
    client: &Lease,
    places: impl IntoIterator<Item = &RowPlace>,
) -> Result<u64, SqlFault> {
    let (place, of) = place_of(client);
    let mut rows = 0;
    for (slot, ctids) in by_slot(places) {
        let sql = format!(
            "DELETE FROM segue.outbox WHERE slot = {slot} AND {place} = ANY ($1::text::{of}[])"
        );
        let remove = client.prepared(&sql).await?;
        rows += client.execute(&remove.statement, &[&ctids]).await?;
    }
    Ok(rows)
}

/// Gives rows back: they wait, and keep the reason.
///
/// If we crash before this is committed, they are simply due as before.
///
/// # Errors
///
/// What the database reports.
// Modelled as `Action::Fail` in tests/model.
pub async fn fail(
    client: &Lease,
    places: impl IntoIterator<Item = &RowPlace>,
    reason: &str,
    wait: Duration,
) -> Result<u64, SqlFault> {
    let mut rows = 0;
    let wait_s = wait.as_secs_f64();
    let reason = clipped(reason);
    let (place, of) = place_of(client);
    for (slot, ctids) in by_slot(places) {
        let sql = format!(
            "UPDATE segue.outbox SET attempts = attempts + 1, last_error = $2, \
             next_attempt_at = pg_catalog.clock_timestamp() \
                 + $3::float8 * '1 second'::interval \
             WHERE slot = {slot} AND {place} = ANY ($1::text::{of}[])"
        );
        let fail = client.prepared(&sql).await?;
        let given_back = client.execute(&fail.statement, &[&ctids, &reason, &wait_s]).await;
        rows += given_back?;
    }
    Ok(rows)
}

/// Writes a row for a key that failed while its whole table was gone through.
///
/// # Errors
///
/// What the database reports.
pub async fn note_failed(
    client: &Lease,
    key: &RowKey,
    reason: &str,
    wait: Duration,
) -> Result<(), SqlFault> {
    let sql = format!(
        "INSERT INTO segue.outbox (slot, table_id, key, attempts, last_error, next_attempt_at) \
         VALUES ({SLOT_NOW}, $1, $2, 1, $3, \
             pg_catalog.clock_timestamp() + $4::float8 * '1 second'::interval)"
    );
    let insert = client.prepared(&sql).await?;
    let (reason, wait_s) = (clipped(reason), wait.as_secs_f64());
    let params: [&(dyn ToSql + Sync); 4] = [&key.table_id, &key.values, &reason, &wait_s];
    client.execute(&insert.statement, &params).await?;
    Ok(())
}

/// PostgreSQL's text of an array for each slot.
fn by_slot<'a>(places: impl IntoIterator<Item = &'a RowPlace>) -> BTreeMap<i16, String> {
    let mut slots: BTreeMap<i16, String> = BTreeMap::new();
    for place in places {
        let text = slots.entry(place.slot).or_default();
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push('"');
        text.push_str(&place.ctid);
        text.push('"');
    }
    for text in slots.values_mut() {
        text.push('}');
    }
    slots
}

fn clipped(reason: &str) -> &str {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_gathered_by_slot() {
        let place = |slot, ctid: &str| RowPlace { slot, ctid: ctid.to_owned() };
        let places = [place(1, "(0,1)"), place(0, "(2,3)"), place(1, "(0,2)")];
        let slots = by_slot(&places);
        assert_eq!(slots[&0], "{\"(2,3)\"}");
        assert_eq!(slots[&1], "{\"(0,1)\",\"(0,2)\"}");
    }

    #[test]
    fn a_long_reason_is_clipped_between_characters() {
        let reason = "ä".repeat(REASON_BYTES_MAX);
        assert_eq!(clipped(&reason).len(), REASON_BYTES_MAX);
        let odd = format!("x{reason}");
        assert_eq!(clipped(&odd).len(), REASON_BYTES_MAX - 1);
    }
}
