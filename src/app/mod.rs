//! Puts the parts together, starts them, and stops them in order.

pub mod cutover;
pub mod databases;
mod directed;
mod drift_watch;
mod fences;
mod fleet;
mod generations;
mod halt;
mod leader;
mod left_behind;
pub mod listen;
pub mod operations;
mod params;
pub mod queries;
mod relations;
mod runs;
mod start;
mod workers;

use std::sync::Arc;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::control::member::Membership;
use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::key::WriteId;
use crate::domain::reason::Reason;
use crate::domain::side::{Side, Sides};
use crate::domain::sqlstate::{self, class};
use crate::grpc::health::Health;
use crate::grpc::migration::{self, MigrationService};
use crate::grpc::sql::SqlService;
use crate::jobs::janitor;
use crate::jobs::shadow_reads::{self, ShadowReader};
use crate::ports::admin::PhaseAdmin;
use crate::ports::{ControlView, PendingKeys, Transactions};
use crate::postgres::control::mismatches::MismatchTable;
use crate::postgres::control::operations::OperationTable;
use crate::postgres::foreign_writes::NotedKeys;
use crate::postgres::outbox::Outbox;
use crate::postgres::pool::Pool;
use crate::postgres::schema::SetupError;
use crate::postgres::statements::transactions::{self, PostgresTransactions};
use crate::stack::watch::Watch;
use crate::stack::{self, Stack};
use crate::statement;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans::Writers;

use cutover::read_only::ReadOnly;
use databases::Databases;
use directed::Directed;
use fleet::Fleet;
use listen::{ListenError, Reserved, Services};
use operations::status::{StatusGatherer, Uncaptured};
use queries::QueriesError;
use runs::Operations;

/// Writes whose calls are remembered, so that their reconciles can be linked to them.
const WRITERS_REMEMBERED: usize = 10_000;

/// The sidecar could not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A database, or the state of the migration in it.
    #[error("{0}{hint}", hint = way_out(.0))]
    Database(SqlFault),
    /// Segue's own tables.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Segue's own tables are of another version, and may not be changed at start.
    #[error(
        "segue's tables on the {side} are of version {found}, and this segue needs {needed}; \
         run `segue init`, or set control.migrate_at_start"
    )]
    NotSetUp {
        /// Which database.
        side: Side,
        /// The version found, 0 for none.
        found: i32,
        /// The version needed.
        needed: i32,
    },
    /// The phase relies on capture, and it does not stand.
    #[error(
        "writes would be lost on the shadow, since not all tables are captured: {tables}; mend \
         them, or name them in tables.exclude; a sidecar that runs can discard the copy: \
         `segue phase back --give-up-copy`"
    )]
    NotCaptured {
        /// Which, and why.
        tables: String,
    },
    /// The file of the operators' token.
    #[error("{path} (listen.admin_token_file) cannot be read: {error}")]
    Token {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Query files.
    #[error(transparent)]
    Queries(#[from] QueriesError),
    /// The listeners.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

// Derived, the fault would be its own cause and print twice.
impl From<SqlFault> for AppError {
    fn from(fault: SqlFault) -> Self {
        Self::Database(fault)
    }
}

// === impl AppError ===

impl AppError {
    /// Whether somebody said no who would say it again, rather than something being away.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Database(fault) => {
                let privilege = fault.sqlstate == sqlstate::INSUFFICIENT_PRIVILEGE
                    || fault.sqlstate.starts_with(class::INVALID_AUTHORIZATION);
                privilege || fault.kind == FaultKind::Refused
            }
            Self::Setup(error) => !matches!(
                error,
                SetupError::Database { .. } | SetupError::Locked { .. } | SetupError::InUse { .. }
            ),
            Self::NotSetUp { .. } | Self::NotCaptured { .. } => true,
            Self::Token { .. } | Self::Queries(_) | Self::Listen(_) => false,
        }
    }
}

fn way_out(fault: &SqlFault) -> String {
    if fault.hint.is_empty() { String::new() } else { format!("; {}", fault.hint) }
}

/// What runs beside the callers, and is stopped after them.
#[derive(Default)]
struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Runs the sidecar until `stop` is cancelled: then it takes no new calls, lets those in
/// progress end within the configured limit, rolls back what is still open, and ends.
///
/// # Errors
///
/// [`AppError`] where it cannot start.
pub async fn run(
    config: &Config,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), AppError> {
    let named = queries::load(&config.queries.paths)?;
    let reserved = Reserved::take(params::listen(config)?).await?;
    let databases = Databases::open(config)?;
    databases.watch(&metrics);
    start::at_start(config, &databases).await?;
    let background = Background::default();
    let fleet = fleet::join(config, &databases, &background, &metrics).await?;
    let control = fleet.control.clone();
    // Writes and long answers outlive the futures of their callers, and are waited for.
    let calls = TaskTracker::new();
    let open = open_transactions(config, &databases, &calls, &background, &metrics);
    let transactions: Sides<Arc<dyn Transactions>> =
        Sides { source: Arc::new(open.source.clone()), target: Arc::new(open.target.clone()) };
    fences::follow(&databases, &fleet, &background);
    let wrong = generations::watch(config, &databases, &fleet, &metrics, &background);
    left_behind::watch(config, &databases, &metrics, &background);
    let phase = control.current().phase;
    let known = relations::follow(config, &databases, (&background, &metrics), phase).await;
    fleet.membership.tell(Arc::new(known.clone()));
    let samples = start_shadow_reads(config, &databases, &background, &metrics, &fleet);
    let uncaptured = Uncaptured::default();
    watch_capture(config, &databases, &background, &metrics, &uncaptured);
    let writers = Arc::new(Writers::new(WRITERS_REMEMBERED));
    let reconciling = workers::start(config, &databases, &fleet, (&metrics, &writers), &background);

    drift_watch::start(config, &databases, &fleet, &metrics, &background);
    leader::start(config, &fleet, &reconciling.backfill, &metrics, &background);
    let steps = fleet.lead(config, &databases, &background, &reconciling.admin);
    let read_only = ReadOnly::new(config, &databases);
    read_only.watch(&fleet, &metrics, &background);
    let cutovers = cutover::start(
        config,
        &databases,
        &fleet,
        (open, read_only),
        (steps.clone(), Arc::clone(&reconciling.admin), reconciling.replayer.clone()),
        (&background.tasks, &background.stop, &metrics),
    );
    let operations = Operations::new(runs::Parts {
        config: Arc::new(config.clone()),
        control: control.clone(),
        member: fleet.membership.id(),
        store: Arc::new(OperationTable::new(databases.own())),
        cutovers,
        tasks: background.tasks.clone(),
        stop: background.stop.clone(),
    });
    let phases: Arc<dyn PhaseAdmin> = Arc::new(steps);
    let foreign = Arc::new(fleet.foreign(&databases));
    let parts = stack::Parts {
        databases: databases.executing(&calls),
        transactions,
        control: Arc::new(fleet.membership.clone()),
        reconciler: Arc::new(reconciling.replayer),
        settled: Arc::new(reconciling.settling),
        dice: Arc::new(rand::random),
        samples: Arc::new(samples.clone()),
        write_ids: Arc::new(|| WriteId(uuid::Uuid::new_v4().as_u128())),
        named,
        watch: Watch::new(params::peers(config), writers, metrics.clone()),
        metrics: metrics.clone(),
    };
    let owners = relations::owners(config, &databases, &calls, &background, known);
    let stack = Stack::routed(&params::stack(config), parts, owners);
    let services = Services {
        sql: SqlService::new(stack, params::sql(config), metrics.clone()).stopped_by(stop.clone()),
        migration: MigrationService::new(migration::Parts {
            status: Arc::new(StatusGatherer {
                control,
                outbox: Arc::clone(&reconciling.admin),
                backfill: reconciling.backfill,
                proofs: reconciling.proofs,
                sampling: Arc::new(samples.clone()),
                metrics: metrics.clone(),
                phases: Arc::clone(&phases),
                uncaptured,
                wrong,
            }),
            mismatches: Arc::new(MismatchTable::new(databases.own().source)),
            phases,
            operations: Arc::new(operations),
            outbox: reconciling.admin,
            foreign,
            sampling: Arc::new(samples),
            stop: stop.clone(),
        }),
        health: Health::new().await,
        metrics,
    };
    tracing::info!(sql = %config.listen.sql, admin = %config.listen.admin, "serving");
    reserved.listen()?.serve(services, stop).await?;
    finish(config, calls, background, reconciling.running, &fleet.membership).await;
    tracing::info!("ended");
    Ok(())
}

/// Waits for what callers began, then stops what runs beside them.
async fn finish(
    config: &Config,
    calls: TaskTracker,
    background: Background,
    reconciling: crate::jobs::outbox_worker::Running,
    membership: &Membership,
) {
    let limit = config.listen.drain_timeout;
    calls.close();
    let drained = tokio::time::timeout(limit, calls.wait()).await.is_ok();
    if !drained {
        let tasks = calls.len();
        tracing::warn!(tasks, "statements are still running; their servers will end them");
    }
    background.stop.cancel();
    // What may still be written keeps the fleet waiting for the end of the lease.
    if drained {
        membership.leave().await;
    }
    background.tasks.close();
    let ended = async { tokio::join!(background.tasks.wait(), reconciling.stop()) };
    if tokio::time::timeout(limit, ended).await.is_err() {
        tracing::warn!("background work did not end in time; the outbox keeps what is not done");
    }
}

/// Looks at intervals whether capture still stands: tables, partitions and triggers come and go.
fn watch_capture(
    config: &Config,
    databases: &Databases,
    background: &Background,
    metrics: &Metrics,
    uncaptured: &Uncaptured,
) {
    let (config, databases) = (Arc::new(config.clone()), databases.clone());
    let (metrics, uncaptured) = (metrics.clone(), uncaptured.clone());
    let period = config.outbox.capture_check_interval;
    let (retries, stop) = (metrics.retries().clone(), background.stop.clone());
    let check = move || {
        let (config, databases) = (Arc::clone(&config), databases.clone());
        let (metrics, uncaptured) = (metrics.clone(), uncaptured.clone());
        async move {
            let check = match operations::setup::check_capture(&config, &databases).await {
                Ok(check) => check,
                Err(AppError::Database(fault)) => return Err(fault),
                Err(error) => {
                    let kind = crate::domain::fault::FaultKind::Internal;
                    return Err(SqlFault::new(kind, Reason::CaptureCheck, error.to_string()));
                }
            };
            for table in check.uncaptured.iter().chain(&check.strays) {
                metrics.fault("uncaptured");
                tracing::error!(table, "writes to a table are not captured, and it will diverge");
            }
            // A shadow that is away is no error.
            let unnoted = operations::target_capture::check_notes(&config, &databases)
                .await
                .unwrap_or_else(|error| {
                    tracing::debug!(%error, "capture on the target could not be looked at");
                    0
                });
            if check.drifted + unnoted > 0 {
                metrics.fault("capture_drift");
            }
            uncaptured.set([check.uncaptured, check.strays].concat());
            Ok(check.drifted)
        }
        .boxed()
    };
    background.tasks.spawn(janitor::repeat("check_capture", period, check, retries, stop));
}

fn open_transactions(
    config: &Config,
    databases: &Databases,
    calls: &TaskTracker,
    background: &Background,
    metrics: &Metrics,
) -> Sides<PostgresTransactions> {
    let of = |side| {
        let transactions = PostgresTransactions::new(transactions::Params {
            writes: databases.writes(side).clone(),
            open_max: config.transactions.open_max,
            tasks: calls.clone(),
        });
        let (reaping, stop) = (transactions.clone(), background.stop.clone());
        background.tasks.spawn(async move { reaping.run(stop).await });
        transactions
    };
    let (source, target) = (of(Side::Source), of(Side::Target));
    let (at_source, at_target) = (source.clone(), target.clone());
    metrics.watch_transactions(move || (at_source.open_count() + at_target.open_count()) as u64);
    Sides { source, target }
}

fn start_shadow_reads(
    config: &Config,
    databases: &Databases,
    background: &Background,
    metrics: &Metrics,
    fleet: &Fleet,
) -> ShadowReader {
    let control = &fleet.control;
    let samplers = databases.sampling(&background.tasks);
    let own = databases.own();
    let outbox = |pool: &Pool| Arc::new(Outbox::new(pool.clone())) as Arc<dyn PendingKeys>;
    let noted = NotedKeys::new(outbox(&own.source), fleet.foreign(databases));
    let outboxes = Sides { source: Arc::new(noted) as _, target: outbox(&own.target) };
    let sides = shadow_reads::Sides {
        primary: Arc::new(Directed::primary(control, samplers.clone())),
        shadow: Arc::new(Directed::shadow(control, samplers)),
        pending: Arc::new(Directed::primary(control, outboxes)),
    };
    let reader = ShadowReader::new(
        params::shadow_reads(config, &databases.memory()),
        sides,
        Arc::new(statement::Cache::new(config.limits.statement_cache)),
        metrics.clone(),
        Box::new(rand::random),
        background.stop.clone(),
    );
    let asked = reader.clone();
    metrics.watch_queue("samples", move || asked.in_progress());
    // The list stays in one place through the whole migration.
    let store = Arc::new(MismatchTable::new(own.source));
    background.tasks.spawn(reader.clone().flush(store));
    reader
}
