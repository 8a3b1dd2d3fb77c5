//! What each listener serves.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tonic::service::{Routes, RoutesBuilder};
use tower::{Service, ServiceExt};

use crate::grpc::auth::{self, Token};
use crate::grpc::health::Health;
use crate::grpc::migration::MigrationService;
use crate::grpc::proto;
use crate::grpc::proto::migration_server::MigrationServer;
use crate::grpc::proto::sql_server::SqlServer;
use crate::grpc::sql::SqlService;
use crate::grpc::{kept, refusal};
use crate::telemetry::metrics::{CONTENT_TYPE, Metrics, PLAIN_CONTENT_TYPE};

const METRICS_PATH: &str = "/metrics";

/// The descriptors that reflection serves could not be read: a fault of the build.
pub type ReflectionFault = tonic_reflection::server::Error;

/// The application's listener: calls of `Sql` go straight to their service, everything else
/// by way of a router.
#[derive(Clone)]
pub struct SqlRoutes {
    sql: SqlServer<SqlService>,
    refusals: refusal::Params,
    others: axum::Router,
}

impl std::fmt::Debug for SqlRoutes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SqlRoutes")
    }
}

impl Service<Request<Incoming>> for SqlRoutes {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if let Some(method) = request.uri().path().strip_prefix(refusal::SERVICE) {
            let called = refusal::Called::now(method);
            let (answer, refusals) = (self.sql.call(request), self.refusals.clone());
            return Box::pin(async move {
                Ok(kept::until_sent(refusals.explain(called, answer.await?)))
            });
        }
        let others = self.others.clone();
        Box::pin(async move {
            let response = others.oneshot(request).await?;
            Ok(response.map(tonic::body::Body::new))
        })
    }
}

/// The application's listener: `Sql`, health, reflection.
///
/// # Errors
///
/// [`ReflectionFault`].
pub fn sql(
    service: SqlService,
    health: &Health,
    message_bytes_max: usize,
) -> Result<SqlRoutes, ReflectionFault> {
    let metrics = service.metrics().clone();
    // Answers are bounded by the service, which knows what became of the write: the transport
    // would only say that it has one it does not send.
    let sql = SqlServer::new(service).max_decoding_message_size(message_bytes_max);
    let refusals = refusal::Params { request_bytes_max: message_bytes_max, metrics };
    let mut routes = Routes::builder();
    routes.add_service(health.server());
    reflection(&mut routes)?;
    let others = routes.routes().prepare().into_axum_router().with_state(());
    Ok(SqlRoutes { sql, refusals, others })
}

/// The operators' listener: `Migration`, health, reflection, and over plain HTTP `/metrics`,
/// `/livez`, `/readyz` and `/healthz`. All but health asks for the token, where one is set. Any
/// other path is not found, so that a mistyped probe does not pass.
///
/// # Errors
///
/// [`ReflectionFault`].
pub fn admin(
    service: MigrationService,
    health: &Health,
    metrics: Metrics,
    token: Option<Token>,
) -> Result<axum::Router, ReflectionFault> {
    let mut guarded = Routes::builder();
    guarded.add_service(MigrationServer::new(service));
    reflection(&mut guarded)?;
    let guarded =
        guarded.routes().into_axum_router().route(METRICS_PATH, get(scrape).with_state(metrics));
    let guarded = match token {
        Some(token) => guarded.layer(axum::middleware::from_fn_with_state(token, auth::check)),
        None => guarded,
    };
    let alive = || async { "ok\n" };
    let open = axum::Router::new()
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready).with_state(health.clone()))
        .route_service(
            "/grpc.health.v1.Health/{*rest}",
            health.server().map_request(|request: axum::http::Request<axum::body::Body>| {
                request.map(tonic::body::Body::new)
            }),
        );
    let known = axum::middleware::from_fn(only_what_is_here);
    Ok(open.fallback_service(guarded.layer(known)))
}

/// A call of gRPC is answered by gRPC, whatever its path, and the others by their paths.
async fn only_what_is_here(
    request: axum::extract::Request,
    next: Next,
) -> axum::response::Response {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc || request.uri().path() == METRICS_PATH {
        return next.run(request).await;
    }
    (StatusCode::NOT_FOUND, "not found; here are /metrics, /livez, /readyz, /healthz and gRPC\n")
        .into_response()
}

fn reflection(routes: &mut RoutesBuilder) -> Result<(), ReflectionFault> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Older clients, grpcurl among them, still ask for v1alpha.
    routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
    Ok(())
}

/// OpenMetrics, unless the older text format is asked for and the newer is not.
async fn scrape(State(metrics): State<Metrics>, headers: HeaderMap) -> impl IntoResponse {
    let accepted = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/plain") && !accepted.contains("openmetrics-text") {
        return ([(header::CONTENT_TYPE, PLAIN_CONTENT_TYPE)], metrics.render_plain());
    }
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render())
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
