//! SIGTERM and Ctrl-C, for commands that end what they have begun.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or SIGINT, of which `told` hears; a second one ends the
/// process where it stands.
pub(super) fn stop_on_signals(
    stop: &CancellationToken,
    told: impl FnOnce(&'static str) + Send + 'static,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut asked = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        told(asked().await);
        stop.cancel();
        let name = asked().await;
        tracing::warn!(signal = name, "asked a second time; ending at once");
        std::process::exit(super::FAILED.into());
    });
    Ok(())
}
