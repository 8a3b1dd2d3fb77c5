//! The two listeners, served until they are told to stop.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, lookup_host};
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

/// Connections that may wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;

/// Both addresses, taken: nobody else can listen there, and connections are refused.
#[derive(Debug)]
pub struct Reserved {
    sql: TcpSocket,
    admin: TcpSocket,
    params: Params,
}

/// Both listeners, open.
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

// === impl Reserved ===

impl Reserved {
    /// Takes both addresses. Until they listen connections are refused rather than left to wait for
    /// an answer that may be long in coming: a client turns to another sidecar.
    ///
    /// # Errors
    ///
    /// [`ListenError`] names the address and its key.
    pub async fn take(params: Params) -> Result<Self, ListenError> {
        let sql = bind(&params.sql, "sql").await?;
        let admin = bind(&params.admin, "admin").await?;
        Ok(Self { sql, admin, params })
    }

    /// Opens both. From here on connections wait in the kernel's queue.
    ///
    /// # Errors
    ///
    /// [`ListenError`]: somebody else listens there by now.
    pub fn listen(self) -> Result<Listeners, ListenError> {
        let Self { sql, admin, params } = self;
        let (sql, admin) =
            (listen(sql, &params.sql, "sql")?, listen(admin, &params.admin, "admin")?);
        Ok(Listeners { sql, admin, params })
    }
}

// === impl Listeners ===

impl Listeners {
    /// Takes both addresses and opens them.
    ///
    /// # Errors
    ///
    /// [`ListenError`] names the address and its key.
    pub async fn bind(params: Params) -> Result<Self, ListenError> {
        Reserved::take(params).await?.listen()
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

async fn bind(address: &str, key: &'static str) -> Result<TcpSocket, ListenError> {
    let failed = |error| ListenError::Bind { address: address.to_owned(), key, error };
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "its name has no address");
    for found in lookup_host(address).await.map_err(failed)? {
        match bind_to(found) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn bind_to(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As a listener of the standard library: connections of the last run do not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(socket: TcpSocket, address: &str, key: &'static str) -> Result<TcpListener, ListenError> {
    let failed = |error| ListenError::Bind { address: address.to_owned(), key, error };
    socket.listen(BACKLOG).map_err(failed)
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
