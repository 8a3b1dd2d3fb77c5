//! A call's place on a shared session.

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::place::{Manner, Place};
use super::set::Inner;
use crate::domain::fault::SqlFault;
use crate::postgres::pool::Lease;
use crate::postgres::session::sync_batching::Apart;
use crate::postgres::session::{Session, fault};

/// A call's place on a shared session, which it derefs to. Dropped before [`Ticket::finish`],
/// it leaves its statement behind; that is cancelled once nobody else is there.
#[derive(Debug)]
pub(in crate::postgres) struct Ticket {
    // Dropped first: whoever leaves last gives the session back.
    lease: Arc<Lease>,
    seat: Seat,
    manner: Manner,
}

#[derive(Debug)]
struct Seat {
    set: Arc<Inner>,
    place: u64,
    call: u64,
    left: bool,
    /// Keeps others' requests off this one's.
    _apart: Option<Apart>,
}

// === impl Ticket ===

impl Ticket {
    pub(super) fn new(set: &Arc<Inner>, place: &mut Place, manner: Manner) -> Self {
        let (set, lease) = (Arc::clone(set), Arc::clone(&place.lease));
        let _apart = if manner == Manner::Apart { lease.apart() } else { None };
        let seat = Seat { set, place: place.id, call: place.add(manner), left: false, _apart };
        Self { lease, seat, manner }
    }

    /// How it shares the session.
    pub(in crate::postgres) fn manner(&self) -> Manner {
        self.manner
    }

    /// Ready where the call must be made elsewhere. Only before its caller has any of its answer.
    pub(in crate::postgres) fn poll_move(&self, cx: &mut Context<'_>) -> Poll<()> {
        let told = self.seat.with_place(|place, call| place.is_told_to_move(call, cx.waker()));
        if told { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the end of the answer may have to wait for somebody else's.
    pub(in crate::postgres) fn depends(&self) -> bool {
        self.seat.with_place(Place::depends)
    }

    /// The answer is long, and will be read at its caller's pace: all others are moved.
    pub(in crate::postgres) fn take_over(&self) {
        self.seat.with_place(Place::take_over);
    }

    /// The statement has ended. Answers whether it kept others waiting.
    pub(in crate::postgres) fn finish(self, fault: Option<&SqlFault>) -> bool {
        let lost = fault.is_some_and(fault::ends_session) || !self.lease.is_fit();
        let Self { lease, mut seat, manner: _ } = self;
        drop(lease);
        seat.leave(|place, call| {
            if lost {
                place.lose();
            }
            place.finish(call)
        })
    }
}

impl Deref for Ticket {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.lease
    }
}

// === impl Seat ===

impl Seat {
    fn with_place<T: Default>(&self, work: impl FnOnce(&mut Place, u64) -> T) -> T {
        let mut set = self.set.lock();
        let place = set.places.iter_mut().find(|place| place.id == self.place);
        place.map(|place| work(place, self.call)).unwrap_or_default()
    }

    fn leave<T: Default>(&mut self, work: impl FnOnce(&mut Place, u64) -> T) -> T {
        self.left = true;
        let mut set = self.set.lock();
        let Some(index) = set.places.iter().position(|place| place.id == self.place) else {
            return T::default();
        };
        let Some(place) = set.places.get_mut(index) else { return T::default() };
        let result = work(place, self.call);
        let emptied = (place.live() == 0).then(|| set.places.swap_remove(index));
        self.set.made_room(&set);
        // A session goes back to its pool outside the lock.
        drop(set);
        if let Some(place) = emptied {
            place.give_back();
        }
        result
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.left {
            self.leave(Place::abandon);
        }
    }
}
