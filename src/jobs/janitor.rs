//! Keeps segue's own tables small, at intervals.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::domain::fault::SqlFault;
use crate::ports::reconcile::{OutboxSize, Upkeep};
use crate::telemetry::retries::Retries;

/// What the janitor needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Params {
    /// Between two looks at the ring.
    pub ring: Duration,
    /// Between two looks at the idempotency keys.
    pub idempotency: Duration,
    /// Between two looks at the outbox's size.
    pub size: Duration,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            ring: Duration::from_secs(60),
            idempotency: Duration::from_secs(300),
            size: Duration::from_secs(5),
        }
    }
}

/// Told what each look at the outbox's size found and did.
pub type Sized = dyn Fn(OutboxSize) + Send + Sync;

/// Runs until it is stopped. A fault is logged, and the next interval tries again.
pub async fn run(
    params: Params,
    upkeep: Arc<dyn Upkeep>,
    sized: Arc<Sized>,
    retries: Retries,
    stop: CancellationToken,
) {
    let noted = |task, done| noted(task, &done, &retries);
    let every = |period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    };
    let (mut ring, mut idempotency) = (every(params.ring), every(params.idempotency));
    let mut size = every(params.size);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ring.tick() => noted("truncate_ring", upkeep.truncate_ring().await),
            _ = idempotency.tick() => {
                noted("expire_idempotency", upkeep.expire_idempotency().await);
            }
            _ = size.tick() => match upkeep.check_size().await {
                Ok(found) => {
                    sized(found);
                    retries.went_well("check_size", "");
                }
                Err(fault) => noted("check_size", Err(fault)),
            },
        }
    }
}

/// Does one more thing at intervals, by itself, so that it holds nothing else up.
pub async fn repeat(
    task: &'static str,
    period: Duration,
    work: impl Fn() -> BoxFuture<'static, Result<u64, SqlFault>> + Send,
    retries: Retries,
    stop: CancellationToken,
) {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            done = work() => noted(task, &done, &retries),
        }
    }
}

fn noted(task: &'static str, done: &Result<u64, SqlFault>, retries: &Retries) {
    retries.note(task, "", done);
    match done {
        Ok(0) => {}
        Ok(count) => tracing::debug!(task, count, "tidied up"),
        Err(fault) => tracing::warn!(task, %fault, "could not tidy up; the next turn tries again"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::domain::fault::FaultKind;
    use crate::domain::reason::Reason;

    #[derive(Default)]
    struct Fake {
        rings: AtomicU64,
        sizes: AtomicU64,
    }

    impl Upkeep for Fake {
        fn truncate_ring(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
            self.rings.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Err(SqlFault::new(FaultKind::Unavailable, Reason::Internal, "away")) })
        }

        fn expire_idempotency(&self) -> BoxFuture<'_, Result<u64, SqlFault>> {
            Box::pin(async { Ok(1) })
        }

        fn check_size(&self) -> BoxFuture<'_, Result<OutboxSize, SqlFault>> {
            self.sizes.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(OutboxSize { folded: 7, ..OutboxSize::default() }) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn faults_do_not_end_it_and_sizes_are_told() {
        let fake = Arc::new(Fake::default());
        let told = Arc::new(AtomicU64::new(0));
        let teller = Arc::clone(&told);
        let stop = CancellationToken::new();
        let sized = Arc::new(move |found: OutboxSize| {
            teller.fetch_add(found.folded, Ordering::SeqCst);
        });
        let retries = Retries::default();
        let running =
            run(Params::default(), Arc::clone(&fake) as _, sized, retries.clone(), stop.clone());
        let task = tokio::spawn(running);
        tokio::time::sleep(Duration::from_secs(121)).await;
        stop.cancel();
        task.await.unwrap();
        assert_eq!(fake.rings.load(Ordering::SeqCst), 3);
        assert_eq!(told.load(Ordering::SeqCst), 7 * fake.sizes.load(Ordering::SeqCst));
        assert_eq!(retries.failing(), vec![]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_the_same_way_ten_times_says_so_until_it_goes_well() {
        let times = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&times);
        let work = move || -> BoxFuture<'static, Result<u64, SqlFault>> {
            let turn = counting.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                match turn {
                    0..12 => Err(SqlFault::new(FaultKind::Unavailable, Reason::Internal, "away")),
                    _ => Ok(0),
                }
            })
        };
        let (retries, stop) = (Retries::default(), CancellationToken::new());
        let every = Duration::from_secs(1);
        let task = tokio::spawn(repeat("looks", every, work, retries.clone(), stop.clone()));
        let until = async |turn| {
            while times.load(Ordering::SeqCst) < turn {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        until(9).await;
        assert_eq!(retries.failing(), vec![]);
        until(11).await;
        let [failing] = retries.failing().try_into().unwrap();
        assert_eq!((failing.tasks, failing.fault.as_str()), (vec!["looks".to_owned()], "away"));
        until(13).await;
        assert_eq!(retries.failing(), vec![]);
        stop.cancel();
        task.await.unwrap();
    }
}
