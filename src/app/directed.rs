//! What goes from the primary to the shadow, by whichever side is the primary now.
//!
//! Each part is there for both directions, and the control row chooses at each use. What is
//! under way when the primary changes ends by itself: a reconcile finds its shadow fenced.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::control::Control;
use crate::domain::call::WriteAnswer;
use crate::domain::fault::SqlFault;
use crate::domain::key::{OutboxMark, RowsOfTable};
use crate::domain::page::{Page, PageRequest};
use crate::domain::side::{Side, Sides};
use crate::domain::status::{OutboxEntry, OutboxStatus, VerifyStatus};
use crate::domain::table::{TableName, TableRef};
use crate::ports::admin::{OutboxAdmin, ProofStatus};
use crate::ports::reconcile::{BatchDone, OutboxSize, OutboxWork, Upkeep};
use crate::ports::{
    AnswerStream, ControlView, Database, Description, PendingKeys, ReadRequest, SessionSetting,
    WriteRequest,
};

/// One of two, by the control row: that of the primary, or of the shadow.
pub(super) struct Directed<T: ?Sized> {
    control: Control,
    sides: Sides<Arc<T>>,
    of_shadow: bool,
}

// === impl Directed ===

impl<T: ?Sized> Directed<T> {
    /// The primary's.
    pub(super) fn primary(control: &Control, sides: Sides<Arc<T>>) -> Self {
        Self { control: control.clone(), sides, of_shadow: false }
    }

    /// The shadow's.
    pub(super) fn shadow(control: &Control, sides: Sides<Arc<T>>) -> Self {
        Self { of_shadow: true, ..Self::primary(control, sides) }
    }

    pub(super) fn now(&self) -> Arc<T> {
        let primary = self.control.current().phase.primary();
        Arc::clone(self.sides.of(if self.of_shadow { primary.other() } else { primary }))
    }
}

/// Works only in the phases that have a shadow: in the others the outbox keeps what it has.
impl OutboxWork for Directed<dyn OutboxWork> {
    fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>> {
        async move {
            if !self.control.current().phase.captures() {
                return Ok(BatchDone::default());
            }
            self.now().work().await
        }
        .boxed()
    }
}

impl ProofStatus for Directed<dyn ProofStatus> {
    fn status(&self) -> BoxFuture<'_, Result<VerifyStatus, SqlFault>> {
        async move { self.now().status().await }.boxed()
    }
}

impl OutboxAdmin for Directed<dyn OutboxAdmin> {
    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, SqlFault>> {
        async move { self.now().status().await }.boxed()
    }

    fn list(
        &self,
        page: PageRequest,
        failed_only: bool,
    ) -> BoxFuture<'_, Result<Page<OutboxEntry>, SqlFault>> {
        async move { self.now().list(page, failed_only).await }.boxed()
    }

    fn retry(&self, table: Option<TableName>) -> BoxFuture<'_, Result<u64, SqlFault>> {
        async move { self.now().retry(table).await }.boxed()
    }
}

impl Upkeep for Directed<dyn Upkeep> {
    fn truncate_ring(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
        // What the other side's ring has is forgotten, and grows old as well.
        async move {
            let other = self.sides.of(self.control.current().phase.primary().other());
            let there = other.truncate_ring().await.unwrap_or_default();
            Ok(there + self.now().truncate_ring().await?)
        }
        .boxed()
    }

    fn expire_idempotency(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
        async move { self.now().expire_idempotency().await }.boxed()
    }

    fn check_size(&self) -> BoxFuture<'_, Result<OutboxSize, SqlFault>> {
        async move { self.now().check_size().await }.boxed()
    }
}

impl PendingKeys for Directed<dyn PendingKeys> {
    fn mark(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>> {
        async move { self.now().mark().await }.boxed()
    }

    fn pending<'a>(
        &'a self,
        tables: &'a [TableRef],
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        async move { self.now().pending(tables, before).await }.boxed()
    }

    fn pending_rows<'a>(
        &'a self,
        rows: &'a RowsOfTable,
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<Option<bool>, SqlFault>> {
        async move { self.now().pending_rows(rows, before).await }.boxed()
    }

    fn quiet<'a>(
        &'a self,
        tables: &'a [TableRef],
        since: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        async move { self.now().quiet(tables, since).await }.boxed()
    }
}

impl Database for Directed<dyn Database> {
    fn side(&self) -> Side {
        self.now().side()
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        async move { self.now().read(request).await }.boxed()
    }

    fn read_under(
        &self,
        request: ReadRequest,
        settings: Vec<SessionSetting>,
    ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        async move { self.now().read_under(request, settings).await }.boxed()
    }

    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>> {
        async move { self.now().write(request).await }.boxed()
    }

    fn describe<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Description, SqlFault>> {
        async move { self.now().describe(sql).await }.boxed()
    }
}

impl<T: ?Sized> std::fmt::Debug for Directed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directed").field("of_shadow", &self.of_shadow).finish_non_exhaustive()
    }
}
