//! Looks whether shared sessions make progress.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::set::Inner;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(4);
/// Looks after which a session that nobody has joined goes back to its pool.
const EMPTY_LOOKS_MAX: u32 = 10;
/// Looks at nothing after which it is no longer looked.
const IDLE_LOOKS_MAX: u32 = 250;

/// Looks until nothing has been shared for a while.
pub(super) fn start(inner: &Arc<Inner>) {
    let inner = Arc::downgrade(inner);
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = 0;
        while idle < IDLE_LOOKS_MAX {
            interval.tick().await;
            match look(&inner) {
                Some(true) => idle = 0,
                Some(false) => idle += 1,
                None => return,
            }
        }
        let Some(inner) = inner.upgrade() else { return };
        inner.watched.store(false, Ordering::Release);
        // Whoever came between the last look and this is seen to.
        let shared_again = !inner.lock().places.is_empty();
        if shared_again && !inner.watched.swap(true, Ordering::AcqRel) {
            start(&inner);
        }
    });
}

/// Whether there was anything to look at; nothing where nobody is left to look for.
fn look(inner: &Weak<Inner>) -> Option<bool> {
    let inner = inner.upgrade()?;
    let mut set = inner.lock();
    let mut revived = false;
    for place in &mut set.places {
        revived |= place.look();
    }
    if revived {
        inner.made_room(&set);
    }
    let unused: Vec<_> =
        set.places.extract_if(.., |place| place.empty_looks >= EMPTY_LOOKS_MAX).collect();
    let any = !set.places.is_empty();
    drop(set);
    for place in unused {
        place.give_back();
    }
    Some(any)
}
