//! One shared session, and the calls on it in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::postgres::pool::Lease;
use crate::postgres::statements::rest::settle;

/// Looks without progress after which nobody joins any more, and those that wait behind the
/// statement are moved. More than one, so that a machine that stands still for a moment does
/// not send everything twice.
const MOVE_AFTER: u32 = 3;

/// A shared session and its calls.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: u64,
    /// Tickets let go of it before they leave.
    pub(super) lease: Arc<Lease>,
    /// Contiguous by number; those at the front that are done have been taken off.
    calls: VecDeque<Slot>,
    first: u64,
    live: usize,
    /// The call that has taken the session over.
    owner: Option<u64>,
    lost: bool,
    /// Answers so far, for telling whether there was any since the last look.
    progress: u64,
    seen: u64,
    /// Looks without any.
    idle_looks: u32,
    /// Looks at which nobody was there.
    pub(super) empty_looks: u32,
}

#[derive(Debug)]
struct Slot {
    state: State,
    waker: Option<Waker>,
    told_to_move: bool,
    slow: bool,
    manner: Manner,
}

/// How a call shares a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::postgres) enum Manner {
    /// Its request may be in one piece with others, and its answer wait for theirs.
    Merged,
    /// Its request ends with a `Sync` of its own.
    Apart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its caller waits.
    Waiting,
    /// Its caller has gone; what becomes of the statement is not known.
    Abandoned,
    Done,
}

// === impl Place ===

impl Place {
    pub(super) fn new(id: u64, lease: Lease) -> Self {
        // Only statements that leave nothing share a session.
        lease.set_touched(false);
        Self {
            id,
            lease: Arc::new(lease),
            calls: VecDeque::new(),
            first: 0,
            live: 0,
            owner: None,
            lost: false,
            progress: 0,
            seen: 0,
            idle_looks: 0,
            empty_looks: 0,
        }
    }

    /// Whether further calls may join.
    pub(super) fn is_usable(&self) -> bool {
        self.owner.is_none() && self.idle_looks < MOVE_AFTER && !self.lost
    }

    /// Whether it has made no progress lately: others are better.
    pub(super) fn stands(&self) -> bool {
        self.idle_looks > 0
    }

    /// Calls whose callers wait.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn add(&mut self, manner: Manner) -> u64 {
        self.live += 1;
        let (state, waker) = (State::Waiting, None);
        let slot = Slot { state, waker, told_to_move: false, slow: false, manner };
        self.calls.push_back(slot);
        self.first + self.calls.len() as u64 - 1
    }

    fn slot(&mut self, call: u64) -> Option<&mut Slot> {
        self.calls.get_mut(usize::try_from(call.checked_sub(self.first)?).ok()?)
    }

    /// Whether the call is to be made elsewhere; if not, its waker is kept.
    pub(super) fn is_told_to_move(&mut self, call: u64, waker: &Waker) -> bool {
        let Some(slot) = self.slot(call) else { return false };
        match &mut slot.waker {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        slot.told_to_move
    }

    /// Whether the call's answer may have to wait for that of a later call.
    pub(super) fn depends(&mut self, call: u64) -> bool {
        let last = self.first + self.calls.len() as u64 - 1;
        self.slot(call).is_some_and(|slot| slot.manner == Manner::Merged) && call < last
    }

    /// The call has the session to itself from now on.
    pub(super) fn take_over(&mut self, call: u64) {
        self.owner = Some(call);
        self.move_waiting(call);
    }

    /// The call was answered. Answers whether it kept others waiting.
    pub(super) fn finish(&mut self, call: u64) -> bool {
        self.progress += 1;
        self.idle_looks = 0;
        let Some(slot) = self.slot(call) else { return false };
        let slow = slot.slow;
        slot.state = State::Done;
        // A server answers in order: what stood before is done as well.
        let before = usize::try_from(call - self.first).unwrap_or_default();
        for slot in self.calls.iter_mut().take(before) {
            if slot.state == State::Abandoned {
                slot.state = State::Done;
            }
        }
        self.gone(call);
        slow
    }

    /// The caller has gone, or makes his call elsewhere.
    pub(super) fn abandon(&mut self, call: u64) {
        if let Some(slot) = self.slot(call) {
            slot.state = State::Abandoned;
            slot.waker = None;
        }
        self.gone(call);
    }

    fn gone(&mut self, call: u64) {
        self.live -= 1;
        if self.owner == Some(call) {
            self.owner = None;
        }
        while self.calls.front().is_some_and(|slot| slot.state == State::Done) {
            self.calls.pop_front();
            self.first += 1;
        }
    }

    /// Gives the session back, once nobody is left. What still runs in it is cancelled first.
    pub(super) fn give_back(self) {
        let Some(lease) = Arc::into_inner(self.lease) else { return };
        lease.set_shared(false);
        if self.lost {
            lease.discard();
        } else if self.calls.is_empty() {
            lease.set_busy(false);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(settle(lease));
        }
    }

    /// The session is of no use for anybody else.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.move_waiting(u64::MAX);
    }

    /// Looks whether there was progress since the last look. Answers whether it came back to
    /// life.
    pub(super) fn look(&mut self) -> bool {
        let stood = self.idle_looks >= MOVE_AFTER;
        self.empty_looks = if self.live == 0 { self.empty_looks + 1 } else { 0 };
        if self.progress != self.seen || self.live == 0 {
            self.seen = self.progress;
            self.idle_looks = 0;
            return stood;
        }
        self.idle_looks += 1;
        if self.idle_looks >= MOVE_AFTER {
            self.move_from_behind_head();
        }
        false
    }

    /// The one that the server is at keeps its place; whoever waits behind it is moved. Where
    /// requests may be in one piece nobody knows which one that is: all are moved.
    fn move_from_behind_head(&mut self) {
        let head = self.calls.iter().position(|slot| slot.state != State::Done);
        let behind = head.is_some_and(|index| index + 1 < self.calls.len());
        let Some(head) = head.and_then(|index| Some((index, self.calls.get_mut(index)?))) else {
            return;
        };
        let (index, slot) = head;
        if slot.manner == Manner::Merged && behind {
            return self.move_waiting(u64::MAX);
        }
        slot.slow = true;
        let call = match slot.state {
            State::Waiting => self.first + index as u64,
            State::Abandoned | State::Done => u64::MAX,
        };
        self.move_waiting(call);
    }

    fn move_waiting(&mut self, but: u64) {
        for (number, slot) in (self.first..).zip(&mut self.calls) {
            if slot.state == State::Waiting && number != but && !slot.told_to_move {
                slot.told_to_move = true;
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
            }
        }
    }
}
