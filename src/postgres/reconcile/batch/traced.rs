//! The span of a reconcile.

use tracing::{Instrument, Span};

use crate::postgres::reconcile::{Report, Stopped};
use crate::telemetry::{names, spans};

/// Runs a reconcile in its span, and notes what came of it.
pub(super) async fn traced(work: impl Future<Output = Report>, span: Span) -> Report {
    let report = work.instrument(span.clone()).await;
    span.record(names::ROWS_WRITTEN, report.changed);
    if let Some(Stopped::Away(fault)) = &report.stopped {
        spans::note_fault(&span, fault);
    } else if !report.failed.is_empty() {
        span.record(names::KEYS_FAILED, report.failed.len());
        span.record("otel.status_code", "ERROR");
    }
    report
}
