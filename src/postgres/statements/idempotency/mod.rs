//! Writes that have effect once, however often they are sent.
//!
//! The key is inserted first, in the write's own transaction: a second call with it waits
//! for the first by the unique index, and then finds the first answer. *If we crash here*,
//! key, effect and answer are there together or not at all.

mod encoding;

use tokio_postgres::types::{ToSql, Type};

use super::pipeline::{Done, Step, StepKind};
use crate::domain::call::{Idempotency, WriteAnswer, WriteItem};
use crate::domain::fault::{FaultKind, Outcome, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::reason::Reason;
use crate::domain::sqlstate;
use crate::postgres::session::{Session, fault};
use encoding::Unreadable;

/// Bytes of a key.
const KEY_BYTES_MAX: usize = 255;
/// Bytes of an answer that is kept with its key.
const RESPONSE_BYTES_MAX: usize = 1024 * 1024;

/// `undefined_table`, `undefined_function`, `invalid_schema_name`.
const ABSENT: [&str; 3] =
    [sqlstate::UNDEFINED_TABLE, sqlstate::UNDEFINED_FUNCTION, sqlstate::INVALID_SCHEMA_NAME];

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Seen {
    /// It was never committed.
    Nothing,
    /// The first answer.
    Answer(WriteAnswer),
}

/// Refuses keys that are empty or too long.
pub(super) fn check_key(idempotency: &Idempotency) -> Result<(), SqlFault> {
    let length = idempotency.key.len();
    if (1..=KEY_BYTES_MAX).contains(&length) && !idempotency.key.contains('\0') {
        return Ok(());
    }
    let message = format!(
        "the idempotency key has {length} bytes, but must have 1 to {KEY_BYTES_MAX}, none of them zero"
    );
    Err(SqlFault::new(FaultKind::InvalidArgument, Reason::IdempotencyKey, message))
}

/// Takes the key. A duplicate is an error, so that the statements after it in the pipeline
/// do not run.
pub(super) fn insert<'a>(session: &'a Session, idempotency: &'a Idempotency) -> Step<'a> {
    let content: &[u8] = &idempotency.content;
    let sql = session.dialect().take_key();
    execute(session, StepKind::Key, sql, Type::BYTEA, &idempotency.key, content.to_vec())
}

/// Keeps the answer with its key.
///
/// # Errors
///
/// `LimitExceeded` before anything is committed, where the answer is too large to be kept.
pub(super) fn keep<'a>(
    session: &'a Session,
    idempotency: &'a Idempotency,
    write_id: WriteId,
    items: &[WriteItem],
) -> Result<Step<'a>, SqlFault> {
    let response = encoding::encode(write_id, items);
    if response.len() > RESPONSE_BYTES_MAX {
        let message = format!(
            "the answer has {} bytes, but at most {RESPONSE_BYTES_MAX} are kept with an idempotency key",
            response.len()
        );
        return Err(SqlFault::new(
            FaultKind::LimitExceeded,
            Reason::IdempotencyAnswerBytes,
            message,
        )
        .with_hint("return less, or send the call without a key")
        .on(session.side()));
    }
    let sql = session.dialect().keep_answer();
    Ok(execute(session, StepKind::Response, sql, Type::BYTEA, &idempotency.key, response))
}

/// Typed by us, so that a first use needs no round trip for preparing it.
fn execute<'a>(
    session: &'a Session,
    kind: StepKind,
    sql: &'static str,
    second: Type,
    key: &'a str,
    bytes: Vec<u8>,
) -> Step<'a> {
    let work = Box::pin(async move {
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&key, Type::TEXT), (&bytes, second)];
        session.execute_typed(sql, &params).await.map_err(without_schema)?;
        Ok(Done::Nothing)
    });
    Step { kind, work }
}

/// That it is not there is not the caller's fault.
fn without_schema(mut fault: SqlFault) -> SqlFault {
    if ABSENT.contains(&&*fault.sqlstate) {
        fault.kind = FaultKind::Precondition;
        fault.reason = Reason::IdempotencyNoSchema;
        "run segue init, or send the call without a key".clone_into(&mut fault.hint);
    }
    fault::not_admitted(fault)
}

/// The answer kept with a key.
///
/// # Errors
///
/// `Precondition` where the key was used with other content, or its answer was kept by a version
/// of segue that wrote it otherwise.
pub(super) async fn look_up(
    session: &Session,
    idempotency: &Idempotency,
) -> Result<Seen, SqlFault> {
    let (key, asked): (&str, &[u8]) = (&idempotency.key, &idempotency.content);
    let sql = session.dialect().find_answer();
    let rows = session
        .repeatable()
        .query_typed(sql, &[(&key, Type::TEXT), (&asked, Type::BYTEA)])
        .await
        .map_err(without_schema)?;
    let Some(row) = rows.first() else { return Ok(Seen::Nothing) };
    // Its row is committed, and so is the write.
    let applied = |kind, what: String| {
        SqlFault::new(kind, Reason::IdempotencyResponse, what)
            .with_outcome(Outcome::Applied)
            .with_hint("do not send the write again; read what it wrote")
            .on(session.side())
    };
    let broken = |what: String| applied(FaultKind::Internal, what);
    let is_same: bool = row.try_get(0).map_err(|error| broken(error.to_string()))?;
    let response: Option<Vec<u8>> = row.try_get(1).map_err(|error| broken(error.to_string()))?;
    if !is_same {
        let message = format!(
            "the idempotency key '{}' was used for another call less than a day ago",
            idempotency.key
        );
        return Err(SqlFault::new(
            FaultKind::Precondition,
            Reason::IdempotencyContentDiffers,
            message,
        )
        .with_hint("use a new key for each new write")
        .on(session.side()));
    }
    let kept = encoding::decode(&response.unwrap_or_default());
    let (write_id, items) = kept.map_err(|why| match why {
        Unreadable::Format(format) => applied(
            FaultKind::Precondition,
            format!(
                "the write of the idempotency key was applied, and its answer is kept in format \
                 {format}, of another version of segue, which this one does not read"
            ),
        ),
        Unreadable::Damaged => broken(
            "the write of the idempotency key was applied, and the answer kept with it is damaged"
                .to_owned(),
        ),
    })?;
    Ok(Seen::Answer(WriteAnswer { items, write_id, already_applied: true, wrote: true }))
}

/// Inserts the key of a write in doubt again: success means that the first can never commit
/// (its process has been ended), a duplicate that it did.
pub(super) async fn insert_again(
    session: &Session,
    idempotency: &Idempotency,
) -> Result<Seen, SqlFault> {
    session.repeatable().batch_execute("BEGIN").await?;
    let inserted = insert(session, idempotency).work.await;
    session.repeatable().batch_execute("ROLLBACK").await?;
    match inserted {
        Ok(_) => Ok(Seen::Nothing),
        Err(fault) if fault.sqlstate == sqlstate::UNIQUE_VIOLATION => {
            look_up(session, idempotency).await
        }
        Err(fault) => Err(fault),
    }
}
