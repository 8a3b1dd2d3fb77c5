//! One database as the stack sees it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::task::TaskTracker;

use super::read::{ReadConnections, read, read_shared, read_under};
use super::{describe, write};
use crate::domain::call::WriteAnswer;
use crate::domain::fault::SqlFault;
use crate::domain::side::Side;
use crate::ports::{
    AnswerStream, Database, Description, ReadRequest, SessionSetting, WriteRequest,
};
use crate::postgres::pool::Pool;

/// What executing on a database needs.
#[derive(Debug, Clone)]
pub struct Params {
    /// Sessions for reads.
    pub reads: ReadConnections,
    /// Sessions for writes and transactions.
    pub writes: Pool,
    /// Writes and long answers run here, so that a shutdown can wait for them.
    pub tasks: TaskTracker,
}

/// Executes statements outside transactions on one side. Clones share its pools.
#[derive(Debug, Clone)]
pub struct PostgresDatabase {
    params: Params,
}

// === impl PostgresDatabase ===

impl PostgresDatabase {
    /// Executes over these pools.
    pub fn new(params: Params) -> Self {
        Self { params }
    }
}

impl Database for PostgresDatabase {
    fn side(&self) -> Side {
        self.params.writes.side()
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        read(&self.params.reads, &self.params.tasks, request).boxed()
    }

    fn read_shared(&self, request: ReadRequest) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        read_shared(&self.params.reads, &self.params.tasks, request).boxed()
    }

    fn read_under(
        &self,
        request: ReadRequest,
        settings: Vec<SessionSetting>,
    ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        read_under(&self.params.reads, &self.params.tasks, request, settings).boxed()
    }

    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>> {
        write::write(&self.params.writes, &self.params.tasks, request).boxed()
    }

    fn describe<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Description, SqlFault>> {
        describe::describe(&self.params.reads, sql).boxed()
    }
}
