//! What each listener serves.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tonic::service::{Routes, RoutesBuilder};

use crate::grpc::auth::{self, Token};
use crate::grpc::health::Health;
use crate::grpc::migration::MigrationService;
use crate::grpc::proto;
use crate::grpc::proto::migration_server::MigrationServer;
use crate::grpc::proto::sql_server::SqlServer;
use crate::grpc::refusal;
use crate::grpc::sql::SqlService;
use crate::telemetry::metrics::{CONTENT_TYPE, Metrics};

/// The descriptors that reflection serves could not be read: a fault of the build.
pub type ReflectionFault = tonic_reflection::server::Error;

/// The application's listener: `Sql`, health, reflection.
///
/// # Errors
///
/// [`ReflectionFault`].
pub fn sql(
    service: SqlService,
    health: &Health,
    message_bytes_max: usize,
) -> Result<axum::Router, ReflectionFault> {
    let metrics = service.metrics().clone();
    // Answers are bounded by the service, which knows what became of the write: the transport
    // would only say that it has one it does not send.
    let server = SqlServer::new(service).max_decoding_message_size(message_bytes_max);
    let refusals = refusal::Params { request_bytes_max: message_bytes_max, metrics };
    let mut routes = Routes::builder();
    routes.add_service(server).add_service(health.server());
    reflection(&mut routes)?;
    let router = routes.routes().prepare().into_axum_router();
    Ok(router.layer(axum::middleware::from_fn_with_state(refusals, refusal::explain)))
}

/// The operators' listener: `Migration`, health, reflection, and over plain HTTP `/metrics`,
/// `/healthz` and `/readyz`. All but health asks for the token, where one is set.
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
        guarded.routes().into_axum_router().route("/metrics", get(scrape).with_state(metrics));
    let guarded = match token {
        Some(token) => guarded.layer(axum::middleware::from_fn_with_state(token, auth::check)),
        None => guarded,
    };
    let open = axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(health.clone()))
        .route_service(
            "/grpc.health.v1.Health/{*rest}",
            tower::ServiceExt::map_request(
                health.server(),
                |request: axum::http::Request<axum::body::Body>| {
                    request.map(tonic::body::Body::new)
                },
            ),
        );
    Ok(open.fallback_service(guarded))
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

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render())
}

async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
