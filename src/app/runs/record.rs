//! Keeps a running operation in the databases, beside what runs it: nothing of an operation waits
//! for this, and nothing of it fails by this.
//!
//! *If we crash here*, the latest events are lost, and whoever asks is told that the sidecar is
//! gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::app::runs::live::Live;
use crate::control::Control;
use crate::domain::fault::SqlFault;
use crate::domain::operation::{Cancellation, StoredOperation};
use crate::domain::side::{Side, Sides};
use crate::ports::ControlView;
use crate::ports::operations::OperationStore;

/// Between two looks at what is new, and at whether it is to be cancelled.
const INTERVAL: Duration = Duration::from_millis(250);
/// For one side, so that one that is away does not keep the other from it.
const LIMIT: Duration = Duration::from_secs(2);
/// An end that cannot be kept for so long is given up; whoever asks is told that the sidecar is gone.
const END_LIMIT: Duration = Duration::from_secs(600);
/// Ended operations that are kept.
const KEPT: u32 = 200;

pub(super) struct Recorder {
    pub(super) live: Arc<Live>,
    pub(super) store: Arc<dyn OperationStore>,
    pub(super) control: Control,
    /// Where it was begun: the first primary of it.
    pub(super) begun_on: Side,
}

/// What a side has.
#[derive(Default)]
struct Written {
    operation: Option<StoredOperation>,
    last_event: u64,
}

// === impl Recorder ===

impl Recorder {
    /// Until it has ended and the primary has that.
    pub(super) async fn run(self) {
        let mut written = Sides { source: Written::default(), target: Written::default() };
        let mut ended_since = None;
        loop {
            let (now, _) = self.live.stored_after(u64::MAX);
            let primary = self.control.current().phase.primary();
            let Sides { source, target } = &mut written;
            let (source, target) =
                tokio::join!(self.keep(Side::Source, source), self.keep(Side::Target, target));
            let kept = if primary == Side::Source { source } else { target };
            if !now.is_running {
                let since = *ended_since.get_or_insert_with(Instant::now);
                if kept || since.elapsed() > END_LIMIT {
                    break;
                }
            }
            sleep(INTERVAL).await;
        }
        let primary = self.control.current().phase.primary();
        let removed = timeout(LIMIT, self.store.remove_old(primary, KEPT)).await;
        if let Ok(Err(fault)) = removed {
            tracing::debug!(%fault, "old operations are left to the next one");
        }
    }

    /// Answers whether the side has all that there was when this was called.
    async fn keep(&self, side: Side, written: &mut Written) -> bool {
        if side != self.begun_on && side != self.control.current().phase.primary() {
            return false;
        }
        match timeout(LIMIT, self.keep_on(side, written)).await {
            Ok(Ok(cancellation)) => {
                cancellation.into_iter().for_each(|it| {
                    self.live.halt.ask(it);
                });
                true
            }
            Ok(Err(fault)) => {
                tracing::debug!(%fault, %side, "an operation cannot be recorded yet");
                false
            }
            Err(_) => false,
        }
    }

    async fn keep_on(
        &self,
        side: Side,
        written: &mut Written,
    ) -> Result<Option<Cancellation>, SqlFault> {
        let (now, events) = self.live.stored_after(written.last_event);
        if written.operation.as_ref() == Some(&now) {
            let found = self.store.read(side, now.id).await?;
            return Ok(found.and_then(|it| it.cancellation));
        }
        let cancellation = self.store.save(side, &now, &events).await?;
        written.last_event = now.last_event;
        written.operation = Some(now);
        Ok(cancellation)
    }
}
