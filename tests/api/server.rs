//! Both listeners over two real databases; what other rooms do is left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use segue::app::listen::{self, Listeners, Services};
use segue::domain::call::{BoundStatement, ResultLimits};
use segue::domain::control::{ControlState, Phase};
use segue::domain::fault::{FaultKind, SqlFault};
use segue::domain::foreign::ForeignWrites;
use segue::domain::gate::Findings;
use segue::domain::history::Recorded;
use segue::domain::key::WriteId;
use segue::domain::mismatch::{Mismatch, Resolution};
use segue::domain::operation::{Document, Followed, OperationId, OperationRequest};
use segue::domain::page::{Page, PageRequest};
use segue::domain::reason::Reason;
use segue::domain::side::{Side, Sides};
use segue::domain::status::{
    CallStatus, FleetStatus, OutboxEntry, OutboxStatus, SamplingStatus, StatusReport,
};
use segue::domain::step::{Asked, PhaseReport, Step, Stepped};
use segue::domain::table::TableName;
use segue::dsn::Dsn;
use segue::grpc::auth::Token;
use segue::grpc::health::Health;
use segue::grpc::migration::{self, MigrationService};
use segue::grpc::sql::{self, SqlService};
use segue::ports::admin::{ForeignAdmin, OutboxAdmin, PhaseAdmin, SamplingControl, StatusSource};
use segue::ports::operations::OperationAdmin;
use segue::ports::settled::{SettledWrites, Standing};
use segue::ports::{ControlView, MismatchStore, ReconcileWaker, Sample, ShadowReads};
use segue::postgres::pool::{self, Pool};
use segue::postgres::session::connect::Connector;
use segue::postgres::session::settings::Purpose;
use segue::postgres::statements::database::{self, PostgresDatabase};
use segue::postgres::statements::read::ReadConnections;
use segue::postgres::statements::transactions::{self, PostgresTransactions};
use segue::stack::queries::NamedStatements;
use segue::stack::watch::Watch;
use segue::stack::{self, Stack, admission, awaiting, breaker, shift};
use segue::telemetry::metrics::Metrics;
use segue::telemetry::spans::{Peer, Writers};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::database::{Database, Pair};

/// What operators must show.
pub const TOKEN: &str = "open sesame";

/// A running segue.
pub struct Server {
    pub sql: SocketAddr,
    pub admin: SocketAddr,
    pub pair: Pair,
    stop: CancellationToken,
    _served: tokio::task::JoinHandle<()>,
}

struct Fixed;

impl ControlView for Fixed {
    fn current(&self) -> ControlState {
        ControlState { epoch: 1, phase: Phase::SourceOnly }
    }
}

impl ReconcileWaker for Fixed {
    fn wake(&self) {}
}

impl ShadowReads for Fixed {
    fn selects(&self, _: &BoundStatement, _: Option<u128>) -> bool {
        false
    }
    fn answer_bytes_max(&self) -> u64 {
        0
    }
    fn offer(&self, _: Sample) {}
    fn skipped(&self, _: &BoundStatement, _: &'static str) {}
}

impl StatusSource for Fixed {
    fn status(&self) -> BoxFuture<'_, StatusReport> {
        let report = StatusReport {
            control: self.current(),
            phase_since: Some(SystemTime::UNIX_EPOCH),
            phase_reason: "a test".to_owned(),
            outbox: OutboxStatus::default(),
            backfill: segue::domain::backfill::BackfillProgress::default(),
            verify: segue::domain::status::VerifyStatus::default(),
            sampling: SamplingStatus::default(),
            verdicts: BTreeMap::new(),
            reads: CallStatus::default(),
            writes: CallStatus::default(),
            at: SystemTime::now(),
            warnings: Vec::new(),
            fleet: None,
        };
        async move { report }.boxed()
    }
}

impl MismatchStore for Fixed {
    fn add<'a>(&'a self, _: &'a [Mismatch]) -> BoxFuture<'a, Result<(), SqlFault>> {
        async { Ok(()) }.boxed()
    }
    fn list(&self, _: u32) -> BoxFuture<'_, Result<Vec<Mismatch>, SqlFault>> {
        async { Ok(Vec::new()) }.boxed()
    }
    fn findings(&self, _: Duration) -> BoxFuture<'_, Result<Findings, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
    fn resolve(&self, _: Resolution) -> BoxFuture<'_, Result<u64, SqlFault>> {
        async { Ok(0) }.boxed()
    }
}

fn absent() -> SqlFault {
    SqlFault::new(FaultKind::NotFound, Reason::ControlAbsent, "there is no fleet here")
}

impl OperationAdmin for Fixed {
    fn start(
        &self,
        _: OperationId,
        _: OperationRequest,
        _: Asked,
    ) -> BoxFuture<'_, Result<Document, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
    fn get(&self, _: OperationId) -> BoxFuture<'_, Result<Document, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
    fn list(&self, _: PageRequest) -> BoxFuture<'_, Result<Page<Document>, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
    fn watch(&self, _: OperationId, _: u64) -> BoxStream<'static, Result<Followed, SqlFault>> {
        futures_util::stream::empty().boxed()
    }
    fn cancel(&self, _: OperationId, _: Asked) -> BoxFuture<'_, Result<Document, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
}

impl PhaseAdmin for Fixed {
    fn report(&self) -> BoxFuture<'_, Result<PhaseReport, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
    fn status(&self) -> BoxFuture<'_, Result<FleetStatus, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
    fn step(&self, _: Step, _: Asked) -> BoxFuture<'_, Result<Stepped, SqlFault>> {
        async { Err(absent()) }.boxed()
    }
    fn history(&self, _: PageRequest) -> BoxFuture<'_, Result<Page<Recorded>, SqlFault>> {
        async { Ok(Page { items: Vec::new(), next: None }) }.boxed()
    }
}

impl OutboxAdmin for Fixed {
    fn status(&self) -> BoxFuture<'_, Result<OutboxStatus, SqlFault>> {
        async { Ok(OutboxStatus::default()) }.boxed()
    }
    fn list(&self, _: PageRequest, _: bool) -> BoxFuture<'_, Result<Page<OutboxEntry>, SqlFault>> {
        async { Ok(Page { items: Vec::new(), next: None }) }.boxed()
    }
    fn retry(&self, table: Option<TableName>) -> BoxFuture<'_, Result<u64, SqlFault>> {
        async move { Ok(u64::from(table.is_some())) }.boxed()
    }
}

impl ForeignAdmin for Fixed {
    fn writes(&self, _: bool) -> BoxFuture<'_, Result<ForeignWrites, SqlFault>> {
        async { Ok(ForeignWrites::default()) }.boxed()
    }
    fn none_left(&self, _: u64) -> BoxFuture<'_, Result<bool, SqlFault>> {
        async { Ok(true) }.boxed()
    }
    fn resolve(
        &self,
        _: Option<String>,
        _: String,
        _: String,
    ) -> BoxFuture<'_, Result<u64, SqlFault>> {
        async { Ok(0) }.boxed()
    }
}

impl SamplingControl for Fixed {
    fn status(&self) -> SamplingStatus {
        SamplingStatus::default()
    }
    fn set_rate(&self, _: f64) -> f64 {
        0.1
    }
}

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

impl SettledWrites for Fixed {
    fn standing(&self, _: WriteId, _: u64) -> BoxFuture<'_, Standing> {
        async { Standing::Waiting }.boxed()
    }
    fn until_settled(&self, _: WriteId, _: u64) -> BoxFuture<'_, bool> {
        async { false }.boxed()
    }
}

struct Side1 {
    database: Arc<PostgresDatabase>,
    transactions: Arc<PostgresTransactions>,
}

fn side(side: Side, database: &Database, tasks: &TaskTracker) -> Side1 {
    let dsn = Dsn::parse(database.dsn(), &|_: &str| None).unwrap();
    let connector = Connector::new(side, dsn).unwrap();
    let pool = |purpose| {
        Pool::new(connector.clone(), pool::Params::new(purpose, 8, Duration::from_secs(10)))
            .unwrap()
    };
    let writes = pool(Purpose::Write);
    let params = database::Params {
        reads: ReadConnections::new(pool(Purpose::Read)),
        writes: writes.clone(),
        tasks: tasks.clone(),
    };
    let transactions = transactions::Params { writes, open_max: 4, tasks: tasks.clone() };
    Side1 {
        database: Arc::new(PostgresDatabase::new(params)),
        transactions: Arc::new(PostgresTransactions::new(transactions)),
    }
}

impl Server {
    pub async fn start(source_sql: &str, target_sql: &str) -> Self {
        Self::start_with(source_sql, target_sql, Duration::from_secs(30)).await
    }

    /// With another deadline for calls that bring none.
    pub async fn start_with(
        source_sql: &str,
        target_sql: &str,
        deadline_default: Duration,
    ) -> Self {
        let pair = Pair::fresh(source_sql, target_sql).await;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let source = side(Side::Source, &pair.source, &tasks);
        let target = side(Side::Target, &pair.target, &tasks);
        for transactions in [&source.transactions, &target.transactions] {
            let (transactions, stop) = (transactions.clone(), stop.clone());
            tokio::spawn(async move { transactions.run(stop).await });
        }
        let metrics = Metrics::new();
        let peer = |side| Peer {
            side,
            address: "127.0.0.1".to_owned(),
            port: 5432,
            namespace: "app".to_owned(),
        };
        let parts = stack::Parts {
            databases: Sides { source: source.database as _, target: target.database as _ },
            transactions: Sides {
                source: source.transactions as _,
                target: target.transactions as _,
            },
            control: Arc::new(Fixed),
            reconciler: Arc::new(Fixed),
            settled: Arc::new(Fixed),
            dice: Arc::new(|| 0),
            samples: Arc::new(Fixed),
            write_ids: Arc::new(|| WriteId(uuid::Uuid::new_v4().as_u128())),
            named: NamedStatements::default(),
            metrics: metrics.clone(),
            watch: Watch::new(
                Sides { source: peer(Side::Source), target: peer(Side::Target) },
                Arc::new(Writers::new(10)),
                metrics.clone(),
            ),
        };
        let admission = admission::Params {
            named_only: false,
            statement_bytes_max: 100_000,
            parameters_max: 100,
            batch_statements_max: 10,
            cache_capacity: 100,
        };
        let stack = Stack::new(&stack_params(64, admission), parts);
        let message_bytes_max = 4 << 20;
        let params = sql::Params {
            result: ResultLimits { rows_max: 100_000, bytes_max: 64 << 20 },
            message_bytes_max,
            deadline_default,
            deadline_max: Duration::from_secs(60),
            transaction_idle_max: Duration::from_secs(10),
            transaction_total_max: Duration::from_secs(30),
            transactions_max: 4,
            parameters_max: 100,
            batch_statements_max: 10,
            named_only: false,
        };
        let fixed = Arc::new(Fixed);
        let services = Services {
            sql: SqlService::new(stack, params, metrics.clone()),
            migration: MigrationService::new(migration::Parts {
                status: fixed.clone(),
                mismatches: fixed.clone(),
                phases: fixed.clone(),
                operations: fixed.clone(),
                outbox: fixed.clone(),
                foreign: fixed.clone(),
                sampling: fixed,
                stop: stop.clone(),
            }),
            health: Health::new().await,
            metrics,
        };
        let listeners = Listeners::bind(listen::Params {
            sql: "127.0.0.1:0".to_owned(),
            admin: "127.0.0.1:0".to_owned(),
            admin_token: Some(Token::new(TOKEN)),
            connections_max: 64,
            streams_max: 100,
            message_bytes_max,
            drain_max: Duration::from_secs(5),
        });
        let listeners = listeners.await.unwrap();
        let (sql, admin) = (listeners.sql_address().unwrap(), listeners.admin_address().unwrap());
        let serving = listeners.serve(services, stop.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self { sql, admin, pair, stop, _served: served }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
