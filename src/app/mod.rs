<<<<<<< HEAD
//! Puts the parts together, starts them, and stops them in order.

pub mod databases;
mod params;
pub mod setup;
mod status;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::control::Control;
use crate::domain::fault::SqlFault;
use crate::domain::key::WriteId;
use crate::domain::side::{Side, Sides};
use crate::grpc::auth::Token;
use crate::grpc::health::Health;
use crate::grpc::migration::{self, MigrationService};
use crate::grpc::routes;
use crate::grpc::serve::{Protocol, serve};
use crate::grpc::sql::SqlService;
use crate::jobs::shadow_reads::{self, ShadowReader};
use crate::ports::{Database, Transactions};
use crate::postgres::control::ControlTable;
use crate::postgres::mismatch::MismatchTable;
use crate::postgres::pending::PendingTables;
use crate::postgres::transactions::{self, PostgresTransactions};
use crate::stack::queries::NamedStatements;
use crate::stack::{self, Stack};
use crate::telemetry::metrics::Metrics;

use databases::Databases;
use status::StatusOfAll;

/// The sidecar could not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A database, or the state of the migration in it.
    #[error("{0}{}", hint(.0))]
    Database(#[from] SqlFault),
    /// Segue's own tables.
    #[error(transparent)]
    Setup(#[from] crate::postgres::schema::SetupError),
    /// A file that the configuration names.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Query files.
    #[error("the query files have faults:\n{0}")]
    Queries(String),
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The address.
        address: String,
        /// The key of the configuration.
        key: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The descriptors for reflection: a fault of the build.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] routes::ReflectionFault),
}

fn hint(fault: &SqlFault) -> String {
    if fault.hint.is_empty() { String::new() } else { format!("; {}", fault.hint) }
}

/// What runs beside the callers, and is stopped after them.
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
    let named = named_statements(config)?;
    let token = admin_token(config)?;
    let sql_listener = listen(&config.listen.sql, "listen.sql").await?;
    let admin_listener = listen(&config.listen.admin, "listen.admin").await?;

    let databases = Databases::open(config)?;
    databases.watch(&metrics);
    setup::at_start(config, &databases).await?;
    let control_store = Arc::new(ControlTable::new(databases.own()));
    let (control, follower) =
        Control::start(params::control(config), control_store, metrics.clone()).await?;

    let background =
        Background { tasks: TaskTracker::new(), stop: CancellationToken::new() };
    background.tasks.spawn(follower.run(background.stop.clone()));

    // Writes and long answers outlive the futures of their callers, and are waited for.
    let calls = TaskTracker::new();
    let transactions = open_transactions(config, &databases, &calls, &background, &metrics);
    let primary = control.row().state.phase.primary();
    let samples = start_shadow_reads(config, &databases, &background, &metrics, primary);
    let outbox = setup::start_reconciling(config, &databases, &control, &background.tasks, &background.stop, &metrics).await?;

    let stack = Stack::new(
        &params::stack(config),
        stack::Parts {
            databases: databases.executing(&calls),
            transactions,
            control: Arc::new(control.clone()),
            reconciler: outbox.waker.clone(),
            samples: Arc::new(samples.clone()),
            write_ids: Arc::new(|| WriteId(uuid::Uuid::new_v4().as_u128())),
            named,
            metrics: metrics.clone(),
        },
    );
    let health = Health::new().await;
    let sql_params = params::sql(config);
    let sql = routes::sql(
        SqlService::new(stack, sql_params, metrics.clone()),
        &health,
        sql_params.message_bytes_max,
    )?;
    let own = databases.own();
    let migration = MigrationService::new(migration::Parts {
        status: Arc::new(StatusOfAll::new(control, metrics.clone(), outbox.admin.clone(), samples.clone())),
        mismatches: Arc::new(MismatchTable::new(own.of(Side::Source).clone())),
        outbox: outbox.admin,
        sampling: Arc::new(samples),
        stop: stop.clone(),
    });
    let admin = routes::admin(migration, &health, metrics, token)?;

    let serving = params::serving(config);
    let sql_server = serve(sql_listener, sql, Protocol::Grpc, serving, stop.clone());
    // The operators' listener goes on while calls drain, so that the end can be watched.
    let admin_server =
        serve(admin_listener, admin, Protocol::GrpcAndHttp, serving, background.stop.clone());
    let admin_server = tokio::spawn(admin_server);
    health.set_ready(true).await;
    tracing::info!(sql = %config.listen.sql, admin = %config.listen.admin, "serving");
    tokio::join!(sql_server, async {
        stop.cancelled().await;
        health.set_ready(false).await;
        tracing::info!("draining");
    });
    finish(config, calls, background).await;
    let _ = admin_server.await;
    tracing::info!("ended");
    Ok(())
}

/// Waits for what callers began, then stops what runs beside them.
async fn finish(config: &Config, calls: TaskTracker, background: Background) {
    calls.close();
    let limit = config.listen.drain_timeout;
    if tokio::time::timeout(limit, calls.wait()).await.is_err() {
        tracing::warn!(tasks = calls.len(), "statements are still running; their servers will end them");
    }
    background.stop.cancel();
    background.tasks.close();
    if tokio::time::timeout(limit, background.tasks.wait()).await.is_err() {
        tracing::warn!("background work did not end in time; the outbox keeps what is not done");
    }
}

fn open_transactions(
    config: &Config,
    databases: &Databases,
    calls: &TaskTracker,
    background: &Background,
    metrics: &Metrics,
) -> Sides<Arc<dyn Transactions>> {
    let of = |side| {
        let transactions = PostgresTransactions::new(transactions::Params {
            writes: databases.writes(side).clone(),
            open_max: config.transactions.open_max,
            tasks: calls.clone(),
        });
        let reaping = transactions.clone();
        let stop = background.stop.clone();
        background.tasks.spawn(async move { reaping.run(stop).await });
        transactions
    };
    let (source, target) = (of(Side::Source), of(Side::Target));
    let (at_source, at_target) = (source.clone(), target.clone());
    metrics.watch_transactions(move || (at_source.open_count() + at_target.open_count()) as u64);
    Sides { source: Arc::new(source), target: Arc::new(target) }
}

fn start_shadow_reads(
    config: &Config,
    databases: &Databases,
    background: &Background,
    metrics: &Metrics,
    primary: Side,
) -> ShadowReader {
    let samplers = databases.sampling(&background.tasks);
    let own = databases.own();
    let sides = shadow_reads::Sides {
        primary: Arc::clone(samplers.of(primary)) as Arc<dyn Database>,
        shadow: Arc::clone(samplers.of(primary.other())) as Arc<dyn Database>,
        pending: Arc::new(PendingTables::new(own.of(primary).clone())),
    };
    let reader = ShadowReader::new(
        params::shadow_reads(config),
        sides,
        Arc::new(crate::statement::Cache::new(config.limits.statement_cache)),
        metrics.clone(),
        Box::new(rand::random),
        background.stop.clone(),
    );
    // The list stays in one place through the whole migration.
    let store = Arc::new(MismatchTable::new(own.of(Side::Source).clone()));
    background.tasks.spawn(reader.clone().flush(store));
    reader
}

fn named_statements(config: &Config) -> Result<NamedStatements, AppError> {
    let mut files = Vec::new();
    for path in &config.queries.paths {
        for file in query_files(path)? {
            let text = std::fs::read_to_string(&file)
                .map_err(|source| AppError::File { path: file.display().to_string(), source })?;
            files.push((file.display().to_string(), text));
        }
    }
    let named = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    NamedStatements::parse(named).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(|fault| format!("  {fault}")).collect();
        AppError::Queries(lines.join("\n"))
    })
}

/// A file itself, or the `.sql` files of a directory in the order of their names.
fn query_files(path: &std::path::Path) -> Result<Vec<std::path::PathBuf>, AppError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |source| AppError::File { path: path.display().to_string(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "sql") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn admin_token(config: &Config) -> Result<Option<Token>, AppError> {
    let Some(path) = &config.listen.admin_token_file else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| AppError::File { path: path.display().to_string(), source })?;
    Ok(Some(Token::new(text.trim())))
}

async fn listen(address: &str, key: &'static str) -> Result<TcpListener, AppError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| AppError::Listen { address: address.to_owned(), key, source })
}
=======
//! Puts the parts together.

pub mod listen;
pub mod queries;
pub mod status;
>>>>>>> main
