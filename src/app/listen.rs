//! The two listeners, served until they are told to stop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::grpc::auth::Token;
use crate::grpc::health::Health;
use crate::grpc::migration::MigrationService;
use crate::grpc::routes::{self, ReflectionFault};
use crate::grpc::serve::{self, Protocol};
use crate::grpc::sql::SqlService;
use crate::telemetry::metrics::Metrics;

/// Peers that do not answer for so long are gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections of operators: few, so that a forgotten watcher cannot take them all.
const ADMIN_CONNECTIONS_MAX: usize = 64;
const ADMIN_STREAMS_MAX: u32 = 64;

/// Where to listen, and how much to take.
#[derive(Debug, Clone)]
pub struct Params {
    /// For applications.
    pub sql: String,
    /// For operators.
    pub admin: String,
    /// What operators must show.
    pub admin_token: Option<Token>,
    /// Connections of applications.
    pub connections_max: usize,
    /// Calls at once on one of them.
    pub streams_max: u32,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// How long calls in progress may go on after the stop.
    pub drain_max: Duration,
}

/// What is served.
#[derive(Debug)]
pub struct Services {
    /// The application's calls.
    pub sql: SqlService,
    /// The operators' calls.
    pub migration: MigrationService,
    /// Whether segue is ready.
    pub health: Health,
    /// What `/metrics` shows.
    pub metrics: Metrics,
}

/// Both listeners, bound.
#[derive(Debug)]
pub struct Listeners {
    sql: TcpListener,
    admin: TcpListener,
    params: Params,
}

/// A listener that cannot be opened or served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {error}; see listen.{key}")]
    Bind {
        /// The address.
        address: String,
        /// Its key in the configuration.
        key: &'static str,
        /// Why.
        error: io::Error,
    },
    /// Reflection.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] ReflectionFault),
}

// === impl Listeners ===

impl Listeners {
    /// Opens both. From here on connections wait in the kernel's queue.
    ///
    /// # Errors
    ///
    /// [`ListenError`] names the address and its key.
    pub async fn bind(params: Params) -> Result<Self, ListenError> {
        let sql = bind(&params.sql, "sql").await?;
        let admin = bind(&params.admin, "admin").await?;
        Ok(Self { sql, admin, params })
    }

    /// Where applications find segue, port 0 resolved.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn sql_address(&self) -> io::Result<SocketAddr> {
        self.sql.local_addr()
    }

    /// Where operators do.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves both until `stop`. Readiness is withdrawn first, and calls in progress are let
    /// end before this returns; the operators' listener goes last, so that the end can be seen.
    ///
    /// # Errors
    ///
    /// [`ListenError::Reflection`].
    pub async fn serve(
        self,
        services: Services,
        stop: CancellationToken,
    ) -> Result<(), ListenError> {
        let Self { sql, admin, params } = self;
        let Services { sql: sql_service, migration, health, metrics } = services;
        let sql_router = routes::sql(sql_service, &health, params.message_bytes_max)?;
        let admin_router = routes::admin(migration, &health, metrics, params.admin_token.clone())?;
        let sql_serve = serve_params(&params, params.connections_max, params.streams_max);
        let admin_serve = serve_params(&params, ADMIN_CONNECTIONS_MAX, ADMIN_STREAMS_MAX);
        let admin_stop = CancellationToken::new();
        let operators = tokio::spawn(serve::serve(
            admin,
            admin_router,
            Protocol::GrpcAndHttp,
            admin_serve,
            admin_stop.clone(),
        ));
        health.set_ready(true).await;
        let unready = async {
            stop.cancelled().await;
            health.set_ready(false).await;
        };
        let applications = serve::serve(sql, sql_router, Protocol::Grpc, sql_serve, stop.clone());
        tokio::join!(applications, unready);
        admin_stop.cancel();
        if let Err(error) = operators.await {
            tracing::error!(%error, "the operators' listener broke down");
        }
        Ok(())
    }
}

async fn bind(address: &str, key: &'static str) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| ListenError::Bind { address: address.to_owned(), key, error })
}

fn serve_params(params: &Params, connections_max: usize, streams_max: u32) -> serve::Params {
    serve::Params {
        connections_max,
        streams_max,
        keepalive_interval: KEEPALIVE_INTERVAL,
        keepalive_timeout: KEEPALIVE_TIMEOUT,
        drain_max: params.drain_max,
    }
}
