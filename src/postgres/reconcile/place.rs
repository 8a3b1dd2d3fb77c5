//! Where in the outbox the next claim begins.
//!
//! Forgotten rows leave the index only when no snapshot can see them any more: beside a long
//! transaction, a claim from the very beginning passes by all that was done since. So claims
//! go on from where the last one began, and look at everything only now and then: what became
//! visible late, or was given back, waits for that.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The pause between two looks at everything, at least.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// Looks at everything may take this share of the time at most.
const SHARE: u32 = 10;

/// The place, shared by all workers of a member.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    from: Option<SystemTime>,
    everything_at: Option<Instant>,
}

impl Place {
    /// From when on rows are looked at; `None` for all of them.
    pub(super) fn from(&self) -> Option<SystemTime> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let later = state.everything_at.is_some_and(|at| Instant::now() < at);
        state.from.filter(|_| later)
    }

    /// A claim that looked `from` then on took this long, and found this to be the oldest.
    pub(super) fn looked(
        &self,
        from: Option<SystemTime>,
        oldest: Option<SystemTime>,
        took: Duration,
    ) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if from.is_none() {
            let pause = PAUSE_MIN.max(took.saturating_mul(SHARE));
            state.everything_at = Some(Instant::now() + pause);
        }
        state.from = oldest.or(state.from);
    }

    /// The next claim looks at everything.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_go_on_and_look_at_everything_now_and_then() {
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let place = Place::default();
        assert_eq!(place.from(), None);
        place.looked(None, Some(at(5)), Duration::ZERO);
        assert_eq!(place.from(), Some(at(5)));
        place.looked(Some(at(5)), Some(at(7)), Duration::ZERO);
        assert_eq!(place.from(), Some(at(7)));
        place.looked(Some(at(7)), None, Duration::ZERO);
        assert_eq!(place.from(), Some(at(7)));
        place.0.lock().unwrap().everything_at = Some(Instant::now());
        assert_eq!(place.from(), None, "what became visible late must be found");
        place.looked(None, Some(at(1)), Duration::from_secs(1));
        assert_eq!(place.from(), Some(at(1)));
        place.forget();
        assert_eq!(place.from(), None);
    }
}
