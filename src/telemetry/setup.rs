//! Puts traces and logs in place, and takes them down.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Dispatch;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};

use crate::telemetry::logs::LogLayer;
use crate::telemetry::{names, spans};

/// What is told, and where.
#[derive(Clone)]
pub struct Params {
    /// Where traces go; nowhere where absent.
    pub endpoint: Option<String>,
    /// By protobuf over HTTP, rather than gRPC.
    pub http: bool,
    /// Sent along with each export.
    pub headers: Vec<(String, String)>,
    /// Time of one export, and of the last one.
    pub timeout: Duration,
    /// Share of the traces begun here that is recorded, 0 to 1.
    pub sample_ratio: f64,
    /// The service's name in traces.
    pub service_name: String,
    /// JSON rather than text.
    pub log_json: bool,
    /// Directives of the log filter: `info,segue::jobs=debug`.
    pub log_level: String,
}

/// Traces or logs could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The filter's directives.
    #[error("telemetry.log_level cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The exporter.
    #[error("traces cannot be exported: {0}; see telemetry.otlp_endpoint")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// A header.
    #[error("telemetry.otlp_headers: {0:?} is not a header; write name = \"value\"")]
    Header(String),
}

/// Traces and logs in place. Must be shut down, so that the last spans are sent.
#[derive(Debug)]
pub struct Tracing {
    provider: SdkTracerProvider,
    timeout: Duration,
}

// Events of these come from the sending of traces itself, call for call.
const QUIET: &str = "h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,reqwest=warn";

// === impl Params ===

impl std::fmt::Debug for Params {
    /// Headers hold tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Params")
            .field("endpoint", &self.endpoint)
            .field("http", &self.http)
            .field("sample_ratio", &self.sample_ratio)
            .finish_non_exhaustive()
    }
}

// === impl Tracing ===

impl Tracing {
    /// Makes a subscriber that logs to `out` and sends spans. It is the caller's to make it the
    /// default. Must be called inside a tokio runtime, which carries the sending by gRPC.
    ///
    /// # Errors
    ///
    /// [`SetupError`] where the parameters do not fit.
    pub fn start(
        params: &Params,
        out: Box<dyn Write + Send>,
    ) -> Result<(Self, Dispatch), SetupError> {
        let provider = provider(params)?;
        // Spans of segue's own, and nothing else: neither those of the sender itself, nor log
        // lines, whose text may quote values.
        let exports = params.endpoint.is_some();
        let made = move |name: &str| exports || spans::made_for_logs(name);
        let ours = filter_fn(move |metadata| {
            metadata.is_span()
                && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
                && made(metadata.name())
        });
        let traces = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("segue"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(ours);
        // Given directives come last and so go before the quiet ones.
        let filter = EnvFilter::builder().parse(format!("{QUIET},{}", params.log_level))?;
        let logs = LogLayer::new(params.log_json, out).with_filter(
            filter.and(filter_fn(move |metadata| !metadata.is_span() || made(metadata.name()))),
        );
        let subscriber = tracing_subscriber::registry().with(traces).with(logs);
        Ok((Self { provider, timeout: params.timeout }, Dispatch::new(subscriber)))
    }

    /// Sends what is left, for no longer than the parameters allow. What cannot be sent by
    /// then is lost: a collector that is away must not hold up the end.
    pub async fn shutdown(self) {
        let Self { provider, timeout } = self;
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(timeout));
        match tokio::time::timeout(timeout, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans could not be sent"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans could not be sent in time"),
        }
    }
}

fn provider(params: &Params) -> Result<SdkTracerProvider, SetupError> {
    let attributes = [
        KeyValue::new(names::SERVICE_NAME, params.service_name.clone()),
        KeyValue::new(names::SERVICE_VERSION, crate::telemetry::VERSION),
    ];
    let resource = Resource::builder_empty().with_attributes(attributes).build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &params.endpoint else {
        // Spans still have ids, so that log lines can be found under the caller's trace; none is
        // recorded.
        return Ok(builder.with_sampler(Sampler::AlwaysOff).build());
    };
    let exporter = if params.http {
        let headers: HashMap<String, String> = params.headers.iter().cloned().collect();
        SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(params.timeout)
            .with_headers(headers)
            .build()?
    } else {
        SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(params.timeout)
            .with_metadata(metadata(&params.headers)?)
            .build()?
    };
    let begun_here = Sampler::TraceIdRatioBased(params.sample_ratio);
    let sampler = Sampler::ParentBased(Box::new(begun_here));
    Ok(builder.with_sampler(sampler).with_batch_exporter(exporter).build())
}

fn metadata(
    headers: &[(String, String)],
) -> Result<opentelemetry_otlp::tonic_types::metadata::MetadataMap, SetupError> {
    let mut map = http::HeaderMap::new();
    for (name, value) in headers {
        let fault = || SetupError::Header(name.clone());
        let key = http::HeaderName::try_from(name.as_str()).map_err(|_| fault())?;
        map.insert(key, value.parse().map_err(|_| fault())?);
    }
    Ok(opentelemetry_otlp::tonic_types::metadata::MetadataMap::from_headers(map))
}
