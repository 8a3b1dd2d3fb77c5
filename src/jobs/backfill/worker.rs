//! One worker: claims a chunk, copies it until it is done or somebody else has it, rests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Instrument;

use crate::domain::backfill::{Chunk, Copied};
use crate::domain::fault::SqlFault;
use crate::jobs::backfill::{BackfillError, Event, Shared};
use crate::ports::backfill::{CopyHalt, Next};
use crate::telemetry::spans;

/// The longest wait for a side that is away.
const AWAY_MAX: Duration = Duration::from_secs(10);

/// The name under which attempts are noted.
const TASK: &str = "backfill";

/// What becomes of a worker after a chunk.
enum After {
    /// The next one.
    More,
    /// It was asked to stop, or something failed for good.
    End,
}

impl Shared {
    /// Chunk after chunk, until none is left.
    pub(super) async fn work(self: Arc<Self>) {
        let mut failures = 0;
        while !self.stop.is_cancelled() {
            match self.parts.store.claim().await {
                Ok(Next::Chunk(chunk)) => {
                    failures = 0;
                    self.began(&chunk);
                    let id = chunk.id;
                    self.parts.retries.went_well(TASK, "");
                    let place = id.to_string();
                    let after = self.finish(*chunk, &place).await;
                    self.parts.retries.went_well(TASK, &place);
                    self.ended(id);
                    if matches!(after, After::End) {
                        return;
                    }
                }
                Ok(Next::Wait) => {
                    failures = 0;
                    if !self.sleep(self.params.poll).await {
                        return;
                    }
                }
                Ok(Next::Done) => return,
                Err(fault) if may_come_back(&fault) => {
                    failures += 1;
                    if !self.wait_for("", fault, failures).await {
                        return;
                    }
                }
                Err(fault) => return self.fail(BackfillError::Store(fault)),
            }
        }
    }

    /// Attempts on one chunk until it is done, lost, or has failed too often. A side that is
    /// away is waited for, however long.
    async fn finish(&self, mut chunk: Chunk, place: &str) -> After {
        let (mut failures, mut away) = (0, 0);
        loop {
            let begun = Instant::now();
            let span = spans::chunk(chunk.id.table_id, chunk.id.number, chunk.attempt);
            let copied = self.parts.copier.copy(&chunk, &self.pace).instrument(span.clone()).await;
            spans::note_copied(&span, copied.as_ref().ok());
            match copied {
                Ok(copied) => match self.note(&chunk, copied, begun.elapsed()).await {
                    Ok(()) => {
                        // Stopping does not wait for a rest.
                        let rest = self.pace.rest(begun.elapsed());
                        return if self.sleep(rest).await { After::More } else { After::End };
                    }
                    Err(fault) => {
                        away += 1;
                        if !self.wait_for(place, fault, away).await {
                            return After::End;
                        }
                    }
                },
                Err(CopyHalt::Lost) => {
                    self.tell(&Event::Lost { id: chunk.id });
                    return After::More;
                }
                Err(CopyHalt::Void(reason)) => {
                    self.give_back(&chunk, &reason).await;
                    self.fail(BackfillError::Void(reason));
                    return After::End;
                }
                Err(CopyHalt::Away(fault)) => {
                    away += 1;
                    if !self.wait_for(place, *fault, away).await {
                        self.give_back(&chunk, "stopped while a side was away").await;
                        return After::End;
                    }
                }
                Err(CopyHalt::Again(reason)) => {
                    failures += 1;
                    self.tell(&Event::Again { id: chunk.id, reason: reason.clone() });
                    let attempts = self.params.attempts_max;
                    if failures >= attempts {
                        self.give_back(&chunk, &reason).await;
                        self.fail(BackfillError::Chunk { id: chunk.id, attempts, reason });
                        return After::End;
                    }
                    if !self.sleep(self.backoff(failures)).await {
                        self.give_back(&chunk, &reason).await;
                        return After::End;
                    }
                }
            }
            match self.again(&chunk).await {
                Some(next) => chunk = next,
                None => return After::More,
            }
        }
    }

    /// Notes the chunk as done.
    ///
    /// If we crash before this, it is begun again, which changes nothing that is right.
    async fn note(&self, chunk: &Chunk, copied: Copied, elapsed: Duration) -> Result<(), SqlFault> {
        let id = chunk.id;
        let event = if self.parts.store.finish(chunk, &copied).await? {
            Event::Done { id, copied, elapsed }
        } else {
            Event::Lost { id }
        };
        self.tell(&event);
        Ok(())
    }

    /// The chunk for another attempt; nothing where somebody else has it, or segue is to stop.
    async fn again(&self, chunk: &Chunk) -> Option<Chunk> {
        let mut away = 0;
        loop {
            match self.parts.store.again(chunk).await {
                Ok(Some(next)) => return Some(next),
                Ok(None) => {
                    self.tell(&Event::Lost { id: chunk.id });
                    return None;
                }
                Err(fault) => {
                    away += 1;
                    if !self.wait_for(&chunk.id.to_string(), fault, away).await {
                        return None;
                    }
                }
            }
        }
    }

    /// What cannot be given back runs out with the lease.
    async fn give_back(&self, chunk: &Chunk, reason: &str) {
        if let Err(fault) = self.parts.store.give_back(chunk, reason, Duration::ZERO).await {
            tracing::debug!(%fault, chunk = %chunk.id, "a chunk could not be given back");
        }
    }

    /// `place` is a chunk, or empty. False where it was asked to stop meanwhile.
    async fn wait_for(&self, place: &str, fault: SqlFault, failures: u32) -> bool {
        if failures == 1 {
            tracing::warn!(%fault, "the backfill has to wait; it goes on from here");
        }
        self.parts.retries.failed(TASK, place, &fault);
        self.tell(&Event::Away(fault));
        self.sleep(self.backoff(failures).min(AWAY_MAX)).await
    }

    fn backoff(&self, failures: u32) -> Duration {
        let (first, max) = self.params.backoff;
        let full = first.saturating_mul(1 << (failures.max(1) - 1).min(16)).min(max);
        full.mul_f64(0.5 + (self.params.dice)() / 2.0)
    }

    /// False where it was asked to stop meanwhile.
    async fn sleep(&self, wait: Duration) -> bool {
        if wait.is_zero() {
            return !self.stop.is_cancelled();
        }
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(wait) => true,
        }
    }
}

/// Whether the same call may go well later: nobody refused it.
fn may_come_back(fault: &SqlFault) -> bool {
    use crate::domain::fault::FaultKind;
    fault.retryable
        || matches!(
            fault.kind,
            FaultKind::Unavailable | FaultKind::ConnectionLost | FaultKind::DeadlineExceeded
        )
}
