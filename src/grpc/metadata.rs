//! What a call's metadata says: its deadline, and the trace it belongs to.

use std::time::Duration;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{KeyRef, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header of gRPC that holds the call's deadline, relative to its arrival.
const TIMEOUT_HEADER: &str = "grpc-timeout";
/// The protocol allows so many digits.
const TIMEOUT_DIGITS_MAX: usize = 8;
/// W3C Trace Context.
const TRACE_HEADER: &str = "traceparent";

/// How long the caller waits; nothing where it does not say, or says it in no known form.
pub(super) fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS_MAX {
        return None;
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Whether the caller names a trace.
pub(super) fn names_trace(caller: &impl Extractor) -> bool {
    caller.get(TRACE_HEADER).is_some()
}

/// Makes the span a child of the caller's, and answers the trace's id.
pub(super) fn join_trace(span: &Span, caller: &impl Extractor) -> Option<u128> {
    let context = caller.get(TRACE_HEADER).map(|_| TraceContextPropagator::new().extract(caller));
    if let Some(context) = context
        && let remote = context.span().span_context().clone()
        && remote.is_valid()
    {
        // Without an OpenTelemetry layer there is nothing to join, and nothing is lost.
        let _ = span.set_parent(context);
        return Some(u128::from_be_bytes(remote.trace_id().to_bytes()));
    }
    if span.is_none() {
        return None;
    }
    let own = span.context().span().span_context().clone();
    own.is_valid().then(|| u128::from_be_bytes(own.trace_id().to_bytes()))
}

/// The caller's trace as a call's metadata says it.
pub(super) struct Headers<'a>(pub(super) &'a MetadataMap);

/// The same as a field of a message.
pub(super) struct TraceParent<'a>(pub(super) &'a str);

impl Extractor for TraceParent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACE_HEADER && !self.0.is_empty()).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACE_HEADER]
    }
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let keys = self.0.keys().filter_map(|key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        });
        keys.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &'static str, value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert(key, value.parse().unwrap());
        metadata
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999u", Some(Duration::from_micros(99_999_999))),
            ("5n", Some(Duration::from_nanos(5))),
            ("999999999S", None),
            ("-1S", None),
            ("+1S", None),
            ("S", None),
            ("", None),
            ("5x", None),
        ] {
            assert_eq!(timeout(&with(TIMEOUT_HEADER, text)), expected, "{text}");
        }
        assert_eq!(timeout(&MetadataMap::new()), None);
    }

    #[test]
    fn the_trace_id_is_the_callers() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let metadata = with("traceparent", &format!("00-{id}-b7ad6b7169203331-01"));
        let found = join_trace(&Span::none(), &Headers(&metadata));
        assert_eq!(found, u128::from_str_radix(id, 16).ok());
        let parent = format!("00-{id}-b7ad6b7169203331-01");
        assert_eq!(join_trace(&Span::none(), &TraceParent(&parent)), found);
        assert_eq!(join_trace(&Span::none(), &TraceParent("")), None);
        assert_eq!(join_trace(&Span::none(), &Headers(&MetadataMap::new())), None);
    }
}
