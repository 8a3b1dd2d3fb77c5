//! Follows the control rows by polling, and at once where a side says that its row has changed;
//! each side on its own: one that hangs does not keep the other from being heard.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::control::{Control, Params, timed};
use crate::domain::side::{Side, Sides};
use crate::ports::ControlView;
use crate::ports::control::ControlStore;

/// Keeps a [`Control`] up to date.
pub struct Follower {
    control: Control,
    store: Arc<dyn ControlStore>,
    params: Params,
    changed: Sides<Notify>,
}

// === impl Follower ===

impl Follower {
    pub(super) fn new(control: Control, store: Arc<dyn ControlStore>, params: Params) -> Self {
        let changed = Sides { source: Notify::new(), target: Notify::new() };
        Self { control, store, params, changed }
    }

    /// Polls and listens until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        tokio::join!(
            self.follow(Side::Source, &stop),
            self.follow(Side::Target, &stop),
            stop.run_until_cancelled(self.listen(Side::Source)),
            stop.run_until_cancelled(self.listen(Side::Target)),
        );
    }

    /// Listens again and again. What is not heard is read in its turn.
    async fn listen(&self, side: Side) {
        loop {
            if let Err(fault) = self.store.listen(side, self.changed.of(side)).await {
                tracing::debug!(%side, %fault, "cannot listen for changes of the control row");
            }
            sleep(self.params.poll_interval).await;
        }
    }

    async fn follow(&self, side: Side, stop: &CancellationToken) {
        let mut ticks = interval(self.params.poll_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut readable = true;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.changed.of(side).notified() => {}
                () = stop.cancelled() => return,
            }
            tokio::select! {
                read = self.look(side, readable) => readable = read,
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reads once. A row that cannot be read leaves the last state in force: how long the
    /// member may act by it, its lease says.
    async fn look(&self, side: Side, was_readable: bool) -> bool {
        let asked = Instant::now();
        let read = timed(side, self.params.read_timeout, self.store.read(side)).await;
        self.control.retries().note("control_row", side.as_str(), &read);
        match read {
            Ok(Some(row)) => {
                self.control.offer(side, &row, asked);
                true
            }
            Ok(None) => true,
            Err(fault) => {
                if self.control.current().phase.primary() == side {
                    self.control.metrics.fault("control_unreadable");
                    if was_readable {
                        tracing::warn!(%fault, "the control row cannot be read; the last state stays");
                    }
                }
                false
            }
        }
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("params", &self.params).finish_non_exhaustive()
    }
}
