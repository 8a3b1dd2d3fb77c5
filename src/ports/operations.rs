//! Operations that operators start and follow, and where they are kept.

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::domain::fault::SqlFault;
use crate::domain::operation::{
    Cancellation, Document, Followed, FoundOperation, OperationId, OperationRequest, StoredEvent,
    StoredOperation,
};
use crate::domain::page::{Cursor, Page, PageRequest};
use crate::domain::side::Side;
use crate::domain::step::Asked;

/// What operators do with operations.
pub trait OperationAdmin: Send + Sync + 'static {
    /// Starts one in this sidecar, which goes on to its end whether anyone follows it or not. One
    /// that has the id already is answered, and nothing is started.
    fn start(
        &self,
        id: OperationId,
        request: OperationRequest,
        asked: Asked,
    ) -> BoxFuture<'_, Result<Document, SqlFault>>;
    /// How one stands, whichever sidecar runs or ran it.
    fn get(&self, id: OperationId) -> BoxFuture<'_, Result<Document, SqlFault>>;
    /// All that are kept, latest first.
    fn list(&self, page: PageRequest) -> BoxFuture<'_, Result<Page<Document>, SqlFault>>;
    /// The events after one, and how it stands, until it has ended.
    fn watch(&self, id: OperationId, after: u64) -> BoxStream<'static, Result<Followed, SqlFault>>;
    /// Cancels one, whichever sidecar runs it.
    fn cancel(&self, id: OperationId, asked: Asked) -> BoxFuture<'_, Result<Document, SqlFault>>;
}

/// Keeps operations in the databases.
pub trait OperationStore: Send + Sync + 'static {
    /// Keeps a new one. Answers false where there is one with its id.
    fn create<'a>(
        &'a self,
        side: Side,
        operation: &'a StoredOperation,
    ) -> BoxFuture<'a, Result<bool, SqlFault>>;
    /// Keeps how it stands, with events that were not kept before. Events that are kept already stay
    /// as they are. Answers whether it is to be cancelled.
    fn save<'a>(
        &'a self,
        side: Side,
        operation: &'a StoredOperation,
        events: &'a [StoredEvent],
    ) -> BoxFuture<'a, Result<Option<Cancellation>, SqlFault>>;
    /// One of them.
    fn read(
        &self,
        side: Side,
        id: OperationId,
    ) -> BoxFuture<'_, Result<Option<FoundOperation>, SqlFault>>;
    /// Its events after one, in their order, at most `limit`.
    fn events(
        &self,
        side: Side,
        id: OperationId,
        after: u64,
        limit: u32,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, SqlFault>>;
    /// All of them, latest first.
    fn list(
        &self,
        side: Side,
        page: PageRequest,
    ) -> BoxFuture<'_, Result<Page<FoundOperation>, SqlFault>>;
    /// Where one stands in that list, which is in the same order on both sides.
    fn cursor(&self, operation: &FoundOperation) -> Cursor;
    /// Asks the sidecar that runs it to cancel it, once. Answers false where it has ended.
    fn ask_to_cancel(
        &self,
        side: Side,
        id: OperationId,
        asked: Asked,
    ) -> BoxFuture<'_, Result<bool, SqlFault>>;
    /// Removes all but the latest `kept`, of those that have ended or whose sidecar is gone, with
    /// their events. Answers how many.
    fn remove_old(&self, side: Side, kept: u32) -> BoxFuture<'_, Result<u64, SqlFault>>;
}
