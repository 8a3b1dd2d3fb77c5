//! What capture notes on the side that follows: writes that are not segue's.
//!
//! From `dual_write` until `shift` the target takes them, and must not keep them. The trigger notes
//! their keys and who wrote, in the writer's own transaction: the note is there with the write or
//! not at all. [`crate::postgres::foreign_writes`] takes the notes from there. From `shift` on such writes
//! are refused.

use super::event::Event;
use crate::domain::control::Phase;
use crate::domain::side::Side;
use crate::domain::table::quote_literal;

/// A statement that touches more rows is noted as a whole table: its note stays small, and to look
/// at all rows costs little more then.
const NOTED_KEYS_MAX: u32 = 10_000;

/// Phases in which writes that are not segue's are noted. In `source_only` as well: capture stands
/// before the phase that needs it, and the target hears of the phase a moment after the source.
const NOTING: [Phase; 3] = [Phase::SourceOnly, Phase::DualWrite, Phase::ShadowRead];

/// Declares what [`instead_of_refusing`] uses.
pub(super) fn declare(side: Side) -> &'static str {
    match side {
        Side::Source => "",
        Side::Target => "\n    segue_keys pg_catalog.int8 := 0;",
    }
}

/// The sequences whose greatest value is the epoch since which a write is captured, refused or
/// noted as it is now: transactions with an older snapshot must not go by that.
pub(super) fn since(side: Side) -> &'static str {
    match side {
        Side::Source => "SELECT s.last_value FROM segue.primary_epoch AS s",
        Side::Target => {
            "SELECT greatest(s.last_value, r.last_value)
            FROM segue.primary_epoch AS s, segue.refusing_epoch AS r"
        }
    }
}

/// PL/pgSQL that notes the write and returns, where the side takes such writes in this phase. The
/// source takes none while it follows.
pub(super) fn instead_of_refusing(side: Side, table_id: i32, event: Event, rows: &str) -> String {
    if side == Side::Source {
        return String::new();
    }
    let noting = NOTING.map(|phase| quote_literal(phase.as_str())).join(", ");
    // Old and new keys of a row that moves between partitions are two, and so are its changes.
    let changes = if event == Event::Update { "segue_keys * 2" } else { "segue_keys" };
    let (count, keys) = match event {
        Event::Truncate => (String::new(), "NULL".to_owned()),
        _ => (
            format!(
                "            SELECT pg_catalog.count(*) INTO segue_keys FROM ({rows}) AS k (key);
            IF segue_keys = 0 THEN
                RETURN NULL;
            END IF;
"
            ),
            format!(
                "CASE WHEN segue_keys <= {NOTED_KEYS_MAX} THEN (
                SELECT pg_catalog.array_agg(k.key::pg_catalog.text) FROM ({rows}) AS k (key)) END"
            ),
        ),
    };
    format!(
        "
        IF (SELECT c.phase IN ({noting}) FROM segue.control AS c WHERE c.id = 1) THEN
{count}            INSERT INTO segue.foreign_write (table_id, operation, keys, key_count, role,
                application_name, address, transaction_id)
            SELECT {table_id}, TG_OP, {keys}, segue_keys,
                CASE pg_catalog.current_setting('role') WHEN 'none' THEN session_user::pg_catalog.text
                    ELSE pg_catalog.concat(session_user, ' as ', pg_catalog.current_setting('role')) END,
                coalesce(pg_catalog.current_setting('application_name', true), ''),
                coalesce(pg_catalog.host(pg_catalog.inet_client_addr()), 'local'),
                pg_catalog.pg_current_xact_id()::pg_catalog.text;
            INSERT INTO segue.accounted (table_id, changes) VALUES ({table_id}, {changes});
            RETURN NULL;
        END IF;"
    )
}
