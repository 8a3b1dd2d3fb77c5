//! The pace of all workers of a process: what passes is held up, and work is followed by rest.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use crate::domain::pace::{Cause, Change, Look, Throttle, TokenBucket};
use crate::jobs::backfill::{Boxed, Params};
use crate::ports::backfill::Meter;

/// Shared by the workers.
#[derive(Debug)]
pub struct Pace {
    begun: Instant,
    rows: Mutex<TokenBucket>,
    bytes: Mutex<TokenBucket>,
    throttle: Mutex<Throttle>,
}

impl Pace {
    /// At full speed, below the ceilings.
    pub fn new(params: &Params) -> Self {
        Self {
            begun: Instant::now(),
            rows: Mutex::new(TokenBucket::new(params.rows_per_s_max)),
            bytes: Mutex::new(TokenBucket::new(params.bytes_per_s_max)),
            throttle: Mutex::new(Throttle::new(params.limits)),
        }
    }

    /// The share of the time that is worked.
    pub fn share(&self) -> f64 {
        self.throttle().share()
    }

    /// What slows it down, for people; empty where nothing does.
    pub fn cause(&self) -> &'static str {
        self.throttle().cause().map_or("", Cause::as_str)
    }

    /// How long to rest after so long a piece of work.
    pub fn rest(&self, worked: Duration) -> Duration {
        self.throttle().rest(worked)
    }

    /// Takes a look into account.
    pub fn see(&self, look: Look) -> Option<Change> {
        self.throttle().see(look)
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Meter for Pace {
    fn pass(&self, rows: u64, bytes: u64) -> Boxed<'_, ()> {
        let now = self.begun.elapsed();
        let take = |bucket: &Mutex<TokenBucket>, amount: u64| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(amount as f64, now)
        };
        let wait = take(&self.rows, rows).max(take(&self.bytes, bytes));
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        .boxed()
    }
}
