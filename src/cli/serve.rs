//! `segue serve`.

use anyhow::{Context, Result};
use tokio_util::sync::CancellationToken;

use crate::app;
use crate::cli::signals;
use crate::config::{Config, Sources, Telemetry};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::setup::{Params, Tracing};

pub(super) async fn run(sources: &Sources) -> Result<()> {
    let config = Config::load(sources)?;
    let (tracing, dispatch) =
        Tracing::start(&telemetry(&config.telemetry), Box::new(std::io::stderr()))?;
    tracing::dispatcher::set_global_default(dispatch)
        .context("logs are taken already; segue was started twice in one process")?;
    let stop = CancellationToken::new();
    signals::stop_on_signals(&stop, |signal| {
        tracing::info!(signal, "draining: open calls are finished, new ones refused");
    })?;
    let result = app::run(&config, Metrics::new(), stop).await.map_err(anyhow::Error::from);
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "segue ends");
    }
    // After the app: its last spans are of the calls that it drained.
    tracing.shutdown().await;
    result
}

pub(super) fn telemetry(config: &Telemetry) -> Params {
    let headers = config.otlp_headers.iter();
    Params {
        endpoint: config.otlp_endpoint.clone(),
        http: config.otlp_http,
        headers: headers.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
        timeout: config.otlp_timeout,
        sample_ratio: config.sample_ratio,
        service_name: config.service_name.clone(),
        log_json: config.log_json,
        log_level: config.log_level.clone(),
    }
}
