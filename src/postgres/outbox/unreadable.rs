//! Keys that no session can read: in a database whose encoding is SQL_ASCII a text may be any
//! bytes, and a statement that would send one that is no UTF-8 fails as a whole. Such a key
//! stands alone, with its reason, and holds up nobody else's.

use std::time::Duration;

use crate::domain::fault::SqlFault;
use crate::domain::sqlstate;
use crate::postgres::outbox::claim::RowPlace;
use crate::postgres::outbox::place_of;
use crate::postgres::pool::Lease;
use crate::postgres::session::asked::Row;

/// Rows that are set aside at once.
const ROWS_MAX: i64 = 1000;
/// Rows whose keys both sides are asked for in one go: each is a question of its own.
const ASKED_MAX: i64 = 100;
const REASON: &str = "the key's bytes are no UTF-8, so that nobody can read it (the database's \
    encoding is SQL_ASCII): give the row another key, or delete it on both sides";

/// Well-formed UTF-8 in hexadecimal digits, as Unicode's table 3-7 has it.
const UTF8_IN_HEX: &str = "^([0-7].|(c[2-9a-f]|d.)[89ab].|e0[ab].[89ab].|e[1-9abcef]([89ab].){2}\
    |ed[89].[89ab].|f0[9ab].([89ab].){2}|f[123]([89ab].){3}|f48.([89ab].){2})*$";

/// Whether a statement has failed for such bytes.
pub fn is_unreadable(fault: &SqlFault) -> bool {
    fault.sqlstate == sqlstate::CHARACTER_NOT_IN_REPERTOIRE
}

/// SQL that is true of a key of the outbox that cannot be sent.
fn cannot_be_sent(key: &str) -> String {
    format!(
        "({key} IS NOT NULL AND pg_catalog.getdatabaseencoding()::text = 'SQL_ASCII' \
         AND pg_catalog.encode(pg_catalog.convert_to(pg_catalog.array_to_string({key}, ','), \
             'SQL_ASCII'), 'hex') !~ '{UTF8_IN_HEX}')"
    )
}

/// The same of a list of keys, each as the text of an array.
pub(in crate::postgres) fn list_cannot_be_sent(keys: &str) -> String {
    cannot_be_sent(keys)
}

/// SQL for a key of the outbox that can always be sent: the bytes in hexadecimal digits where
/// it could not be otherwise.
pub(super) fn readable(key: &str) -> String {
    format!(
        "CASE WHEN {} THEN ARRAY(SELECT '0x' || pg_catalog.encode( \
             pg_catalog.convert_to(u.k, 'SQL_ASCII'), 'hex') \
             FROM pg_catalog.unnest({key}) WITH ORDINALITY AS u(k, n) ORDER BY u.n) \
         ELSE {key} END",
        cannot_be_sent(key)
    )
}

/// A due row of the outbox whose key cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Where it is, and locked.
    pub place: RowPlace,
    /// Of which table.
    pub table_id: i32,
    /// The bytes of each value of its key, in hexadecimal digits.
    pub key: Vec<String>,
}

/// Some of the due rows whose keys cannot be read, locked in the client's open transaction.
///
/// # Errors
///
/// What the database reports.
pub async fn take(client: &Lease) -> Result<Vec<Unreadable>, SqlFault> {
    let (place, _) = place_of(client);
    let sql = format!(
        "SELECT o.slot, o.{place}::text, o.table_id, ARRAY(SELECT pg_catalog.encode( \
             pg_catalog.convert_to(u.k, 'SQL_ASCII'), 'hex') \
             FROM pg_catalog.unnest(o.key) WITH ORDINALITY AS u(k, n) ORDER BY u.n) \
         FROM segue.outbox AS o WHERE o.forgotten_at IS NULL \
             AND o.next_attempt_at <= pg_catalog.statement_timestamp() AND {} \
         LIMIT $1 FOR UPDATE SKIP LOCKED",
        cannot_be_sent("o.key")
    );
    let read = |row: &Row| {
        let place = RowPlace { slot: row.try_get(0)?, ctid: row.try_get(1)? };
        Ok(Unreadable { place, table_id: row.try_get(2)?, key: row.try_get(3)? })
    };
    let asked = client.prepared(&sql).await?;
    let rows = client.query(&asked.statement, &[&ASKED_MAX]).await?;
    rows.iter().map(read).collect::<Result<_, _>>()
}

/// Gives due rows back whose keys cannot be read, each with the reason, in the client's open
/// transaction; tells how many.
///
/// If we crash before it is committed, they are due as before.
///
/// # Errors
///
/// What the database reports.
pub async fn set_aside(
    client: &Lease,
    (first, max): (Duration, Duration),
) -> Result<u64, SqlFault> {
    let sql = format!(
        "WITH odd AS (SELECT o.slot, o.ctid AS place FROM segue.outbox AS o \
             WHERE o.forgotten_at IS NULL \
                 AND o.next_attempt_at <= pg_catalog.statement_timestamp() AND {} \
             LIMIT $4 FOR UPDATE SKIP LOCKED) \
         UPDATE segue.outbox AS o SET attempts = o.attempts + 1, last_error = $1, \
             next_attempt_at = pg_catalog.clock_timestamp() + least($3::float8, \
                 $2::float8 * pg_catalog.power(2::float8, least(o.attempts, 30)::float8)) \
                 * '1 second'::interval \
         FROM odd WHERE o.slot = odd.slot AND o.ctid = odd.place",
        cannot_be_sent("o.key")
    );
    let (first, max) = (first.as_secs_f64(), max.as_secs_f64());
    let asked = client.prepared(&sql).await?;
    client.execute(&asked.statement, &[&REASON, &first, &max, &ROWS_MAX]).await
}
