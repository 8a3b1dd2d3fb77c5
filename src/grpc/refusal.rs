//! What the transport refuses before a call reaches the service, in the service's own terms.
//!
//! The transport looks at a message's length before it takes its bytes, so a request above the
//! limit costs no memory, however many callers send one. But it answers `OUT_OF_RANGE` and
//! nothing more, and nobody counts it; here such an answer gets the detail of every other
//! refusal.

use std::time::Instant;

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::domain::fault::{FaultKind, SqlFault};
use crate::domain::reason::Reason;
use crate::grpc::status;
use crate::telemetry::metrics::{Method, Metrics};

/// The service's path.
pub(super) const SERVICE: &str = "/segue.v1.Sql/";
const STATUS: &str = "grpc-status";
const DETAILS: &str = "grpc-status-details-bin";
const OK: &[u8] = b"0";

/// What explaining needs to know.
#[derive(Debug, Clone)]
pub(super) struct Params {
    /// Bytes of one request.
    pub(super) request_bytes_max: usize,
    /// Counts what was refused.
    pub(super) metrics: Metrics,
}

/// A call on its way to the service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called {
    method: Option<Method>,
    at: Instant,
}

// === impl Called ===

impl Called {
    /// A call of a method by its name in the protocol.
    pub(super) fn now(method: &str) -> Self {
        Self { method: self::method(method), at: Instant::now() }
    }
}

// === impl Params ===

impl Params {
    /// The response as it is, or the explanation of the transport's refusal.
    pub(super) fn explain(&self, called: Called, response: Response<Body>) -> Response<Body> {
        let headers = response.headers();
        // Whatever comes from the service has its detail, or fails after the headers.
        let refused = headers.get(STATUS).is_some_and(|code| code.as_bytes() != OK)
            && !headers.contains_key(DETAILS);
        let (Some(method), true) = (called.method, refused) else { return response };
        let Some(found) = Status::from_header_map(headers) else { return response };
        let Some(fault) = fault(&found, self.request_bytes_max) else { return response };
        let explained = status::from_fault(&fault, None);
        self.metrics.refused(fault.reason);
        self.metrics.call(method, status::name(explained.code()), called.at.elapsed());
        explained.into_http()
    }
}

/// The same for a message of a pipeline, which has no method yet.
pub(super) fn explained(found: Status, request_bytes_max: usize, metrics: &Metrics) -> Status {
    match fault(&found, request_bytes_max) {
        Some(fault) => {
            metrics.refused(fault.reason);
            status::from_fault(&fault, None)
        }
        None => found,
    }
}

/// The refusals that a caller can do something about.
fn fault(found: &Status, request_bytes_max: usize) -> Option<SqlFault> {
    let mut fault = match found.code() {
        Code::OutOfRange => {
            let message =
                format!("the request is larger than the {request_bytes_max} bytes allowed");
            SqlFault::new(FaultKind::LimitExceeded, Reason::LimitRequestBytes, message)
                .with_hint("send less at once, or raise limits.request_bytes_max")
        }
        Code::Internal => {
            let message = "the request is no message of the protocol";
            SqlFault::new(FaultKind::InvalidArgument, Reason::InvalidRequest, message)
                .with_hint("make the client's stubs from proto/segue/v1")
        }
        _ => return None,
    };
    found.message().clone_into(&mut fault.detail);
    Some(fault)
}

fn method(name: &str) -> Option<Method> {
    Method::ALL.into_iter().find(|method| method.as_str() == name)
}
