//! Databases that answer what a test tells them to, and a server over them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use segue::domain::answer::{RowBatch, RowBatchBuilder};
use segue::domain::call::{
    BoundStatement, CallContext, Committed, ResultLimits, TransactionId, TransactionOptions,
    WriteAnswer, WriteItem,
};
use segue::domain::control::{ControlState, Phase};
use segue::domain::fault::{FaultKind, SqlFault};
use segue::domain::key::WriteId;
use segue::domain::pg_type::{Column, PgType, TypeKind};
use segue::domain::reason::Reason;
use segue::domain::side::{Side, Sides};
use segue::grpc::health::Health;
use segue::grpc::proto::sql_client::SqlClient;
use segue::grpc::serve::{self, Protocol};
use segue::grpc::{routes, sql};
use segue::ports::settled::{SettledWrites, Standing};
use segue::ports::{
    AnswerStream, ControlView, Database, Description, ReadRequest, ReconcileWaker, Sample,
    SessionSetting, ShadowReads, Transactions, WriteRequest,
};
use segue::stack::queries::NamedStatements;
use segue::stack::watch::Watch;
use segue::stack::{self, Stack, admission, awaiting, breaker, shift};
use segue::telemetry::metrics::Metrics;
use segue::telemetry::spans::{Peer, Writers};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A column of a base type.
pub fn column(name: &str, type_name: &str, oid: u32) -> Column {
    let ty = Arc::new(PgType {
        oid,
        name: type_name.to_owned(),
        schema: "pg_catalog".to_owned(),
        kind: TypeKind::Simple,
    });
    Column { name: name.to_owned(), ty, type_modifier: -1, table_oid: None, column_id: None }
}

/// `id int4`, `name text`, so many rows; every third name is NULL.
pub fn rows(from: i32, count: i32) -> RowBatch {
    let mut builder = RowBatchBuilder::default();
    for id in from..from + count {
        builder.push_cell(Some(&id.to_be_bytes()));
        let name = format!("name {id}");
        builder.push_cell((id % 3 != 0).then_some(name.as_bytes()));
        builder.end_row();
    }
    builder.take()
}

pub fn columns() -> Arc<[Column]> {
    [column("id", "int4", 23), column("name", "text", 25)].into()
}

/// What a fake answers to a read.
pub type Reads = Arc<dyn Fn(&ReadRequest) -> Result<AnswerStream, SqlFault> + Send + Sync>;

pub fn answers(batches: Vec<Result<RowBatch, SqlFault>>) -> Reads {
    Arc::new(move |_| {
        let batches = stream::iter(batches.clone()).boxed();
        Ok(AnswerStream { columns: columns(), batches })
    })
}

pub struct FakeDatabase {
    pub side: Side,
    pub reads: Mutex<Reads>,
    pub writes: Mutex<Vec<WriteRequest>>,
    pub write_fault: Mutex<Option<SqlFault>>,
    /// A write waits for this before it answers.
    pub hold_writes: Mutex<Option<CancellationToken>>,
    pub cancelled: CancellationToken,
    pub read_count: AtomicUsize,
    pub last_read: Mutex<Option<ReadRequest>>,
}

impl FakeDatabase {
    pub fn new(side: Side) -> Arc<Self> {
        Arc::new(Self {
            side,
            reads: Mutex::new(answers(vec![Ok(rows(1, 2))])),
            writes: Mutex::default(),
            write_fault: Mutex::default(),
            hold_writes: Mutex::default(),
            cancelled: CancellationToken::new(),
            read_count: AtomicUsize::new(0),
            last_read: Mutex::default(),
        })
    }
}

impl Database for FakeDatabase {
    fn side(&self) -> Side {
        self.side
    }

    fn read(&self, request: ReadRequest) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        self.read_count.fetch_add(1, Ordering::Relaxed);
        let reads = Arc::clone(&self.reads.lock().unwrap());
        let answer = reads(&request);
        *self.last_read.lock().unwrap() = Some(request);
        async move { answer }.boxed()
    }

    fn read_under(
        &self,
        request: ReadRequest,
        _: Vec<SessionSetting>,
    ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        self.read(request)
    }

    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>> {
        let cancelled = request.context.cancelled.clone();
        let seen = self.cancelled.clone();
        let hold = self.hold_writes.lock().unwrap().clone();
        if hold.is_some() {
            tokio::spawn(async move {
                cancelled.cancelled().await;
                seen.cancel();
            });
        }
        let items = request.statements.iter().map(|_| WriteItem {
            affected_rows: 1,
            columns: columns(),
            rows: rows(1, 1),
        });
        let answer = WriteAnswer {
            items: items.collect(),
            write_id: request.write_id,
            already_applied: false,
            // No function writes here.
            wrote: request.writes,
        };
        self.writes.lock().unwrap().push(request);
        let fault = self.write_fault.lock().unwrap().clone();
        async move {
            if let Some(hold) = hold {
                hold.cancelled().await;
            }
            fault.map_or(Ok(answer), Err)
        }
        .boxed()
    }

    fn describe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Description, SqlFault>> {
        let side = self.side;
        async move {
            match side {
                Side::Source => Ok(Description { parameters: Vec::new(), columns: columns() }),
                Side::Target => {
                    Err(SqlFault::new(FaultKind::Database, Reason::Database, "no such function")
                        .on(side))
                }
            }
        }
        .boxed()
    }
}

/// One transaction is open: number 7.
#[derive(Default)]
pub struct FakeTransactions {
    pub calls: Mutex<Vec<&'static str>>,
}

pub const OPEN: TransactionId = TransactionId(7);

impl FakeTransactions {
    fn note(&self, call: &'static str, id: TransactionId) -> Result<(), SqlFault> {
        self.calls.lock().unwrap().push(call);
        let absent = || SqlFault::new(FaultKind::NotFound, Reason::TransactionNotFound, "not open");
        (id == OPEN).then_some(()).ok_or_else(absent)
    }
}

impl Transactions for FakeTransactions {
    fn begin(
        &self,
        _: TransactionOptions,
        _: WriteId,
        _: CallContext,
    ) -> BoxFuture<'_, Result<TransactionId, SqlFault>> {
        let begun = self.note("begin", OPEN).map(|()| OPEN);
        async move { begun }.boxed()
    }

    fn read(
        &self,
        id: TransactionId,
        _: ReadRequest,
    ) -> BoxFuture<'_, Result<AnswerStream, SqlFault>> {
        let answer = self.note("read", id).map(|()| AnswerStream {
            columns: columns(),
            batches: stream::iter([Ok(rows(1, 1))]).boxed(),
        });
        async move { answer }.boxed()
    }

    fn write(
        &self,
        id: TransactionId,
        statements: Vec<BoundStatement>,
        _: CallContext,
    ) -> BoxFuture<'_, Result<WriteAnswer, SqlFault>> {
        let item = WriteItem { affected_rows: 3, columns: [].into(), rows: RowBatch::default() };
        let items = vec![item; statements.len()];
        let answer =
            WriteAnswer { items, write_id: WriteId(1), already_applied: false, wrote: true };
        let answer = self.note("write", id).map(|()| answer);
        async move { answer }.boxed()
    }

    fn commit(
        &self,
        id: TransactionId,
        _: CallContext,
    ) -> BoxFuture<'_, Result<Committed, SqlFault>> {
        let committed = Committed { write_id: WriteId(1), wrote: true };
        let answer = self.note("commit", id).map(|()| committed);
        async move { answer }.boxed()
    }

    fn rollback(&self, id: TransactionId) -> BoxFuture<'_, Result<(), SqlFault>> {
        let answer = self.note("rollback", id);
        async move { answer }.boxed()
    }
}

pub struct FakeControl(pub Mutex<ControlState>);

impl ControlView for FakeControl {
    fn current(&self) -> ControlState {
        *self.0.lock().unwrap()
    }
}

#[derive(Default)]
pub struct FakeReconciler(pub AtomicU64);

/// Reads are not shifted here.
fn stack_params(calls_max: usize, admission: admission::Params) -> stack::Params {
    let breaker = breaker::Params { failures_max: 5, pause: Duration::from_secs(1) };
    stack::Params {
        calls_max,
        admission,
        awaiting: awaiting::Params { wait: Duration::from_millis(250), breaker },
        shift: shift::Params { target_timeout: Duration::from_secs(1), breaker },
    }
}

struct NeverSettled;

impl SettledWrites for NeverSettled {
    fn standing(&self, _: WriteId, _: u64) -> BoxFuture<'_, Standing> {
        async { Standing::Waiting }.boxed()
    }

    fn until_settled(&self, _: WriteId, _: u64) -> BoxFuture<'_, bool> {
        async { false }.boxed()
    }
}

impl ReconcileWaker for FakeReconciler {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub struct FakeSamples {
    pub offered: Mutex<Vec<Sample>>,
    pub skipped: Mutex<Vec<&'static str>>,
}

pub const ANSWER_BYTES_MAX: u64 = 10_000;

impl ShadowReads for FakeSamples {
    fn selects(&self, statement: &BoundStatement, _: Option<u128>) -> bool {
        !statement.sql.contains("unsampled")
    }

    fn answer_bytes_max(&self) -> u64 {
        ANSWER_BYTES_MAX
    }

    fn offer(&self, sample: Sample) {
        self.offered.lock().unwrap().push(sample);
    }

    fn skipped(&self, _: &BoundStatement, reason: &'static str) {
        self.skipped.lock().unwrap().push(reason);
    }
}

/// A running server, and the fakes behind it.
pub struct Server {
    pub address: SocketAddr,
    pub source: Arc<FakeDatabase>,
    pub target: Arc<FakeDatabase>,
    pub transactions: Arc<FakeTransactions>,
    pub control: Arc<FakeControl>,
    pub reconciler: Arc<FakeReconciler>,
    pub samples: Arc<FakeSamples>,
    pub metrics: Metrics,
    pub stop: CancellationToken,
    pub served: tokio::task::JoinHandle<()>,
}

pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

pub struct Options {
    pub phase: Phase,
    pub named_only: bool,
    pub calls_max: usize,
    pub drain_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            phase: Phase::ShadowRead,
            named_only: false,
            calls_max: 64,
            drain_max: Duration::from_secs(10),
        }
    }
}

impl Server {
    pub async fn start(options: Options) -> Self {
        let source = FakeDatabase::new(Side::Source);
        let target = FakeDatabase::new(Side::Target);
        let transactions = Arc::new(FakeTransactions::default());
        let state = ControlState { epoch: 3, phase: options.phase };
        let control = Arc::new(FakeControl(Mutex::new(state)));
        let reconciler = Arc::new(FakeReconciler::default());
        let samples = Arc::new(FakeSamples::default());
        let metrics = Metrics::new();
        let file = "-- name: get_order :one\nSELECT id, name FROM orders WHERE id = $1;\n";
        let ids = AtomicU64::new(1);
        let parts = stack::Parts {
            databases: Sides { source: source.clone() as _, target: target.clone() as _ },
            transactions: Sides {
                source: transactions.clone() as _,
                target: transactions.clone() as _,
            },
            control: control.clone(),
            reconciler: reconciler.clone(),
            settled: Arc::new(NeverSettled),
            dice: Arc::new(|| 0),
            samples: samples.clone(),
            write_ids: Arc::new(move || WriteId(u128::from(ids.fetch_add(1, Ordering::Relaxed)))),
            named: NamedStatements::parse([("orders.sql", file)]).unwrap(),
            metrics: metrics.clone(),
            watch: Watch::new(
                Sides { source: peer(Side::Source), target: peer(Side::Target) },
                Arc::new(Writers::new(100)),
                metrics.clone(),
            ),
        };
        let admission = admission::Params {
            named_only: options.named_only,
            statement_bytes_max: 10_000,
            parameters_max: 10,
            batch_statements_max: 3,
            cache_capacity: 100,
        };
        let stack = Stack::new(&stack_params(options.calls_max, admission), parts);
        let params = sql::Params {
            result: ResultLimits { rows_max: 1000, bytes_max: 1 << 20 },
            message_bytes_max: MESSAGE_BYTES_MAX,
            deadline_default: Duration::from_secs(20),
            deadline_max: Duration::from_secs(60),
            transaction_idle_max: Duration::from_secs(5),
            transaction_total_max: Duration::from_secs(30),
            transactions_max: 4,
            parameters_max: 10,
            batch_statements_max: 3,
            named_only: options.named_only,
        };
        let health = Health::new().await;
        health.set_ready(true).await;
        let service = sql::SqlService::new(stack, params, metrics.clone());
        let router = routes::sql(service, &health, MESSAGE_BYTES_MAX).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = serve_params(options.drain_max);
        let served =
            tokio::spawn(serve::serve(listener, router, Protocol::Grpc, serving, stop.clone()));
        Self {
            address,
            source,
            target,
            transactions,
            control,
            reconciler,
            samples,
            metrics,
            stop,
            served,
        }
    }

    pub async fn client(&self) -> SqlClient<Channel> {
        SqlClient::connect(format!("http://{}", self.address)).await.unwrap()
    }
}

fn peer(side: Side) -> Peer {
    Peer { side, address: "localhost".to_owned(), port: 5432, namespace: "app".to_owned() }
}

/// Few connections, and a short patience.
pub fn serve_params(drain_max: Duration) -> serve::Params {
    serve::Params {
        connections_max: 16,
        streams_max: 100,
        keepalive_interval: Duration::from_secs(10),
        keepalive_timeout: Duration::from_secs(10),
        drain_max,
    }
}

/// A value so that a stream never ends by itself.
pub fn endless() -> Reads {
    Arc::new(|_| {
        let batches = stream::iter([Ok(rows(1, 1))]).chain(stream::pending()).boxed();
        Ok(AnswerStream { columns: columns(), batches })
    })
}

/// One row with one cell of so many bytes.
pub fn large_cell(bytes: usize) -> Reads {
    Arc::new(move |_| {
        let mut builder = RowBatchBuilder::default();
        builder.push_cell(Some(&Bytes::from(vec![b'x'; bytes])));
        builder.end_row();
        let batches = stream::iter([Ok(builder.take())]).boxed();
        Ok(AnswerStream { columns: [column("name", "text", 25)].into(), batches })
    })
}
