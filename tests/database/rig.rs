//! What the tests of this folder share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use segue::domain::call::{BoundStatement, CallContext, Idempotency, ResultLimits};
use segue::domain::fault::SqlFault;
use segue::domain::key::WriteId;
use segue::domain::side::Side;
use segue::domain::value::Value;
use segue::dsn::Dsn;
use segue::ports::{AnswerStream, ReadRequest, WriteRequest};
use segue::postgres::pool::{self, Pool};
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;
use segue::postgres::statements::database::{Params, PostgresDatabase};
use segue::postgres::statements::read::ReadConnections;
use segue::postgres::statements::transactions::{self, PostgresTransactions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{Database, Major, eventually, shared};

pub(crate) const WAIT: Duration = Duration::from_secs(5);
pub(crate) const LIMITS: ResultLimits = ResultLimits { rows_max: 10_000_000, bytes_max: 1 << 32 };

/// A database of its own and segue's way to it.
pub(crate) struct Rig {
    pub(crate) segue: PostgresDatabase,
    pub(crate) transactions: PostgresTransactions,
    pub(crate) reads: Pool,
    pub(crate) writes: Pool,
    pub(crate) stop: CancellationToken,
    pub(crate) database: Database,
}

/// Of segue's schema what a write with a key needs.
pub(crate) const SCHEMA: &str = concat!(
    "CREATE TABLE item (id int PRIMARY KEY, name text, price numeric);
    CREATE SCHEMA segue;
    CREATE TABLE segue.idempotency (key text PRIMARY KEY, content bytea NOT NULL,
        response bytea, created_at timestamptz NOT NULL DEFAULT clock_timestamp());",
    include_str!("../../src/dialect/postgresql/callers.sql")
);

impl Rig {
    pub(crate) async fn new() -> Self {
        let database = Database::create(shared(Major::V15), SCHEMA).await;
        let dsn = database.dsn().to_owned();
        Self::over(database, &dsn, 8).await
    }

    /// By a way of its own, such as a proxy.
    pub(crate) async fn over(database: Database, dsn: &str, size: usize) -> Self {
        let connector = connector(dsn);
        let pool =
            |purpose| Pool::new(connector.clone(), pool::Params::new(purpose, size, WAIT)).unwrap();
        let (reads, writes) = (pool(Purpose::Read), pool(Purpose::Write));
        let tasks = TaskTracker::new();
        let transactions = PostgresTransactions::new(transactions::Params {
            writes: writes.clone(),
            open_max: 4,
            tasks: tasks.clone(),
        });
        let stop = CancellationToken::new();
        let (reaped, stopped) = (transactions.clone(), stop.clone());
        tokio::spawn(async move { reaped.run(stopped).await });
        let segue = PostgresDatabase::new(Params {
            reads: ReadConnections::new(reads.clone()),
            writes: writes.clone(),
            tasks,
        });
        Self { segue, transactions, reads, writes, stop, database }
    }

    /// The sessions for writes are back in their pool, each brought to its first state.
    pub(crate) async fn writes_at_rest(&self) {
        eventually("sessions for writes at rest", WAIT, async || {
            let status = self.writes.status();
            (status.idle == status.open).then_some(())
        })
        .await;
    }
}

pub(crate) fn connector(dsn: &str) -> Connector {
    Connector::new(Side::Source, Dsn::parse(dsn, &|_: &str| None).unwrap()).unwrap()
}

pub(crate) fn context() -> CallContext {
    CallContext {
        deadline: None,
        routing_key: None,
        cancelled: CancellationToken::new(),
        limits: LIMITS,
        admitted: None,
    }
}

pub(crate) fn within(limit: Duration) -> CallContext {
    CallContext { deadline: Some(Instant::now() + limit), ..context() }
}

pub(crate) fn statement(sql: &str, params: &[Value]) -> BoundStatement {
    BoundStatement { sql: sql.into(), name: None, params: params.into() }
}

pub(crate) fn query(sql: &str, params: &[Value]) -> ReadRequest {
    ReadRequest { statement: statement(sql, params), context: context() }
}

pub(crate) fn write(sql: &[&str]) -> WriteRequest {
    WriteRequest {
        statements: sql.iter().map(|sql| statement(sql, &[])).collect(),
        writes: true,
        write_id: WriteId(rand::random()),
        idempotency: None,
        context: context(),
    }
}

pub(crate) fn keyed(sql: &[&str], key: &str, content: u8) -> WriteRequest {
    let idempotency = Some(Idempotency { key: Arc::from(key), content: [content; 32] });
    WriteRequest { idempotency, ..write(sql) }
}

/// All rows, each cell as PostgreSQL's text.
pub(crate) async fn rows(mut answer: AnswerStream) -> Result<Vec<Vec<Option<String>>>, SqlFault> {
    let mut rows = Vec::new();
    let width = answer.columns.len();
    while let Some(batch) = answer.batches.next().await {
        let batch = batch?;
        let cells: Vec<_> = batch
            .iter()
            .enumerate()
            .map(|(at, cell)| {
                let ty = &answer.columns[at % width].ty;
                cell.map(|cell| segue::value::to_text(ty, cell).unwrap())
            })
            .collect();
        rows.extend(cells.chunks(width).map(<[_]>::to_vec));
    }
    Ok(rows)
}

pub(crate) fn row(cells: &[&str]) -> Vec<Option<String>> {
    cells.iter().map(|cell| Some((*cell).to_owned())).collect()
}
