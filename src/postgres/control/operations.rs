//! `segue.operation` and `segue.operation_event`: what operators started, and what happened.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::domain::fault::SqlFault;
use crate::domain::fleet::MemberId;
use crate::domain::operation::{
    Cancellation, Document, FoundOperation, OperationId, StoredEvent, StoredOperation,
};
use crate::domain::page::{Cursor, Page, PageRequest};
use crate::domain::side::{Side, Sides};
use crate::domain::step::Asked;
use crate::ports::operations::OperationStore;
use crate::postgres::control::cursor;
use crate::postgres::pool::Pool;
use crate::postgres::session::asked::Row;

const CREATE: &str = "
INSERT INTO segue.operation (operation_id, is_running, member_id, last_event, document, created_at)
VALUES ($1::text::uuid, $2, $3::text::uuid, $4, $5, $6) ON CONFLICT (operation_id) DO NOTHING";

/// The columns of a request to cancel belong to who makes it.
const SAVE: &str = "
INSERT INTO segue.operation AS o (operation_id, is_running, member_id, last_event, document, created_at)
VALUES ($1::text::uuid, $2, $3::text::uuid, $4, $5, $6)
ON CONFLICT (operation_id) DO UPDATE SET is_running = excluded.is_running,
    last_event = excluded.last_event, document = excluded.document
RETURNING o.cancelled_at, o.cancel_actor, o.cancel_reason";

const ADD_EVENT: &str = "
INSERT INTO segue.operation_event (operation_id, number, document)
VALUES ($1::text::uuid, $2, $3) ON CONFLICT (operation_id, number) DO NOTHING";

/// A flip, and the end of a rehearsal, have the operation's id in the history.
const COLUMNS: &str = "
o.operation_id::text, o.is_running, o.member_id::text, o.last_event, o.document,
EXISTS (SELECT 1 FROM segue.member AS m WHERE m.member_id = o.member_id
    AND m.lease_until > pg_catalog.clock_timestamp()),
EXISTS (SELECT 1 FROM segue.history AS h WHERE h.event_id = o.operation_id),
o.cancelled_at, o.cancel_actor, o.cancel_reason, o.created_at
FROM segue.operation AS o";

const ONE: &str = "WHERE o.operation_id = $1::text::uuid";

const PAGE: &str = "
WHERE $2::timestamptz IS NULL OR o.created_at < $2::timestamptz
    OR o.created_at = $2::timestamptz AND o.operation_id > $3::text::uuid
ORDER BY o.created_at DESC, o.operation_id LIMIT $1";

const EVENTS: &str = "
SELECT number, document FROM segue.operation_event
WHERE operation_id = $1::text::uuid AND number > $2 ORDER BY number LIMIT $3";

const CANCEL: &str = "
UPDATE segue.operation SET cancelled_at = coalesce(cancelled_at, pg_catalog.clock_timestamp()),
    cancel_actor = CASE WHEN cancelled_at IS NULL THEN $2::text ELSE cancel_actor END,
    cancel_reason = CASE WHEN cancelled_at IS NULL THEN $3::text ELSE cancel_reason END
WHERE operation_id = $1::text::uuid AND is_running";

const REMOVE: &str = "
DELETE FROM segue.operation WHERE operation_id IN (
    SELECT o.operation_id FROM segue.operation AS o
    WHERE NOT o.is_running OR NOT EXISTS (SELECT 1 FROM segue.member AS m
        WHERE m.member_id = o.member_id AND m.lease_until > pg_catalog.clock_timestamp())
    ORDER BY o.created_at DESC OFFSET $1)";

const REMOVE_EVENTS: &str = "
DELETE FROM segue.operation_event WHERE operation_id NOT IN (
    SELECT operation_id FROM segue.operation)";

/// The operations of both databases.
#[derive(Debug, Clone)]
pub struct OperationTable {
    pools: Sides<Pool>,
}

// === impl OperationTable ===

impl OperationTable {
    /// Behind pools that nothing under the fence of a cutover waits for.
    pub fn new(pools: Sides<Pool>) -> Self {
        Self { pools }
    }

    async fn run(
        &self,
        side: Side,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let prepared = session.prepared(sql).await?;
        session.execute(&prepared.statement, params).await
    }

    async fn rows(
        &self,
        side: Side,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<FoundOperation>, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let prepared = session.prepared(&format!("SELECT {COLUMNS} {sql}")).await?;
        let rows = session.query(&prepared.statement, params).await;
        let read = |rows: Vec<Row>| rows.iter().map(found).collect::<Result<Vec<_>, SqlFault>>();
        rows.and_then(read)
    }

    async fn save_all(
        &self,
        side: Side,
        operation: &StoredOperation,
        events: &[StoredEvent],
    ) -> Result<Option<Cancellation>, SqlFault> {
        let id = operation.id.to_string();
        // First, so that `last_event` never names one that is not there.
        for event in events {
            let number = number(event.number);
            self.run(side, ADD_EVENT, &[&id, &number, &event.document.0]).await?;
        }
        let session = self.pools.of(side).get().await?;
        let prepared = session.prepared(SAVE).await?;
        let (member, last) = (operation.member.to_string(), number(operation.last_event));
        let (document, at) = (&operation.document.0, &operation.created_at);
        let params: [&(dyn ToSql + Sync); 6] =
            [&id, &operation.is_running, &member, &last, document, at];
        let saved = session.query_one(&prepared.statement, &params).await;
        saved.and_then(|row| cancellation(&row, 0))
    }

    async fn page(&self, side: Side, page: &PageRequest) -> Result<Page<FoundOperation>, SqlFault> {
        let (at, id) = match page.after.as_ref().map(|it| it.0.as_slice()) {
            None => (None, None),
            Some([at, id]) => {
                let id: Uuid = id.parse().map_err(|_| cursor::unknown())?;
                (Some(cursor::time(at)?), Some(id.to_string()))
            }
            Some(_) => return Err(cursor::unknown()),
        };
        let limit = i64::from(page.size) + 1;
        let found = self.rows(side, PAGE, &[&limit, &at, &id]).await?;
        Ok(Page::cut(found, page.size, cursor_of))
    }

    async fn events_after(
        &self,
        side: Side,
        id: OperationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, SqlFault> {
        let session = self.pools.of(side).get().await?;
        let prepared = session.prepared(EVENTS).await?;
        let (id, after, limit) = (id.to_string(), number(after), i64::from(limit));
        let rows = session.query(&prepared.statement, &[&id, &after, &limit]).await;
        let read = |row: &Row| {
            let number = row.try_get::<_, i64>(0)?.unsigned_abs();
            Ok(StoredEvent { number, document: Document(row.try_get(1)?) })
        };
        let read = |rows: Vec<Row>| rows.iter().map(read).collect::<Result<Vec<_>, SqlFault>>();
        rows.and_then(read)
    }
}

impl OperationStore for OperationTable {
    fn create<'a>(
        &'a self,
        side: Side,
        operation: &'a StoredOperation,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        async move {
            let StoredOperation { id, is_running, created_at, member, last_event, document } =
                operation;
            let (id, member, last) = (id.to_string(), member.to_string(), number(*last_event));
            let params: [&(dyn ToSql + Sync); 6] =
                [&id, is_running, &member, &last, &document.0, created_at];
            Ok(self.run(side, CREATE, &params).await? == 1)
        }
        .boxed()
    }

    fn save<'a>(
        &'a self,
        side: Side,
        operation: &'a StoredOperation,
        events: &'a [StoredEvent],
    ) -> BoxFuture<'a, Result<Option<Cancellation>, SqlFault>> {
        self.save_all(side, operation, events).boxed()
    }

    fn read(
        &self,
        side: Side,
        id: OperationId,
    ) -> BoxFuture<'_, Result<Option<FoundOperation>, SqlFault>> {
        async move { Ok(self.rows(side, ONE, &[&id.to_string()]).await?.pop()) }.boxed()
    }

    fn events(
        &self,
        side: Side,
        id: OperationId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, SqlFault>> {
        self.events_after(side, id, after, limit).boxed()
    }

    fn list(
        &self,
        side: Side,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<Page<FoundOperation>, SqlFault>> {
        async move { self.page(side, &page).await }.boxed()
    }

    fn cursor(&self, operation: &FoundOperation) -> Cursor {
        cursor_of(operation)
    }

    fn ask_to_cancel(
        &self,
        side: Side,
        id: OperationId,
        asked: Asked,
    ) -> BoxFuture<'_, Result<bool, SqlFault>> {
        async move {
            let Asked { by, reason } = asked;
            Ok(self.run(side, CANCEL, &[&id.to_string(), &by, &reason]).await? == 1)
        }
        .boxed()
    }

    fn remove_old(&self, side: Side, kept: u32) -> BoxFuture<'_, Result<u64, SqlFault>> {
        async move {
            let removed = self.run(side, REMOVE, &[&i64::from(kept)]).await?;
            if removed > 0 {
                self.run(side, REMOVE_EVENTS, &[]).await?;
            }
            Ok(removed)
        }
        .boxed()
    }
}

/// The order of the list: the latest first.
fn cursor_of(found: &FoundOperation) -> Cursor {
    let FoundOperation { stored, .. } = found;
    Cursor(vec![cursor::of_time(stored.created_at), stored.id.to_string()])
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn found(row: &Row) -> Result<FoundOperation, SqlFault> {
    let uuid = |index| {
        let text: String = row.try_get(index)?;
        // What the database gives as a uuid is one.
        Ok::<_, SqlFault>(text.parse::<Uuid>().unwrap_or_default().as_u128())
    };
    let stored = StoredOperation {
        id: OperationId(uuid(0)?),
        is_running: row.try_get(1)?,
        created_at: row.try_get(10)?,
        member: MemberId(uuid(2)?),
        last_event: row.try_get::<_, i64>(3)?.unsigned_abs(),
        document: Document(row.try_get(4)?),
    };
    let (is_alive, is_recorded) = (row.try_get(5)?, row.try_get(6)?);
    let cancellation = cancellation(row, 7)?;
    Ok(FoundOperation { stored, is_alive, is_recorded, cancellation })
}

fn cancellation(row: &Row, first: usize) -> Result<Option<Cancellation>, SqlFault> {
    let Some(at) = row.try_get(first)? else { return Ok(None) };
    let (actor, reason) = (row.try_get(first + 1)?, row.try_get(first + 2)?);
    Ok(Some(Cancellation { at, actor, reason }))
}
