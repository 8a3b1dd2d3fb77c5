//! Stops waiting for what fails again and again, and tries it now and then.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When to stop, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Failures in a row.
    pub failures_max: u32,
    /// Time until it is tried again, by one.
    pub pause: Duration,
}

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    params: Params,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
    /// One tries it now that a pause is over.
    trying: bool,
}

/// Whether what failed may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    /// It may.
    Go,
    /// A pause is over and another one tries it: what is left out now says nothing of it.
    Awaited,
    /// It has failed just now.
    Stop,
}

// === impl Breaker ===

impl Breaker {
    pub(super) fn new(params: Params) -> Self {
        Self { params, state: Mutex::default() }
    }

    /// Whether it may be tried now. After each pause one may.
    pub(super) fn permit(&self) -> Permit {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failures < self.params.failures_max {
            return Permit::Go;
        }
        let now = Instant::now();
        if state.open_until.is_none_or(|until| until <= now) {
            state.open_until = Some(now + self.params.pause);
            state.trying = true;
            return Permit::Go;
        }
        if state.trying { Permit::Awaited } else { Permit::Stop }
    }

    pub(super) fn succeeded(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    pub(super) fn failed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        state.trying = false;
        if state.failures >= self.params.failures_max {
            state.open_until = Some(Instant::now() + self.params.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_so_many_failures_one_at_a_time_may_try() {
        let pause = Duration::from_secs(1);
        let breaker = Breaker::new(Params { failures_max: 3, pause });
        for _ in 0..2 {
            breaker.failed();
        }
        assert_eq!(breaker.permit(), Permit::Go);
        breaker.succeeded();
        for _ in 0..3 {
            assert_eq!(breaker.permit(), Permit::Go);
            breaker.failed();
        }
        assert_eq!(breaker.permit(), Permit::Stop);
        tokio::time::advance(pause).await;
        assert_eq!([breaker.permit(), breaker.permit()], [Permit::Go, Permit::Awaited]);
        breaker.failed();
        tokio::time::advance(pause / 2).await;
        assert_eq!(breaker.permit(), Permit::Stop);
        breaker.succeeded();
        assert_eq!([breaker.permit(), breaker.permit()], [Permit::Go; 2]);
    }
}
