//! The history, copied: chunks by key range, read in a snapshot, written under their claim, and
//! looked at again for what was written meanwhile.
//!
//! - [`copier`]: one chunk from its snapshot to its last reconcile
//! - [`claims`]: who has which chunk, in `segue.backfill` on the target
//! - [`plan`]: which tables, in which order, and how they are read
//! - [`admit`]: whether a backfill may begin
//! - [`split`]: where to cut; [`watch`]: how the source is, and what it must keep

pub mod admit;
mod batch;
mod by_keys;
mod changed;
pub mod claims;
mod columns;
pub mod copier;
mod held;
mod insert;
pub mod plan;
pub mod progress;
pub mod snapshot;
pub mod split;
mod table;
pub mod watch;
mod write;

use std::time::Duration;

use crate::postgres::fence::{say_copying, share_copies};
use crate::postgres::reconcile::session::ForeignKeys;
use crate::postgres::session::ServerFacts;

/// How long a transaction of a chunk may sit idle before its server ends it: what a process
/// that is stopped, but not dead, leaves behind.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// How long a chunk waits for a row that somebody else has locked on the target.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How long a chunk waits for a table that the application has locked on the source.
const GIVE_WAY: Duration = Duration::from_millis(200);
/// A key's text must mean the same on both sides, and a value's too.
const TEXTS: &str = "SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL TimeZone = 'UTC'; \
    SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1; \
    SET LOCAL bytea_output = 'hex'";

/// Begins a reading transaction on the source: one state for all that is read. Where statistics
/// are missing the planner would read the whole table for each chunk; told not to, it takes the
/// primary key's index.
fn begin_reading() -> String {
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = pg_catalog; \
         SET LOCAL row_security = off; {TEXTS}; SET LOCAL statement_timeout = 0; \
         SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; \
         SET LOCAL enable_seqscan = off",
        GIVE_WAY.as_millis(),
        IDLE_MAX.as_millis()
    )
}

/// Begins a transaction on the source each statement of which sees what is committed by then.
fn begin_looking() -> String {
    format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL search_path = pg_catalog; \
         SET LOCAL row_security = off; {TEXTS}; SET LOCAL statement_timeout = 0; \
         SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
        LOCK_WAIT.as_millis(),
        IDLE_MAX.as_millis()
    )
}

/// Begins the writing transaction of a chunk. A statement may take as long as the stream that
/// it is fed from. `fenced` takes the lock of copies to the target, last of all: who waits for it
/// holds nothing.
fn begin_writing(facts: &ServerFacts, foreign_keys: ForeignKeys, fenced: bool) -> String {
    let role = match foreign_keys {
        ForeignKeys::Replica => "; SET LOCAL session_replication_role = replica",
        ForeignKeys::Active => "",
    };
    let share = if fenced { share_copies(facts) } else { say_copying(facts) };
    let isolation = facts.dialect.writers_isolation().unwrap_or(" ISOLATION LEVEL READ COMMITTED");
    format!(
        "BEGIN{isolation} READ WRITE{role}; \
         SET LOCAL search_path = pg_catalog; SET LOCAL row_security = off; {TEXTS}; \
         SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = 0; \
         SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}; {share}",
        LOCK_WAIT.as_millis(),
        IDLE_MAX.as_millis()
    )
}
