//! Counts the client's spans: one for each call.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use opentelemetry::{Context, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, Span, SpanData, SpanProcessor};

type Counts = HashMap<(i64, String), usize>;

static COUNTS: Mutex<Option<Counts>> = Mutex::new(None);

fn counts() -> MutexGuard<'static, Option<Counts>> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts spans from here on.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let provider = SdkTracerProvider::builder().with_span_processor(Counter).build();
        opentelemetry::global::set_tracer_provider(provider);
    });
}

/// Calls of a method to the sidecar behind a port so far.
pub fn calls(port: u16, method: &str) -> usize {
    let counts = counts();
    let key = (i64::from(port), method.to_lowercase());
    counts.as_ref().and_then(|it| it.get(&key)).copied().unwrap_or_default()
}

#[derive(Debug)]
struct Counter;

impl SpanProcessor for Counter {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        let port = span.attributes.iter().find(|it| it.key.as_str() == "server.port");
        if let Some(Value::I64(port)) = port.map(|it| &it.value) {
            let key = (*port, span.name.to_lowercase());
            *counts().get_or_insert_default().entry(key).or_default() += 1;
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
