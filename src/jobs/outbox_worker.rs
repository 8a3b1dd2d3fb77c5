//! Works the outbox off: woken by writes, and by a clock for what others wrote.
//!
//! The outbox holds the work, so nothing is queued here: a wake is one bit. While a side is
//! away, one worker at a time asks whether it is back, ever more rarely, and the others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::domain::fault::SqlFault;
use crate::ports::ReconcileWaker;
use crate::ports::reconcile::{BatchDone, OutboxWork};

/// What the replayer needs to know.
#[derive(Clone)]
pub struct Params {
    /// Batches at once.
    pub concurrency: usize,
    /// How often the outbox is looked at without being woken.
    pub poll: Duration,
    /// The first wait while a side is away.
    pub away_first: Duration,
    /// The longest.
    pub away_max: Duration,
    /// How long a batch that has begun is waited for when segue stops.
    pub stop_max: Duration,
    /// Chance, from 0 to 1.
    pub dice: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl std::fmt::Debug for Params {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Params").field("concurrency", &self.concurrency).finish_non_exhaustive()
    }
}

impl Params {
    /// The usual figures.
    pub fn new(dice: Arc<dyn Fn() -> f64 + Send + Sync>) -> Self {
        Self {
            concurrency: 2,
            poll: Duration::from_millis(500),
            away_first: Duration::from_millis(100),
            away_max: Duration::from_secs(10),
            stop_max: Duration::from_secs(10),
            dice,
        }
    }
}

/// What a replayer has done since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches that did something.
    pub batches: u64,
    /// Keys whose rows are equal.
    pub reconciled: u64,
    /// Attempts on keys that failed.
    pub failed: u64,
    /// Rows of the shadow that were written.
    pub changed: u64,
    /// Times that a side was found away.
    pub away: u64,
    /// Whether a side is away now.
    pub is_away: bool,
}

/// Told of every batch and every time a side was away, for metrics.
pub type Observer = dyn Fn(&Result<BatchDone, SqlFault>, Duration) + Send + Sync;

struct Shared {
    params: Params,
    work: Arc<dyn OutboxWork>,
    observer: Arc<Observer>,
    wake: Notify,
    probe: Mutex<u32>,
    away: watch::Sender<bool>,
    stop: CancellationToken,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    batches: AtomicU64,
    reconciled: AtomicU64,
    failed: AtomicU64,
    changed: AtomicU64,
    away: AtomicU64,
}

/// The running replayer. Clones wake the same one.
#[derive(Clone)]
pub struct Replayer(Arc<Shared>);

/// Its workers; [`Running::stop`] ends them.
#[derive(Debug)]
pub struct Running {
    workers: JoinSet<()>,
    stop: CancellationToken,
    stop_max: Duration,
}

impl std::fmt::Debug for Replayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayer").field("stats", &self.stats()).finish()
    }
}

impl Replayer {
    /// Starts the workers.
    pub fn start(
        params: Params,
        work: Arc<dyn OutboxWork>,
        observer: Arc<Observer>,
    ) -> (Self, Running) {
        let stop = CancellationToken::new();
        let stop_max = params.stop_max;
        let concurrency = params.concurrency.max(1);
        let shared = Arc::new(Shared {
            params,
            work,
            observer,
            wake: Notify::new(),
            probe: Mutex::new(0),
            away: watch::Sender::new(false),
            stop: stop.clone(),
            counts: Counts::default(),
        });
        let mut workers = JoinSet::new();
        for _ in 0..concurrency {
            workers.spawn(Arc::clone(&shared).run());
        }
        (Self(shared), Running { workers, stop, stop_max })
    }

    /// What it has done.
    pub fn stats(&self) -> Stats {
        let counts = &self.0.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            batches: read(&counts.batches),
            reconciled: read(&counts.reconciled),
            failed: read(&counts.failed),
            changed: read(&counts.changed),
            away: read(&counts.away),
            is_away: *self.0.away.borrow(),
        }
    }
}

impl ReconcileWaker for Replayer {
    fn wake(&self) {
        // Keeps one permit at most: many wakes are one.
        self.0.wake.notify_one();
    }
}

impl Running {
    /// Lets batches that have begun end, within the limit. What is not done by then is due
    /// as before.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(self.stop_max, ended).await.is_err() {
            self.workers.shutdown().await;
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.params.poll) => {}
            }
            self.drain().await;
        }
    }

    /// Batch after batch until nothing is due.
    async fn drain(&self) {
        while !self.stop.is_cancelled() {
            if *self.away.borrow() {
                self.wait_until_back().await;
                continue;
            }
            match self.batch().await {
                Ok(done) if done.more => self.wake.notify_one(),
                Ok(_) => return,
                Err(_) => {
                    self.away.send_replace(true);
                }
            }
        }
    }

    // Modelled as a member in tests/model, from `Action::Claim` to `Action::Forget`.
    async fn batch(&self) -> Result<BatchDone, SqlFault> {
        let begun = tokio::time::Instant::now();
        let done = self.work.work().await;
        let counts = &self.counts;
        let add = |count: &AtomicU64, more: u64| count.fetch_add(more, Ordering::Relaxed);
        match &done {
            Ok(done) => {
                add(&counts.batches, u64::from(done.rows > 0));
                add(&counts.reconciled, done.reconciled);
                add(&counts.failed, done.failed);
                add(&counts.changed, done.changed);
            }
            Err(fault) => {
                add(&counts.away, 1);
                tracing::warn!(%fault, "reconcile has to wait; the outbox keeps the work");
            }
        }
        (self.observer)(&done, begun.elapsed());
        done
    }

    /// One worker at a time sleeps and asks; the others come in when it says so.
    async fn wait_until_back(&self) {
        let Ok(mut failures) = self.probe.try_lock() else {
            let mut away = self.away.subscribe();
            tokio::select! {
                () = self.stop.cancelled() => {}
                _ = away.wait_for(|away| !away) => {}
            }
            return;
        };
        while *self.away.borrow() && !self.stop.is_cancelled() {
            *failures = failures.saturating_add(1);
            let full = self.params.away_first.saturating_mul(1 << (*failures - 1).min(16));
            let wait = full.min(self.params.away_max).mul_f64(0.5 + (self.params.dice)() / 2.0);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            if self.batch().await.is_ok() {
                *failures = 0;
                self.away.send_replace(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::future::BoxFuture;

    use super::*;
    use crate::domain::fault::FaultKind;
    use crate::domain::reason::Reason;

    /// So many batches of work, behind a door that may be shut.
    #[derive(Default)]
    struct Fake {
        batches: AtomicUsize,
        asked: AtomicUsize,
        at_once: AtomicUsize,
        most_at_once: AtomicUsize,
        shut: std::sync::atomic::AtomicBool,
    }

    impl OutboxWork for Fake {
        fn work(&self) -> BoxFuture<'_, Result<BatchDone, SqlFault>> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::SeqCst);
                let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
                self.most_at_once.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.at_once.fetch_sub(1, Ordering::SeqCst);
                if self.shut.load(Ordering::SeqCst) {
                    return Err(SqlFault::new(FaultKind::Unavailable, Reason::Internal, "shut"));
                }
                let left = self.batches.load(Ordering::SeqCst);
                if left == 0 {
                    return Ok(BatchDone::default());
                }
                self.batches.store(left - 1, Ordering::SeqCst);
                Ok(BatchDone {
                    rows: 1,
                    keys: 1,
                    reconciled: 1,
                    more: left > 1,
                    ..Default::default()
                })
            })
        }
    }

    fn start(fake: &Arc<Fake>, poll: Duration) -> (Replayer, Running) {
        let params = Params { poll, concurrency: 4, ..Params::new(Arc::new(|| 1.0)) };
        Replayer::start(params, Arc::clone(fake) as _, Arc::new(|_, _| {}))
    }

    #[tokio::test(start_paused = true)]
    async fn one_wake_drains_many_batches() {
        let fake = Arc::new(Fake::default());
        fake.batches.store(100, Ordering::SeqCst);
        let (replayer, running) = start(&fake, Duration::from_secs(3600));
        replayer.wake();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(replayer.stats().reconciled, 100);
        assert!(fake.most_at_once.load(Ordering::SeqCst) > 1, "others must be woken to help");
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_wrote_is_found_by_the_clock() {
        let fake = Arc::new(Fake::default());
        fake.batches.store(3, Ordering::SeqCst);
        let (replayer, running) = start(&fake, Duration::from_millis(500));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(replayer.stats().reconciled, 3);
        running.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_side_is_away_one_worker_asks_ever_more_rarely() {
        let fake = Arc::new(Fake::default());
        fake.shut.store(true, Ordering::SeqCst);
        fake.batches.store(5, Ordering::SeqCst);
        let (replayer, running) = start(&fake, Duration::from_millis(10));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let asked = fake.asked.load(Ordering::SeqCst);
        assert!(asked < 25, "asked {asked} times in a minute");
        fake.most_at_once.store(0, Ordering::SeqCst);
        for _ in 0..600 {
            replayer.wake();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(fake.most_at_once.load(Ordering::SeqCst) <= 1);
        assert!(fake.asked.load(Ordering::SeqCst) - asked < 10, "wakes must not make it spin");
        fake.shut.store(false, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(replayer.stats().reconciled, 5);
        assert!(!replayer.stats().is_away);
        running.stop().await;
    }
}
