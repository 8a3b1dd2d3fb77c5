//! Copies the history: so many workers take chunk after chunk until none is left.
//!
//! - [`run`]: the workers, and the beat that keeps their lease and looks how both sides are
//! - [`pace`]: ceilings and rests
//! - [`checkpoint`]: the state in a file, for one process alone

pub mod checkpoint;
pub mod pace;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::domain::backfill::{Chunk, ChunkId, Copied};
use crate::domain::fault::SqlFault;
use crate::domain::key::OutboxMark;
use crate::domain::pace::{Change, Look, ThrottleLimits};
use crate::ports::backfill::{Beat, ChunkCopier, ChunkStore, SourceWatch};
use crate::telemetry::retries::Retries;
use crate::telemetry::spans;
use pace::Pace;

/// Random numbers from 0 to 1, handed in.
pub type Dice = Arc<dyn Fn() -> f64 + Send + Sync>;

/// What a backfill needs to know.
#[derive(Clone)]
pub struct Params {
    /// Chunks at once.
    pub workers: u32,
    /// Between two looks, each of which renews the lease.
    pub beat: Duration,
    /// Between two looks for a chunk while others have the rest.
    pub poll: Duration,
    /// Rows a second at most, by all workers of the process.
    pub rows_per_s_max: Option<f64>,
    /// Bytes a second at most, likewise.
    pub bytes_per_s_max: Option<f64>,
    /// Where slowing down begins.
    pub limits: ThrottleLimits,
    /// Attempts on one chunk before the backfill ends with its reason.
    pub attempts_max: u32,
    /// The first wait after a failure, and the longest.
    pub backoff: (Duration, Duration),
    /// Chance, for the waits.
    pub dice: Dice,
}

impl Params {
    /// The usual figures.
    pub fn new(workers: u32, limits: ThrottleLimits, dice: Dice) -> Self {
        Self {
            workers,
            beat: Duration::from_secs(1),
            poll: Duration::from_millis(200),
            rows_per_s_max: None,
            bytes_per_s_max: None,
            limits,
            attempts_max: 10,
            backoff: (Duration::from_millis(100), Duration::from_secs(10)),
            dice,
        }
    }
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Params")
            .field("workers", &self.workers)
            .field("rows_per_s_max", &self.rows_per_s_max)
            .field("bytes_per_s_max", &self.bytes_per_s_max)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What happens on the way, for whoever shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A chunk is done.
    Done {
        /// Which.
        id: ChunkId,
        /// Its figures.
        copied: Copied,
        /// From its snapshot to its end.
        elapsed: Duration,
    },
    /// A chunk is tried again.
    Again {
        /// Which.
        id: ChunkId,
        /// Why.
        reason: String,
    },
    /// Somebody else has taken a chunk over.
    Lost {
        /// Which.
        id: ChunkId,
    },
    /// A side is away, and is waited for.
    Away(SqlFault),
    /// It goes slower or faster.
    Pace(Change),
}

/// Told of events, in any order and from any worker.
pub type Observer = dyn Fn(&Event) + Send + Sync;

/// Why a backfill ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackfillError {
    /// What was copied is not to be relied on.
    #[error("{0}")]
    Void(String),
    /// A chunk failed again and again.
    #[error(
        "chunk {id} failed {attempts} times, the last time so: {reason}; the rest stands, and the next start goes on from here"
    )]
    Chunk {
        /// Which.
        id: ChunkId,
        /// How often.
        attempts: u32,
        /// The last reason.
        reason: String,
    },
    /// The state of the copy could not be read or written.
    #[error("the state of the copy: {0}")]
    Store(SqlFault),
}

/// How a backfill ended, short of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is left.
    Complete,
    /// It was asked to stop; the next start goes on.
    Stopped,
}

/// What a backfill works with.
#[derive(Clone)]
pub struct Parts {
    /// Who has which chunk.
    pub store: Arc<dyn ChunkStore>,
    /// Copies them.
    pub copier: Arc<dyn ChunkCopier>,
    /// Looks at the source.
    pub watch: Arc<dyn SourceWatch>,
    /// Told of everything.
    pub observer: Arc<Observer>,
    /// Told of what is tried again and again.
    pub retries: Retries,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

/// What the workers share.
pub(super) struct Shared {
    pub(super) params: Params,
    pub(super) parts: Parts,
    pub(super) pace: Pace,
    /// Chunks under way, with the moment since which the outbox must be kept for each.
    under_way: Mutex<BTreeMap<ChunkId, OutboxMark>>,
    /// Ends the workers at the end of their chunks.
    pub(super) stop: CancellationToken,
    failed: Mutex<Option<BackfillError>>,
}

impl Shared {
    pub(super) fn tell(&self, event: &Event) {
        (self.parts.observer)(event);
    }

    pub(super) fn began(&self, chunk: &Chunk) {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.insert(chunk.id, chunk.begun_at);
    }

    pub(super) fn ended(&self, id: ChunkId) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn held_since(&self) -> Option<OutboxMark> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.values().min().copied()
    }

    /// The first failure is the one that is told; it ends all workers.
    pub(super) fn fail(&self, error: BackfillError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.stop.cancel();
    }
}

/// Copies until nothing is left, or `stop` is cancelled: then each worker ends its chunk.
///
/// If we crash here, what was noted as done stands, and chunks that were under way are begun
/// again by whoever finds their lease run out.
///
/// # Errors
///
/// [`BackfillError`]; all that was done stands.
pub async fn run(
    params: Params,
    parts: Parts,
    stop: CancellationToken,
) -> Result<Ending, BackfillError> {
    let shared = Arc::new(Shared {
        pace: Pace::new(&params),
        params,
        parts,
        under_way: Mutex::default(),
        stop: stop.child_token(),
        failed: Mutex::default(),
    });
    // The lease and the hold stand before the first chunk is begun.
    shared.parts.watch.look(None).await.map_err(BackfillError::Store)?;
    let first = shared.parts.store.renew(&Beat { share: 1.0, ..Beat::default() }).await;
    first.map_err(BackfillError::Store)?;
    let span = spans::backfill(shared.params.workers);
    let beating = CancellationToken::new();
    let beat = tokio::spawn(Arc::clone(&shared).keep_beating(beating.clone()));
    let mut workers = JoinSet::new();
    for _ in 0..shared.params.workers.max(1) {
        let worker = Arc::clone(&shared).work().instrument(span.clone());
        workers.spawn(worker);
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            shared.fail(BackfillError::Void(format!("a worker ended badly: {error}")));
        }
    }
    beating.cancel();
    // It ends by itself; whether it did well matters no more.
    let _ = beat.await;
    let (store, watch) = (&shared.parts.store, &shared.parts.watch);
    if let (Err(fault), _) | (_, Err(fault)) = (store.leave().await, watch.release().await) {
        tracing::debug!(%fault, "the lease could not be given back; it runs out");
    }
    if let Some(error) = shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    Ok(if stop.is_cancelled() { Ending::Stopped } else { Ending::Complete })
}

impl Shared {
    async fn keep_beating(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.params.beat);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.beat() => {}
            }
        }
    }

    /// Renews the lease and the hold, and looks how both sides are. A side that is away is no
    /// fault here: who works there notices.
    async fn beat(&self) {
        let source = self.parts.watch.look(self.held_since()).await;
        let beat = Beat { throttled: self.pace.cause().to_owned(), share: self.pace.share() };
        let begun = Instant::now();
        let renewed = self.parts.store.renew(&beat).await;
        let target_latency = renewed.is_ok().then(|| begun.elapsed());
        for fault in [source.as_ref().err(), renewed.as_ref().err()].into_iter().flatten() {
            tracing::debug!(%fault, "a look at a side failed");
        }
        let source = source.ok();
        let look = Look {
            source_latency: source.map(|look| look.latency),
            outbox_age: source.and_then(|look| look.outbox_age),
            target_latency,
        };
        if let Some(change) = self.pace.see(look) {
            self.tell(&Event::Pace(change));
        }
    }
}

pub(super) type Boxed<'a, T> = BoxFuture<'a, T>;

#[cfg(test)]
mod tests;
