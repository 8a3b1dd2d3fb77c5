//! Pending keys, those of others' writes on the side that follows included.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::ForeignNotes;
use crate::domain::fault::SqlFault;
use crate::domain::key::{OutboxMark, RowsOfTable};
use crate::domain::table::TableRef;
use crate::ports::PendingKeys;

/// Hands notes over before it is asked what waits: what somebody else wrote there explains a
/// difference as any pending key does.
pub struct NotedKeys {
    outbox: Arc<dyn PendingKeys>,
    notes: ForeignNotes,
}

// === impl NotedKeys ===

impl NotedKeys {
    /// What the outbox has, and the notes.
    pub fn new(outbox: Arc<dyn PendingKeys>, notes: ForeignNotes) -> Self {
        Self { outbox, notes }
    }
}

impl std::fmt::Debug for NotedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotedKeys").field("notes", &self.notes).finish_non_exhaustive()
    }
}

impl PendingKeys for NotedKeys {
    /// Whatever was noted by then is in the outbox before the mark.
    fn mark(&self) -> BoxFuture<'_, Result<OutboxMark, SqlFault>> {
        async move {
            self.notes.fold().await?;
            self.outbox.mark().await
        }
        .boxed()
    }

    fn pending<'a>(
        &'a self,
        tables: &'a [TableRef],
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        self.outbox.pending(tables, before)
    }

    fn pending_rows<'a>(
        &'a self,
        rows: &'a RowsOfTable,
        before: OutboxMark,
    ) -> BoxFuture<'a, Result<Option<bool>, SqlFault>> {
        self.outbox.pending_rows(rows, before)
    }

    /// Whatever was noted since the mark is in the outbox after it.
    fn quiet<'a>(
        &'a self,
        tables: &'a [TableRef],
        since: OutboxMark,
    ) -> BoxFuture<'a, Result<bool, SqlFault>> {
        async move {
            self.notes.fold().await?;
            self.outbox.quiet(tables, since).await
        }
        .boxed()
    }
}
