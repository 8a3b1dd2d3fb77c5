//! What an operator's command gives up: another database becomes the target, or a primary that went
//! back in time is gone on with.

use crate::domain::control::Phase;
use crate::domain::fault::SqlFault;
use crate::domain::history::EventKind;
use crate::domain::identity::{Identity, Place};
use crate::postgres::session::Session;

const IN_USE: &str = "\
    SELECT coalesce((SELECT pg_catalog.string_agg(name, ', ' ORDER BY name) FROM segue.member \
        WHERE lease_until > pg_catalog.clock_timestamp()), '')";
/// What was proven is of the target that there was, and so is what was copied: a gap in capture
/// makes all of it void.
const VOID: &str = "\
    WITH gap AS (UPDATE segue.outbox_state SET capture_gaps = capture_gaps + 1 WHERE id = 1), \
    forgotten AS (DELETE FROM segue.server_seen WHERE side = 'target') \
    UPDATE segue.verify SET proven_at = NULL, differs = false";
const RENAME: &str = "\
    UPDATE segue.identity SET other_id = $1::text::uuid, paired = false, other_generation = 0 \
    WHERE id = 1";
const EVENT: &str = "\
    INSERT INTO segue.history (event_id, kind, epoch, from_phase, to_phase, from_percentage, \
        to_percentage, forced, changed_by, reason) \
    SELECT $1::text::uuid, $2, epoch, phase, phase, target_percentage, target_percentage, $3, $4, \
        $5 FROM segue.control WHERE id = 1 ON CONFLICT (event_id) DO NOTHING";
/// What another migration, or an earlier target, has left on a database that is adopted.
const CLEAR: &str = "\
    DELETE FROM segue.identity; DELETE FROM segue.control; DELETE FROM segue.backfill; \
    DELETE FROM segue.backfill_table; DELETE FROM segue.backfill_worker; \
    DELETE FROM segue.migrated_table; DELETE FROM segue.outbox";
const MOVE: &str = "UPDATE segue.identity SET place = $1, generation = $2 WHERE id = 1";
/// One transaction, whose changes take longer than segue's other statements may.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
    SET LOCAL statement_timeout = 0; SET LOCAL synchronous_commit = on";

/// What an event of `segue.history` says.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Who.
    pub by: &'a str,
    /// What happened, and why.
    pub reason: &'a str,
    /// An operator overrode what segue would not do by itself.
    pub forced: bool,
}

/// The sidecars that have a lease by the session's database; empty for none.
///
/// # Errors
///
/// What the database reports.
pub async fn members(session: &Session) -> Result<String, SqlFault> {
    let row = session.repeatable().query_one(IN_USE, &[]).await?;
    row.try_get(0)
}

/// Whether a phase lets the target be given up: the source is the primary.
pub fn may_lose_target(phase: Phase) -> bool {
    matches!(phase, Phase::SourceOnly | Phase::DualWrite | Phase::ShadowRead | Phase::Shift)
}

/// Gives the session's side, the source, another target, which has not taken that up yet. Proofs are
/// void, and so is the copy.
///
/// If we crash here, the transaction is rolled back.
///
/// # Errors
///
/// What the database reports.
pub async fn rename_target(
    session: &Session,
    identity: &Identity,
    told: Told<'_>,
) -> Result<(), SqlFault> {
    let target = identity.sides.target.to_string();
    in_transaction(session, async || {
        session.execute(RENAME, &[&target]).await?;
        session.execute(VOID, &[]).await?;
        note(session, identity.sides.target, told).await
    })
    .await
}

/// Makes the session's database one of no migration.
///
/// If we crash here, all of it is undone, or done.
///
/// # Errors
///
/// What the database reports.
pub async fn clear(session: &Session) -> Result<(), SqlFault> {
    session.batch_execute(CLEAR).await
}

/// Takes the session's database as it is, where it is: `generation` is newer than what was ever seen
/// of it.
///
/// # Errors
///
/// What the database reports.
pub async fn take_as_it_is(
    session: &Session,
    here: &Place,
    generation: i64,
) -> Result<(), SqlFault> {
    let done = session.execute(MOVE, &[&here.written(), &generation]).await;
    done.map(drop)
}

/// Notes what happened; the same id is noted once.
///
/// # Errors
///
/// What the database reports.
pub async fn note(session: &Session, id: uuid::Uuid, told: Told<'_>) -> Result<(), SqlFault> {
    let (id, kind) = (id.to_string(), EventKind::Identity.as_str());
    let Told { by, reason, forced } = told;
    let done = session.execute(EVENT, &[&id, &kind, &forced, &by, &reason]).await;
    done.map(drop)
}

/// Runs `work` in one transaction of the session.
pub(super) async fn in_transaction<T>(
    session: &Session,
    work: impl AsyncFnOnce() -> Result<T, SqlFault>,
) -> Result<T, SqlFault> {
    session.batch_execute(BEGIN).await?;
    let done = work().await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    session.batch_execute(end).await?;
    done
}
