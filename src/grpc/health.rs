//! Whether segue is ready, for probes of both kinds: `grpc.health.v1` and HTTP.

use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use crate::grpc::proto;

/// Services whose health is told apart from that of the whole.
const SERVICES: [&str; 3] = [
    "",
    <proto::sql_server::SqlServer<()> as tonic::server::NamedService>::NAME,
    <proto::migration_server::MigrationServer<()> as tonic::server::NamedService>::NAME,
];

/// Tells whether segue is ready. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    ready: watch::Sender<bool>,
}

// === impl Health ===

impl Health {
    /// Not ready yet.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new(), ready: watch::Sender::new(false) };
        health.set_ready(false).await;
        health
    }

    /// Says it to everybody who asks or watches.
    pub async fn set_ready(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
        self.ready.send_replace(ready);
    }

    /// Whether it is ready now.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub(super) fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
